/* The least that any WebSocket server must do, in C: the floor of every fan-out figure.
 *
 * fanout: one iteration is one turn:
 *   1. one send() a client of the turn's `burst` frames, framed beforehand and lying one after another;
 *   2. clients whose socket was full are finished as epoll says they can take more;
 *   3. wait until every live client has read the turn whole (control page; a fifo where that takes long).
 * latency: at `rate` turns a second, one message each, stamped with CLOCK_MONOTONIC just before the first send.
 * source: one client; frames in blocks of 64 KiB or one frame, as fast as the socket takes them, until `stop`
 *         or, where `messages` is given, that many (rounded up to whole blocks).
 * uplink: reads `messages` masked messages from all clients and counts them; payloads are not unmasked. With
 *         --style values each message has memory of its own (`places_of`), and is unmasked there.
 * idle: accepts, does the handshakes, holds the connections.
 * One JSON line on stdout when done; the first line is the port. Unit: seconds and counts, raw. */
#include "net.h"

static struct {
    const char *mode, *control, *fifo, *style;
    int clients, stalled, burst, core, window, check;
    long size, messages, lead;
    double seconds, warmup, rate;
} job = {"fanout", NULL, NULL, "", 1, 0, 1, -1, 1, 0, 64, 0, 0, 0.5, 0.1, 1000};

static struct control *ctl;
static int fifo_fd, epoll_fd, *fds;
static size_t *unsent; /* bytes of the current block each client still has to be sent */

enum { POOL = 4 }; /* distinct large payloads, so that no library sends from a hot cache alone */

static int listen_any(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&at, &size);
    *port = ntohs(at.sin_port);
    return fd;
}

static void accept_all(int listener, int count) {
    char head[8192], reply[256], answer[29];
    for (int i = 0; i < count; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) die("accept");
        read_head(fd, head, sizeof head);
        char *key = strcasestr(head, "\r\nsec-websocket-key:");
        if (!key) {
            fprintf(stderr, "handshake: no key\n");
            exit(1);
        }
        key += 20;
        while (*key == ' ') key++;
        accept_key(key, answer);
        int n = snprintf(reply, sizeof reply,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n\r\n", answer);
        write_all(fd, reply, (size_t)n);
        set_nodelay(fd);
        set_nonblocking(fd);
        fds[i] = fd;
        struct epoll_event ev = {.events = EPOLLOUT | EPOLLET, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    }
}

/* Sends what client i still lacks of the block; returns whether it has it all. */
static int push(int i, const char *block, size_t size) {
    while (unsent[i]) {
        ssize_t n = send(fds[i], block + size - unsent[i], unsent[i], MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return 0;
            die("send");
        }
        unsent[i] -= (size_t)n;
    }
    return 1;
}

/* Steps 1 and 2. Connections from `live` on never read: they are tried once, and nobody waits for them. */
static void flush(const char *block, size_t size, int live) {
    struct epoll_event events[256];
    int behind = 0;
    for (int i = 0; i < live; i++) {
        unsent[i] = size;
        if (!push(i, block, size)) behind++;
    }
    for (int i = live; i < job.clients; i++)
        if (send(fds[i], block, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN) die("send");
    while (behind) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int e = 0; e < n; e++) {
            uint32_t i = events[e].data.u32;
            if (i < (uint32_t)live && unsent[i] && push((int)i, block, size)) behind--;
        }
    }
}

static void wait_turns(uint64_t turn) {
    char bytes[64];
    if (atomic_load(&ctl->turns) >= turn) return;
    atomic_store(&ctl->want, turn);
    while (atomic_load(&ctl->turns) < turn)
        if (read(fifo_fd, bytes, sizeof bytes) <= 0) die("fifo");
    atomic_store(&ctl->want, 0);
}

static void fill(uint8_t *payload, uint64_t stamp, uint64_t seq) {
    memcpy(payload, &stamp, 8);
    memcpy(payload + 8, &seq, 8);
}

/* `count` frames of `size` payload bytes, one after another. `prefix` 4: each payload begins with the u32 length of
 * what follows, so that it is a value of type `bytes` to us and raw bytes to the others. */
static char *frames(long size, int count, long prefix, size_t *total) {
    uint32_t length = (uint32_t)(size - prefix);
    uint8_t header[14];
    size_t h = frame_header(header, (uint64_t)size, NULL);
    char *block = malloc((h + (size_t)size) * (size_t)count), *p = block;
    for (int i = 0; i < count; i++) {
        memcpy(p, header, h);
        for (long j = 0; j < size; j++) p[h + (size_t)j] = (char)pattern((uint64_t)j);
        if (prefix == 4) memcpy(p + h, &length, 4);
        p += h + (size_t)size;
    }
    *total = (size_t)(p - block);
    return block;
}

static void report(uint64_t turns, uint64_t messages, double wall, double user, double sys) {
    printf("{\"turns\": %lu, \"messages\": %lu, \"wall_s\": %.6f, \"user_s\": %.6f, \"sys_s\": %.6f, "
           "\"hwm_kib\": %ld, \"rss_kib\": %ld}\n",
           turns, messages, wall, user, sys, status_kib("VmHWM:"), status_kib("VmRSS:"));
    fflush(stdout);
}

static void run_turns(int paced) {
    size_t block_size, head = frame_header((uint8_t[14]){0}, (uint64_t)job.size, NULL);
    int pool = job.size >= 32768 ? POOL : 1, live = job.clients - job.stalled;
    char *blocks[POOL];
    uint64_t turn = 0, first = 0, start = 0, begun = now_ns(), due = begun;
    double user0 = 0, sys0 = 0, user, sys;
    for (int i = 0; i < pool; i++) blocks[i] = frames(job.size, job.burst, 0, &block_size);
    for (;;) {
        uint64_t now = now_ns();
        if (!start && now - begun >= (uint64_t)(job.warmup * 1e9)) {
            if (!paced) wait_turns(turn);
            start = now = now_ns();
            first = turn;
            cpu_times(&user0, &sys0);
        }
        if (start && now - start >= (uint64_t)(job.seconds * 1e9)) break;
        if (paced) {
            struct timespec at = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
            due += (uint64_t)(1e9 / job.rate);
        }
        char *block = blocks[turn % (uint64_t)pool];
        if (paced || job.check)
            for (int i = 0; i < job.burst; i++)
                fill((uint8_t *)block + head + (size_t)i * (head + (size_t)job.size), now_ns(),
                     turn * (uint64_t)job.burst + (uint64_t)i);
        flush(block, block_size, live);
        turn++;
        if (!paced && turn >= (uint64_t)job.window) wait_turns(turn + 1 - (uint64_t)job.window);
    }
    wait_turns(turn);
    uint64_t end = now_ns();
    cpu_times(&user, &sys);
    atomic_store(&ctl->stop, 1);
    report(turn - first, (turn - first) * (uint64_t)job.burst, (double)(end - start) / 1e9, user - user0, sys - sys0);
}

static void run_source(void) {
    size_t size, one;
    free(frames(job.size, 1, 4, &one));
    int count = one < 65536 && job.messages != 1 ? (int)(65536 / one) : 1;
    char *block = frames(job.size, count, 4, &size);
    if (job.lead) { /* the u32 length stands behind so many bytes of other fields */
        uint32_t length = (uint32_t)(job.size - job.lead - 4);
        for (char *end = block + one; end <= block + size; end += one)
            memcpy(end - job.size + job.lead, &length, 4);
    }
    fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) & ~O_NONBLOCK);
    for (long sent = 0; !atomic_load(&ctl->stop) && (!job.messages || sent < job.messages); sent += count)
        for (size_t at = 0; at < size;) {
            ssize_t n = send(fds[0], block + at, size - at, MSG_NOSIGNAL);
            if (n < 0) return;
            at += (size_t)n;
        }
    while (!atomic_load(&ctl->stop)) usleep(1000);
}

static void run_uplink(void) {
    struct reader *readers = calloc((size_t)job.clients, sizeof *readers);
    struct places places = places_of(job.style, (size_t)job.size, (size_t)job.clients);
    int unmask = !strcmp(job.style, "values");
    struct epoll_event events[256];
    uint64_t got = 0, first = 0, start = 0;
    double user0 = 0, sys0 = 0, user, sys;
    for (int i = 0; i < job.clients; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fds[i], &ev);
    }
    while (got < (uint64_t)job.messages) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int e = 0; e < n; e++) {
            uint32_t i = events[e].data.u32;
            got += read_messages(fds[i], &places, &readers[i], unmask);
        }
        if (!start && got >= (uint64_t)job.messages / 10) {
            start = now_ns();
            first = got;
            cpu_times(&user0, &sys0);
        }
    }
    uint64_t end = now_ns();
    cpu_times(&user, &sys);
    atomic_store(&ctl->stop, 1);
    report(0, got - first, (double)(end - start) / 1e9, user - user0, sys - sys0);
}

static void run_idle(double user0, double sys0) {
    double user, sys;
    cpu_times(&user, &sys);
    report(0, 0, 0, user - user0, sys - sys0);
    atomic_store(&ctl->stop, 1);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];
        if (!strcmp(k, "--mode")) job.mode = v;
        else if (!strcmp(k, "--control")) job.control = v;
        else if (!strcmp(k, "--fifo")) job.fifo = v;
        else if (!strcmp(k, "--style")) job.style = v;
        else if (!strcmp(k, "--clients")) job.clients = atoi(v);
        else if (!strcmp(k, "--stalled")) job.stalled = atoi(v);
        else if (!strcmp(k, "--burst")) job.burst = atoi(v);
        else if (!strcmp(k, "--core")) job.core = atoi(v);
        else if (!strcmp(k, "--window")) job.window = atoi(v);
        else if (!strcmp(k, "--check")) job.check = atoi(v);
        else if (!strcmp(k, "--size")) job.size = atol(v);
        else if (!strcmp(k, "--messages")) job.messages = atol(v);
        else if (!strcmp(k, "--lead")) job.lead = atol(v);
        else if (!strcmp(k, "--seconds")) job.seconds = atof(v);
        else if (!strcmp(k, "--warmup")) job.warmup = atof(v);
        else if (!strcmp(k, "--rate")) job.rate = atof(v);
    }
    double user0, sys0;
    uint16_t port;
    pin(job.core);
    ctl = control_map(job.control);
    fifo_fd = open(job.fifo, O_RDWR);
    epoll_fd = epoll_create1(0);
    fds = calloc((size_t)job.clients, sizeof *fds);
    unsent = calloc((size_t)job.clients, sizeof *unsent);
    int listener = listen_any(&port);
    printf("{\"port\": %d}\n", port);
    fflush(stdout);
    cpu_times(&user0, &sys0);
    accept_all(listener, job.clients);
    if (!strcmp(job.mode, "source")) {
        run_source();
        return 0;
    }
    while (atomic_load(&ctl->ready) < (uint64_t)job.clients) usleep(1000);
    if (!strcmp(job.mode, "uplink")) run_uplink();
    else if (!strcmp(job.mode, "idle")) run_idle(user0, sys0);
    else run_turns(!strcmp(job.mode, "latency"));
    return 0;
}
