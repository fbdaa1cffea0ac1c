/* System calls of TCP sockets that fail when they are told to. Preloaded; glibc and musl, Linux.
 *
 * fail_call(which, nth, error): from now on the nth call of this name fails with this errno; 0 lets all pass.
 * Returns how many calls of that name there were since the last time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SOCKET, BIND, LISTEN, ACCEPT, CONNECT, SETSOCKOPT, GETSOCKOPT, GETSOCKNAME, GETPEERNAME, SEND, RECV, SHUTDOWN, EPOLL };

static int which = -1, nth, error, count;

int fail_call(int a_which, int a_nth, int an_error)
{
    int before = count;
    which = a_which;
    nth = a_nth;
    error = an_error;
    count = 0;
    return before;
}

static int is_tcp(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    return syscall(SYS_getsockname, fd, &address, &size) == 0 && address.ss_family == AF_INET;
}

static int fails(int call, int fd)
{
    if (call != which || (fd >= 0 && !is_tcp(fd)) || ++count != nth)
        return 0;
    errno = error;
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);

int socket(int family, int type, int protocol)
{
    REAL(socket)
    return family == AF_INET && fails(SOCKET, -1) ? -1 : real(family, type, protocol);
}
int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(bind)
    return fails(BIND, fd) ? -1 : real(fd, address, size);
}
int listen(int fd, int backlog)
{
    REAL(listen)
    return fails(LISTEN, fd) ? -1 : real(fd, backlog);
}
int accept(int fd, struct sockaddr *address, socklen_t *size)
{
    REAL(accept)
    return fails(ACCEPT, fd) ? -1 : real(fd, address, size);
}
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    REAL(accept4)
    return fails(ACCEPT, fd) ? -1 : real(fd, address, size, flags);
}
int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    REAL(connect)
    return fails(CONNECT, fd) ? -1 : real(fd, address, size);
}
int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    REAL(setsockopt)
    return fails(SETSOCKOPT, fd) ? -1 : real(fd, level, name, value, size);
}
int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    REAL(getsockopt)
    return fails(GETSOCKOPT, fd) ? -1 : real(fd, level, name, value, size);
}
int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    REAL(getsockname)
    return fails(GETSOCKNAME, fd) ? -1 : real(fd, address, size);
}
int getpeername(int fd, struct sockaddr *address, socklen_t *size)
{
    REAL(getpeername)
    return fails(GETPEERNAME, fd) ? -1 : real(fd, address, size);
}
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(send)
    return fails(SEND, fd) ? -1 : real(fd, data, size, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg)
    return fails(SEND, fd) ? -1 : real(fd, message, flags);
}
ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write)
    return fails(SEND, fd) ? -1 : real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *pieces, int number)
{
    REAL(writev)
    return fails(SEND, fd) ? -1 : real(fd, pieces, number);
}
ssize_t recv(int fd, void *data, size_t size, int flags)
{
    REAL(recv)
    return fails(RECV, fd) ? -1 : real(fd, data, size, flags);
}
ssize_t read(int fd, void *data, size_t size)
{
    REAL(read)
    return fails(RECV, fd) ? -1 : real(fd, data, size);
}
int shutdown(int fd, int how)
{
    REAL(shutdown)
    return fails(SHUTDOWN, fd) ? -1 : real(fd, how);
}
int epoll_ctl(int set, int action, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl)
    return action != EPOLL_CTL_DEL && fails(EPOLL, fd) ? -1 : real(set, action, fd, event);
}
