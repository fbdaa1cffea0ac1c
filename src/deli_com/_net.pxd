# System calls of the write path; see _net.h for what they mean.

from libc.stdint cimport uint64_t


cdef extern from "_net.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

    enum:
        DELI_COM_WOULD_BLOCK
        DELI_COM_BROKEN
        DELI_COM_HAVE_SENDMSG

    Py_ssize_t deli_com_sendv(int fd, iovec* iov, int count)
    uint64_t deli_com_clock_ns()              # monotonic, nanoseconds
    uint64_t deli_com_bytes_acked(int fd)     # Linux; 0 elsewhere
