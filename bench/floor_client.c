/* The floor of receiving: a client that waits for input, reads it, and counts the messages in it. One copy, that of the
 * kernel, into memory that is used again; no payload is looked at, and none becomes an object. With --style values
 * each message has memory of its own: see `places_of`.
 *
 * --port, --size, --messages, --control, --core, --style. Measuring starts after a tenth of the messages. One JSON line. */
#include "net.h"

static int connected(int port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char head[2048], request[256];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr)) die("connect");
    int size = snprintf(request, sizeof request,
                        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        port);
    set_nodelay(fd);
    write_all(fd, request, (size_t)size);
    read_head(fd, head, sizeof head);
    set_nonblocking(fd);
    return fd;
}

int main(int argc, char **argv) {
    struct reader reader = {0};
    struct epoll_event event = {.events = EPOLLIN};
    uint64_t messages = 1, got = 0, first = 0, start = 0;
    double user0 = 0, sys0 = 0, user, sys;
    const char *control = NULL, *style = "";
    size_t message = 64;
    int port = 0, core = -1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--messages")) messages = (uint64_t)atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--control")) control = argv[i + 1];
        else if (!strcmp(argv[i], "--style")) style = argv[i + 1];
        else if (!strcmp(argv[i], "--size")) message = (size_t)atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--core")) core = atoi(argv[i + 1]);
    }
    if (!control) die("--control");
    pin(core);
    struct control *page = control_map(control);
    struct places places = places_of(style, message, 1);
    int fd = connected(port), epoll = epoll_create1(0);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    while (got < messages) {
        epoll_wait(epoll, &event, 1, -1);
        got += read_messages(fd, &places, &reader, 0);
        if (!start && got >= messages / 10) {
            start = now_ns();
            first = got;
            cpu_times(&user0, &sys0);
        }
    }
    uint64_t end = now_ns();
    cpu_times(&user, &sys);
    atomic_store(&page->stop, 1);
    printf("{\"messages\": %lu, \"wall_s\": %.6f, \"user_s\": %.6f, \"sys_s\": %.6f}\n", got - first,
           (double)(end - start) / 1e9, user - user0, sys - sys0);
    return 0;
}
