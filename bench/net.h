/* What the C floor server and the load generator share: the control page, pinning, the
 * clock, and the few bytes of WebSocket they need. Header-only, so that each program is
 * one `cc -O2 file.c`. Not a WebSocket library: it trusts its peer. */
#ifndef DELI_BENCH_NET_H
#define DELI_BENCH_NET_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* One page in a file that the server, the load generator and the runner map. Every word
 * has one writer and a cache line of its own. bench/control.py has the same layout. */
struct control {
    _Alignas(64) _Atomic uint64_t ready;  /* load: connections whose handshake is done */
    _Alignas(64) _Atomic uint64_t turns;  /* load: turns that every live connection has read whole */
    _Alignas(64) _Atomic uint64_t want;   /* server: write a byte to the fifo once `turns` gets here; 0: awake */
    _Alignas(64) _Atomic uint64_t stop;   /* server or receiver: no more turns; the load reports and exits */
};

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void pin(int core) {
    cpu_set_t set;
    if (core < 0) return;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) die("sched_setaffinity");
}

static inline struct control *control_map(const char *path) {
    int fd = open(path, O_RDWR);
    if (fd < 0) die(path);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) die("mmap");
    close(fd);
    return page;
}

/* User and system time of this process, in seconds. */
static inline void cpu_times(double *user, double *sys) {
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    *user = (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6;
    *sys = (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6;
}

/* A number from /proc/self/status, in KiB ("VmHWM:", "VmRSS:"). */
static inline long status_kib(const char *key) {
    char line[256];
    long value = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) value = atol(line + strlen(key));
    if (f) fclose(f);
    return value;
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Blocking write of everything; used where nothing is measured. */
static inline void write_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0) die("send");
        data += n;
        size -= (size_t)n;
    }
}

/* Reads up to the blank line that ends an HTTP head, a byte at a time so that nothing after it is taken. */
static inline void read_head(int fd, char *head, size_t room) {
    size_t n = 0;
    while (n + 1 < room) {
        ssize_t got = recv(fd, head + n, 1, 0);
        if (got <= 0) die("handshake");
        n++;
        head[n] = 0;
        if (n >= 4 && !memcmp(head + n - 4, "\r\n\r\n", 4)) return;
    }
    fprintf(stderr, "handshake: head too long\n");
    exit(1);
}

/* Frame header of a binary message (RFC 6455 section 5.2); returns its size, at most 14 bytes. */
static inline size_t frame_header(uint8_t *out, uint64_t size, const uint8_t *mask) {
    size_t n = 2;
    uint8_t bit = mask ? 0x80 : 0;
    out[0] = 0x82; /* FIN, binary */
    if (size < 126) {
        out[1] = (uint8_t)(bit | size);
    } else if (size < 65536) {
        out[1] = bit | 126;
        out[2] = (uint8_t)(size >> 8);
        out[3] = (uint8_t)size;
        n = 4;
    } else {
        out[1] = bit | 127;
        for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)(size >> (56 - 8 * i));
        n = 10;
    }
    if (mask) {
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

/* Where a stream of frames is. */
struct reader {
    uint64_t left;     /* payload bytes of the current message still to come */
    uint8_t head[14];
    uint32_t have;     /* bytes of head that are here */
};

/* Counts the messages that end in these bytes. */
static inline uint64_t count_messages(struct reader *r, const uint8_t *p, size_t n) {
    uint64_t done = 0;
    while (n) {
        if (r->left) {
            uint64_t take = r->left < n ? r->left : n;
            p += take;
            n -= take;
            if (!(r->left -= take)) done++;
            continue;
        }
        r->head[r->have++] = *p++;
        n--;
        if (r->have < 2) continue;
        uint8_t len = r->head[1] & 0x7f;
        uint32_t ext = len == 126 ? 2 : len == 127 ? 8 : 0, need = 2 + ext + (r->head[1] & 0x80 ? 4 : 0);
        if (r->have < need) continue;
        r->left = len;
        if (ext) {
            r->left = 0;
            for (uint32_t i = 0; i < ext; i++) r->left = r->left << 8 | r->head[2 + i];
        }
        r->have = 0;
        if (!r->left) done++;
    }
    return done;
}

/* Where input is read to. Style "": one piece of memory, again and again. Style "values": a piece for each message, in
 * turn, as many as a program has that takes values from a queue: what one turn of its loop reads (256 KiB of each
 * connection, or one message), and the message under way of each connection. */
enum { READ_BYTES = 262144 };

struct places {
    uint8_t *memory;
    size_t size, count, next;
};

static inline struct places places_of(const char *style, size_t message, size_t connections) {
    struct places p = {.size = READ_BYTES, .count = 1};
    if (!strcmp(style, "values")) {
        p.size = message + 14; /* of its header, at most */
        p.count = connections * ((p.size < READ_BYTES ? READ_BYTES / p.size : 1) + 1);
    }
    p.memory = malloc(p.size * p.count);
    if (!p.memory) die("malloc");
    memset(p.memory, 0, p.size * p.count);
    return p;
}

/* Reads once, or, for values, up to READ_BYTES. Returns how many messages end in it; ends the program at the stream's
 * end. `unmask`: each byte is read and written once more, as to remove a mask (it goes back: nobody looks at it). */
static inline uint64_t read_messages(int fd, struct places *p, struct reader *r, int unmask) {
    uint64_t done = 0;
    size_t total = 0;
    ssize_t size;
    do {
        uint8_t *place = p->memory + p->next * p->size;
        p->next = (p->next + 1) % p->count;
        size = recv(fd, place, p->size, 0);
        if (size == 0) die("the source has ended");
        if (size < 0) break;
        done += count_messages(r, place, (size_t)size);
        if (unmask)
            for (size_t i = 0; i + 8 <= (size_t)size; i += 8) *(uint64_t *)(place + i) ^= 0x5a5a5a5a5a5a5a5au;
        total += (size_t)size;
    } while (p->count > 1 && (size_t)size == p->size && total < READ_BYTES);
    return done;
}

/* What the content check expects at byte `i` of a payload, after the stamp and the sequence number. */
static inline uint8_t pattern(uint64_t i) { return (uint8_t)(i % 251); }

static inline uint32_t rol(uint32_t v, int n) { return v << n | v >> (32 - n); }

/* SHA-1 (RFC 3174) of at most 110 bytes: two blocks hold key and GUID. */
static inline void sha1_short(const uint8_t *data, size_t size, uint8_t out[20]) {
    uint8_t block[128] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    size_t blocks = size > 55 ? 2 : 1;
    memcpy(block, data, size);
    block[size] = 0x80;
    for (int i = 0; i < 4; i++) block[blocks * 64 - 1 - (size_t)i] = (uint8_t)(size * 8 >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], v[5];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = block + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (v[1] & v[2]) | (~v[1] & v[3]), k = 0x5A827999;
            else if (i < 40) f = v[1] ^ v[2] ^ v[3], k = 0x6ED9EBA1;
            else if (i < 60) f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]), k = 0x8F1BBCDC;
            else f = v[1] ^ v[2] ^ v[3], k = 0xCA62C1D6;
            uint32_t t = rol(v[0], 5) + f + v[4] + k + w[i];
            v[4] = v[3], v[3] = v[2], v[2] = rol(v[1], 30), v[1] = v[0], v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Sec-WebSocket-Accept for a 24-character key; `out` takes 28 characters and a NUL. */
static inline void accept_key(const char key[24], char out[29]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t text[60], hash[21] = {0};
    memcpy(text, key, 24);
    memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1_short(text, 60, hash);
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)hash[3 * i] << 16 | (uint32_t)hash[3 * i + 1] << 8 | hash[3 * i + 2];
        for (int j = 0; j < 4; j++) out[4 * i + j] = digits[v >> (18 - 6 * j) & 63];
    }
    out[27] = '='; /* 20 bytes: the last group has two */
    out[28] = 0;
}
#endif
