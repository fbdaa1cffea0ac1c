/* The system calls of the write path, with one meaning on every platform.
 *
 * deli_com_send() and deli_com_sendv() return the number of bytes that the kernel took,
 * DELI_COM_WOULD_BLOCK, or DELI_COM_BROKEN (the connection is of no more use).
 * Where sendmsg() is missing, DELI_COM_HAVE_SENDMSG is 0 and callers go through the transport.
 */
#ifndef DELI_COM_NET_H
#define DELI_COM_NET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DELI_COM_WOULD_BLOCK (-1)
#define DELI_COM_BROKEN (-2)

/* What the kernel knows of a connection. */
struct deli_com_tcp {
    int is_known;         /* 0: this system does not say, the rest means nothing */
    uint64_t bytes_acked; /* of ours, by the peer's kernel, since the connection began */
    int64_t silent_ms;    /* since data last arrived, read by us or not */
    int64_t ack_ms;       /* since anything last arrived, an answer to a probe or to our bytes too */
    int is_dead;          /* reset, timed out, or ended by both sides */
    int has_ended;        /* the peer has ended its stream; we have not */
};

#ifdef _WIN32

#include <windows.h>

static inline void deli_com_cut(int fd, int reset) { (void)fd, (void)reset; } /* no fork here */

#define DELI_COM_HAVE_ACCEPT4 0
static inline int deli_com_accept(int fd) { return (void)fd, -1; } /* unreachable */

#define DELI_COM_HAVE_SENDMSG 0

struct iovec {
    void *iov_base;
    size_t iov_len;
};

static inline ptrdiff_t deli_com_sendv(int fd, struct iovec *iov, int count) {
    (void)fd, (void)iov, (void)count;
    return DELI_COM_BROKEN; /* unreachable: DELI_COM_HAVE_SENDMSG is 0 */
}

static inline uint64_t deli_com_clock_ns(void) {
    static LARGE_INTEGER frequency;
    LARGE_INTEGER now;
    if (frequency.QuadPart == 0)
        QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (uint64_t)(now.QuadPart / frequency.QuadPart) * 1000000000u +
           (uint64_t)(now.QuadPart % frequency.QuadPart) * 1000000000u / (uint64_t)frequency.QuadPart;
}

static inline struct deli_com_tcp deli_com_tcp_info(int fd) {
    struct deli_com_tcp known = {0, 0, -1, -1, 0, 0};
    (void)fd;
    return known;
}

static inline void deli_com_free_pages(char *start, ptrdiff_t size) { (void)start, (void)size; }
static inline void deli_com_keep_unsent_low(int fd, int bytes) { (void)fd, (void)bytes; }

#else

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* DELI_COM_NO_SENDMSG tries here what systems without sendmsg() run. */
#ifdef DELI_COM_NO_SENDMSG
#define DELI_COM_HAVE_SENDMSG 0
#else
#define DELI_COM_HAVE_SENDMSG 1
#endif

/* Accepts one connection. Returns its descriptor, which is non-blocking and not inherited, or -errno. */
#ifdef __linux__
#define DELI_COM_HAVE_ACCEPT4 1
static inline int deli_com_accept(int fd) {
    int made = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return made < 0 ? -errno : made;
}
#else
#define DELI_COM_HAVE_ACCEPT4 0
static inline int deli_com_accept(int fd) { return (void)fd, -1; } /* unreachable */
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: Python ignores SIGPIPE */
#endif

/* Ends a connection for its peer although another process has the descriptor too: a close would not.
 * A reset is what connecting to nowhere does on Linux; elsewhere the stream ends. */
static inline void deli_com_cut(int fd, int reset) {
#ifdef __linux__
    struct sockaddr nowhere;
    memset(&nowhere, 0, sizeof nowhere);
    nowhere.sa_family = AF_UNSPEC;
    if (reset && connect(fd, &nowhere, sizeof nowhere) == 0)
        return;
#endif
    (void)reset;
    shutdown(fd, SHUT_RDWR);
}

static inline ptrdiff_t deli_com_sendv(int fd, struct iovec *iov, int count) {
    struct msghdr message;
    ptrdiff_t sent;
    do {
        if (count == 1) {
            sent = send(fd, iov[0].iov_base, iov[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            memset(&message, 0, sizeof message);
            message.msg_iov = iov;
            message.msg_iovlen = (size_t)count;
            sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? DELI_COM_WOULD_BLOCK : DELI_COM_BROKEN;
}

static inline uint64_t deli_com_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#ifdef __linux__
#include <linux/tcp.h>
#include <netinet/in.h>
static inline struct deli_com_tcp deli_com_tcp_info(int fd) {
    struct deli_com_tcp known = {0, 0, -1, -1, 0, 0};
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return known; /* no TCP socket */
    known.is_known = 1;
    known.bytes_acked = info.tcpi_bytes_acked;
    known.silent_ms = info.tcpi_last_data_recv;
    known.ack_ms = info.tcpi_last_ack_recv;
    /* 7 is TCP_CLOSE of the kernel's net/tcp_states.h; linux/tcp.h does not name the states. */
    known.is_dead = info.tcpi_state == 7;
    known.has_ended = info.tcpi_state == 8; /* TCP_CLOSE_WAIT */
    return known;
}
#else
static inline struct deli_com_tcp deli_com_tcp_info(int fd) {
    struct deli_com_tcp known = {0, 0, -1, -1, 0, 0};
    (void)fd;
    return known;
}
#endif

#include <netinet/in.h>
#ifndef __linux__
#include <netinet/tcp.h> /* it and linux/tcp.h define the same */
#endif
/* The kernel takes no more while so many bytes are unsent. Where it does not know how, nothing happens. */
static inline void deli_com_keep_unsent_low(int fd, int bytes) {
#ifdef TCP_NOTSENT_LOWAT
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
#else
    (void)fd, (void)bytes;
#endif
}

#include <sys/mman.h>
#include <unistd.h>
/* Gives whole pages inside [start, start + size) back to the system. Their content is lost: they read as zeros. */
static inline void deli_com_free_pages(char *start, ptrdiff_t size) {
#if defined(__linux__) && defined(MADV_DONTNEED)
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)start + page - 1) & ~(page - 1);
    uintptr_t last = ((uintptr_t)start + (uintptr_t)size) & ~(page - 1);
    if (size > 0 && last > first)
        (void)madvise((void *)first, last - first, MADV_DONTNEED);
#else
    (void)start, (void)size; /* elsewhere the call does not promise it */
#endif
}

#endif
#endif
