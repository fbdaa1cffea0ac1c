/* The load of every bench: N client connections in one thread, so that a server is measured and not its clients.
 *
 * read: connects, does the HTTP upgrade, then reads and counts (epoll, one recv() an event). The last `stalled`
 *       connections never read. A turn is done when every other connection has read `burst` messages of it.
 *       `stamp` >= 0: offset of a CLOCK_MONOTONIC u64 in each payload; one-way latencies are kept, all of them.
 *       `check` 1: also that the u64 after the stamp counts up by one and that the rest is the pattern of net.h.
 * send: N connections send `messages` masked messages in all, blocks of up to 64 KiB; `rate` > 0: that many
 *       a second in all, one at a time.
 * One JSON line on stdout. Units: counts, bytes, nanoseconds. `proto zmq` subscribes as a ZMTP 3.0 SUB to everything;
 * `proto tcp` reads frames of a u32 little-endian length and a payload, as docs/wire.md has them. */
#include "net.h"

static struct {
    const char *mode, *control, *fifo, *proto, *path;
    int port, clients, stalled, core, check;
    long size, messages, stamp, skip, burst, prefix;
    double rate;
} job = {.mode = "read", .proto = "ws", .path = "/", .clients = 1, .core = -1, .size = 64, .stamp = -1, .burst = 1};

struct client {
    int fd;
    uint32_t have;          /* bytes of the frame header that are here */
    uint8_t head[14];
    uint8_t first[128];     /* the payload's beginning: prefix, stamp, sequence number; all of a PING's */
    int is_data;            /* the current frame is a message, or the last part of one */
    uint64_t size, at;      /* of the current payload: its size, bytes seen */
    uint64_t messages, bytes;
};

static struct control *ctl;
static struct client *clients;
static int fifo_fd, zmq, tcp, live;
static uint64_t bad, closed;
static uint32_t *samples; /* latencies in ns, capped at 4.29 s */
static size_t sample_count, sample_room;
enum { TURNS = 4096 };
static int turn_done[TURNS]; /* connections that have read turn t, at t % TURNS; windows are far smaller */
static uint64_t turns;

static void connect_one(struct client *c) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)job.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[8192];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at)) die("connect");
    set_nodelay(c->fd);
    if (tcp) return;
    if (zmq) {
        static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
        static const char ready[] = "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
                                    "\x00\x01\x01"; /* and the subscription to every topic */
        uint8_t got[64], flags[2];
        write_all(c->fd, (const char *)greeting, sizeof greeting);
        if (recv(c->fd, got, 64, MSG_WAITALL) != 64) die("greeting");
        write_all(c->fd, ready, sizeof ready - 1);
        if (recv(c->fd, flags, 2, MSG_WAITALL) != 2 || recv(c->fd, head, flags[1], MSG_WAITALL) != flags[1]) die("READY");
        return;
    }
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     job.path, job.port);
    write_all(c->fd, head, (size_t)n);
    read_head(c->fd, head, sizeof head);
    if (!strstr(head, " 101 ")) {
        fprintf(stderr, "refused: %.60s\n", head);
        exit(1);
    }
}

/* Whether a whole header is in c->head; sets the payload's size. */
static int header_done(struct client *c, int *data) {
    uint32_t ext;
    if (c->have < 2) return 0;
    if (tcp) {
        if (c->have < 4) return 0;
        c->size = c->head[0] | c->head[1] << 8 | c->head[2] << 16 | (uint64_t)c->head[3] << 24;
        *data = 1;
        return 1;
    }
    if (zmq) { /* ZMTP 3.0: flags, then a size of 1 or 8 bytes; flag 4 is a command */
        ext = c->head[0] & 2 ? 8 : 1;
        if (c->have < 1 + ext) return 0;
        c->size = 0;
        for (uint32_t i = 0; i < ext; i++) c->size = c->size << 8 | c->head[1 + i];
        *data = !(c->head[0] & 4);
        return 1;
    }
    uint8_t len = c->head[1] & 0x7f;
    ext = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (c->have < 2 + ext) return 0;
    c->size = len;
    if (ext) {
        c->size = 0;
        for (uint32_t i = 0; i < ext; i++) c->size = c->size << 8 | c->head[2 + i];
    }
    *data = (c->head[0] & 0x0f) < 8 && c->head[0] & 0x80; /* FIN: the message ends with this frame */
    return 1;
}

static void message_done(struct client *c, uint64_t now) {
    uint64_t seq = c->messages++;
    if (job.stamp >= 0 && seq >= (uint64_t)job.skip) {
        uint64_t stamp;
        memcpy(&stamp, c->first + job.stamp, 8);
        uint64_t lag = now - stamp;
        if (sample_count == sample_room) {
            sample_room = sample_room ? sample_room * 2 : 1 << 16;
            samples = realloc(samples, sample_room * sizeof *samples);
            if (!samples) die("realloc");
        }
        samples[sample_count++] = lag > UINT32_MAX ? UINT32_MAX : (uint32_t)lag;
    }
    if (job.check) {
        uint64_t got;
        memcpy(&got, c->first + job.prefix + 8, 8);
        if (got != seq || (long)c->size != job.size) bad++;
    }
    if (c->messages % (uint64_t)job.burst == 0) {
        uint64_t t = c->messages / (uint64_t)job.burst - 1;
        turn_done[t % TURNS]++;
        while (turn_done[turns % TURNS] >= live) {
            turn_done[turns % TURNS] = 0;
            turns++;
        }
    }
}

/* A conforming client answers a PING by a PONG with its payload (masked, here with zeros). Once a socket has sent, its
 * kernel delays ACKs, and over loopback the next segment of the server then makes them: on the server's core, 1.3 us for
 * a client and turn. TCP_QUICKACK keeps that work here, where it is for a client that is elsewhere or never sends. */
static void control_done(struct client *c) {
    uint8_t frame[6 + 125] = {0x8a, (uint8_t)(0x80 | c->size), 0, 0, 0, 0};
    int opcode = c->head[0] & 0x0f;
    if (tcp || zmq || opcode == 10 || c->size > 125) return;
    if (opcode != 9) {
        closed++;
        return;
    }
    memcpy(frame + 6, c->first, (size_t)c->size);
    write_all(c->fd, (const char *)frame, (size_t)(6 + c->size));
    setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
}

static void take(struct client *c, const uint8_t *p, size_t n, uint64_t now) {
    int data;
    c->bytes += n;
    while (n) {
        if (c->at < c->size) {
            uint64_t part = c->size - c->at < n ? c->size - c->at : n;
            for (uint64_t i = c->at; i < sizeof c->first && i < c->at + part; i++) c->first[i] = p[i - c->at];
            if (job.check && c->is_data) {
                uint64_t skip = (uint64_t)job.prefix + 16;
                for (uint64_t i = c->at > skip ? c->at : skip; i < c->at + part; i++)
                    if (p[i - c->at] != pattern(i - (uint64_t)job.prefix)) {
                        bad++;
                        break;
                    }
            }
            p += part;
            n -= part;
            c->at += part;
            if (c->at == c->size) {
                if (c->is_data) message_done(c, now);
                else control_done(c);
            }
            continue;
        }
        c->head[c->have++] = *p++;
        n--;
        if (!header_done(c, &data)) continue;
        c->have = 0;
        c->at = 0;
        c->is_data = data;
        if (!c->size) {
            if (data) message_done(c, now);
            else control_done(c);
        }
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void run_read(void) {
    static uint8_t buffer[262144];
    struct epoll_event events[256];
    int epoll_fd = epoll_create1(0);
    uint64_t start = 0, end = 0, messages = 0, bytes = 0, least = UINT64_MAX;
    double user0, sys0, user, sys;
    for (int i = 0; i < live; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd, &ev);
    }
    cpu_times(&user0, &sys0);
    while (!atomic_load(&ctl->stop)) {
        int n = epoll_wait(epoll_fd, events, 256, 2);
        for (int e = 0; e < n; e++) {
            struct client *c = &clients[events[e].data.u32];
            ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got > 0) {
                end = now_ns();
                if (!start) start = end;
                take(c, buffer, (size_t)got, end);
            } else if (got == 0 || (got < 0 && errno != EAGAIN)) {
                closed++;
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
            }
        }
        atomic_store(&ctl->turns, turns);
        uint64_t want = atomic_load(&ctl->want);
        if (want && turns >= want) {
            atomic_store(&ctl->want, 0);
            if (write(fifo_fd, "x", 1) < 0) die("fifo");
        }
    }
    cpu_times(&user, &sys);
    for (int i = 0; i < live; i++) {
        messages += clients[i].messages;
        bytes += clients[i].bytes;
        if (clients[i].messages < least) least = clients[i].messages;
    }
    printf("{\"messages\": %lu, \"bytes\": %lu, \"least\": %lu, \"bad\": %lu, \"closed\": %lu, \"cpu_s\": %.6f, "
           "\"wall_s\": %.6f, \"samples\": %zu", messages, bytes, least, bad, closed, user - user0 + sys - sys0,
           (double)(end - start) / 1e9, sample_count);
    if (sample_count) {
        static const double at[] = {0.5, 0.9, 0.99, 0.999};
        static const char *name[] = {"p50", "p90", "p99", "p999"};
        qsort(samples, sample_count, sizeof *samples, by_value);
        for (int i = 0; i < 4; i++)
            printf(", \"%s\": %u", name[i], samples[(size_t)(at[i] * (double)(sample_count - 1))]);
        printf(", \"max\": %u", samples[sample_count - 1]);
    }
    printf("}\n");
}

static void run_send(void) {
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    struct epoll_event events[256];
    uint8_t header[14];
    size_t h = frame_header(header, (uint64_t)job.size, mask), frame = h + (size_t)job.size;
    size_t per_block = frame < 65536 && job.rate <= 0 ? 65536 / frame : 1, size = frame * per_block;
    uint64_t each = (uint64_t)job.messages / (uint64_t)job.clients, due = now_ns(), done = 0;
    char *block = malloc(size);
    int epoll_fd = epoll_create1(0);
    for (size_t b = 0; b < per_block; b++) {
        memcpy(block + b * frame, header, h);
        for (long j = 0; j < job.size; j++) {
            uint8_t byte = pattern((uint64_t)j);
            if (j < job.prefix) byte = j < 4 ? (uint8_t)((job.size - job.prefix) >> (8 * j)) : 0; /* u32 length */
            block[b * frame + h + (size_t)j] = (char)(byte ^ mask[j & 3]);
        }
    }
    for (int i = 0; i < job.clients; i++) {
        struct epoll_event ev = {.events = EPOLLOUT, .data.u32 = (uint32_t)i};
        clients[i].size = each * frame; /* bytes this connection sends in all; `at`: sent */
        set_nonblocking(clients[i].fd);
        if (job.rate <= 0) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd, &ev);
    }
    for (uint64_t k = 0; job.rate > 0 && k < each * (uint64_t)job.clients && !atomic_load(&ctl->stop); k++) {
        struct timespec until = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        due += (uint64_t)(1e9 / job.rate);
        write_all(clients[k % (uint64_t)job.clients].fd, block, frame);
    }
    while (job.rate <= 0 && done < (uint64_t)job.clients) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int e = 0; e < n; e++) {
            struct client *c = &clients[events[e].data.u32];
            uint64_t from = c->at % size, left = c->size - c->at;
            ssize_t got = send(c->fd, block + from, size - from < left ? size - from : left, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (got < 0 && errno != EAGAIN) die("send");
            if (got > 0) c->at += (uint64_t)got;
            if (c->at == c->size) {
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
                done++;
            }
        }
    }
    while (!atomic_load(&ctl->stop)) usleep(1000);
    printf("{\"sent\": %lu}\n", each * (uint64_t)job.clients);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];
        if (!strcmp(k, "--mode")) job.mode = v;
        else if (!strcmp(k, "--proto")) job.proto = v;
        else if (!strcmp(k, "--path")) job.path = v;
        else if (!strcmp(k, "--control")) job.control = v;
        else if (!strcmp(k, "--fifo")) job.fifo = v;
        else if (!strcmp(k, "--port")) job.port = atoi(v);
        else if (!strcmp(k, "--clients")) job.clients = atoi(v);
        else if (!strcmp(k, "--stalled")) job.stalled = atoi(v);
        else if (!strcmp(k, "--core")) job.core = atoi(v);
        else if (!strcmp(k, "--check")) job.check = atoi(v);
        else if (!strcmp(k, "--size")) job.size = atol(v);
        else if (!strcmp(k, "--messages")) job.messages = atol(v);
        else if (!strcmp(k, "--burst")) job.burst = atol(v);
        else if (!strcmp(k, "--stamp")) job.stamp = atol(v);
        else if (!strcmp(k, "--skip")) job.skip = atol(v);
        else if (!strcmp(k, "--prefix")) job.prefix = atol(v);
        else if (!strcmp(k, "--rate")) job.rate = atof(v);
        else {
            fprintf(stderr, "unknown option %s\n", k);
            return 2;
        }
    }
    pin(job.core);
    zmq = !strcmp(job.proto, "zmq");
    tcp = !strcmp(job.proto, "tcp");
    ctl = control_map(job.control);
    fifo_fd = open(job.fifo, O_RDWR | O_NONBLOCK);
    clients = calloc((size_t)job.clients, sizeof *clients);
    live = job.clients - job.stalled;
    for (int i = 0; i < job.clients; i++) {
        connect_one(&clients[i]);
        atomic_store(&ctl->ready, (uint64_t)i + 1);
    }
    if (!strcmp(job.mode, "send")) run_send();
    else run_read();
    return 0;
}
