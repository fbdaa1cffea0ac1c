/* A slow or failing disk, for files whose name ends in .mcap. Preloaded; glibc and musl, Linux.
 *
 * disk(write_us, sync_us, room, write_error, sync_error, open_error): how long write() and fdatasync() take, how
 * many bytes find room before write() fails (-1: all), and with which errno the calls fail (0: they do not).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static volatile long write_us, sync_us, room = -1;
static volatile int write_error, sync_error, open_error;

void disk(long a_write_us, long a_sync_us, long a_room, int a_write_error, int a_sync_error, int an_open_error)
{
    write_us = a_write_us;
    sync_us = a_sync_us;
    room = a_room;
    write_error = a_write_error;
    sync_error = a_sync_error;
    open_error = an_open_error;
}

static int is_recording(const char *path, size_t size)
{
    return size >= 5 && !memcmp(path + size - 5, ".mcap", 5);
}

static int records(int fd)
{
    char link[64], path[4096];
    ssize_t size;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path);
    errno = before;
    return size > 0 && is_recording(path, (size_t)size);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write)
    if (!records(fd))
        return real(fd, data, size);
    if (write_us)
        usleep((useconds_t)write_us);
    if (room >= 0) {
        if (room == 0) {
            errno = write_error;
            return -1;
        }
        if ((long)size > room)
            size = (size_t)room; /* a disk that is nearly full takes a part */
        room -= (long)size;
    }
    return real(fd, data, size);
}

int fdatasync(int fd)
{
    REAL(fdatasync)
    if (!records(fd))
        return real(fd);
    if (sync_us)
        usleep((useconds_t)sync_us);
    if (sync_error) {
        errno = sync_error;
        return -1;
    }
    return real(fd);
}

static int refused(const char *path)
{
    if (!open_error || !is_recording(path, strlen(path)))
        return 0;
    errno = open_error;
    return 1;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    int mode;
    REAL(open)
    va_start(rest, flags);
    mode = va_arg(rest, int);
    va_end(rest);
    return refused(path) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    int mode;
    static int (*real)(const char *, int, ...);
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    va_start(rest, flags);
    mode = va_arg(rest, int);
    va_end(rest);
    return refused(path) ? -1 : real(path, flags, mode);
}
