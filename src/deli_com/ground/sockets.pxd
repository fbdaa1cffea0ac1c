# System calls of the write path; see ground/sockets.h for what they mean.

from libc.stdint cimport int64_t, uint64_t


cdef extern from "deli_com/ground/sockets.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

    enum:
        DELI_COM_WOULD_BLOCK
        DELI_COM_BROKEN
        DELI_COM_HAVE_SENDMSG
        DELI_COM_HAVE_ACCEPT4

    Py_ssize_t deli_com_sendv(int fd, iovec* iov, int count)
    int deli_com_accept(int fd)               # a non-blocking descriptor, or -errno
    uint64_t deli_com_clock_ns()              # monotonic, nanoseconds
    struct deli_com_tcp:
        bint is_known                         # Linux only
        uint64_t bytes_acked
        int64_t silent_ms
        int64_t ack_ms
        bint is_dead
        bint has_ended

    deli_com_tcp deli_com_tcp_info(int fd)    # a system call: 1.5 to 3.4 microseconds
    void deli_com_free_pages(char* start, Py_ssize_t size)
    void deli_com_cut(int fd, bint reset)
    void deli_com_keep_unsent_low(int fd, int bytes)
