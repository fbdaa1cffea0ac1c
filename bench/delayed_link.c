/* A link between two network namespaces, with a delay, losses, a rate and a bounded queue: what netem does, for
 * kernels that have no netem. Root, Linux, /dev/net/tun.
 *
 *   delayed_link --delay-us 10000 --loss-ppm 5000 --rate 1000000 --queue 262144 --seed 1
 *
 * The device deli0 is made in the namespace of the caller, deli1 in a new one, which lives as long as this
 * process. "ready" on stdout says that both are there; the caller gives them addresses. Each way, a packet is lost
 * by chance, or leaves at the rate (bytes a second; 0: at once) and arrives after the delay. The queue bounds the
 * bytes of a way, those on their way included; what finds it full is dropped. At the end of stdin it writes what
 * each way has carried, lost and dropped, and ends. */
#include "net.h"
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

enum {
    PACKET_BYTES = 1504, /* the MTU of both devices is 1500 */
    AT_ONCE = 64,        /* packets taken of one way before the other has its turn */
};

struct packet {
    uint64_t due_ns;
    uint32_t size;
    uint8_t data[PACKET_BYTES];
};

struct way {
    int from, to;
    uint64_t random;    /* state of xorshift64*, not 0 */
    uint64_t free_ns;   /* when the rate lets the next packet leave */
    uint64_t bytes;     /* in the ring */
    size_t first, count;
    uint64_t carried, lost, dropped; /* packets */
    struct packet *ring;
};

static uint64_t delay_ns, rate, queue_bytes, lost_below;
static size_t slots;

static int device(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) die("/dev/net/tun");
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(fd, TUNSETIFF, &request)) die("TUNSETIFF");
    return fd;
}

static int is_lost(struct way *way) {
    uint64_t x = way->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    way->random = x;
    return (x * 2685821657736338717u) >> 32 < lost_below;
}

/* What has arrived at the near end. True: there may be more. */
static int take(struct way *way) {
    for (int i = 0; i < AT_ONCE; i++) {
        static uint8_t unwanted[PACKET_BYTES];
        int is_full = way->count == slots || way->bytes >= queue_bytes;
        struct packet *packet = &way->ring[(way->first + way->count) % slots];
        ssize_t size = read(way->from, is_full ? unwanted : packet->data, PACKET_BYTES);
        if (size < 0) {
            if (errno == EAGAIN || errno == EINTR) return 0;
            die("read");
        }
        if (is_full) {
            way->dropped++;
            continue;
        }
        if (lost_below && is_lost(way)) {
            way->lost++;
            continue;
        }
        uint64_t leaves = now_ns();
        if (rate) {
            if (way->free_ns > leaves) leaves = way->free_ns;
            leaves += (uint64_t)size * 1000000000u / rate;
            way->free_ns = leaves;
        }
        packet->due_ns = leaves + delay_ns;
        packet->size = (uint32_t)size;
        way->bytes += (uint64_t)size;
        way->count++;
    }
    return 1;
}

/* Hand out what is due. Returns when the next packet is; UINT64_MAX: there is none. */
static uint64_t give(struct way *way) {
    uint64_t now = now_ns();
    while (way->count) {
        struct packet *packet = &way->ring[way->first];
        if (packet->due_ns > now) return packet->due_ns;
        if (write(way->to, packet->data, packet->size) < 0)
            way->dropped++; /* the device is down */
        else
            way->carried++;
        way->bytes -= packet->size;
        way->first = (way->first + 1) % slots;
        way->count--;
    }
    return UINT64_MAX;
}

static void tell(const char *name, const struct way *way) {
    printf("\"%s\": {\"carried\": %llu, \"lost\": %llu, \"dropped\": %llu}", name, (unsigned long long)way->carried,
           (unsigned long long)way->lost, (unsigned long long)way->dropped);
}

int main(int argc, char **argv) {
    struct way ways[2];
    uint64_t seed = 1;
    queue_bytes = 16 << 20;
    memset(ways, 0, sizeof ways);
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (!strcmp(argv[i], "--delay-us")) delay_ns = value * 1000;
        else if (!strcmp(argv[i], "--loss-ppm")) lost_below = (value << 32) / 1000000;
        else if (!strcmp(argv[i], "--rate")) rate = value;
        else if (!strcmp(argv[i], "--queue")) queue_bytes = value;
        else if (!strcmp(argv[i], "--seed")) seed = value;
        else return fprintf(stderr, "unknown: %s\n", argv[i]), 2;
    }
    slots = queue_bytes / 512 + AT_ONCE; /* packets without data are small */
    if (slots > 65536) slots = 65536;

    int near = device("deli0");
    if (unshare(CLONE_NEWNET)) die("unshare");
    int far = device("deli1");
    for (int i = 0; i < 2; i++) {
        ways[i].from = i ? far : near;
        ways[i].to = i ? near : far;
        ways[i].random = (seed * 2 + (uint64_t)i) * 0x9E3779B97F4A7C15u | 1;
        ways[i].ring = malloc(slots * sizeof *ways[i].ring);
        if (!ways[i].ring) die("malloc");
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    puts("ready");
    fflush(stdout);

    struct pollfd polled[3] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (;;) {
        int more = take(&ways[0]) | take(&ways[1]);
        uint64_t next = give(&ways[0]), other = give(&ways[1]), now = now_ns();
        if (other < next) next = other;
        struct timespec wait = {0, 0};
        if (!more && next > now) {
            uint64_t left = next - now < 1000000000u ? next - now : 1000000000u;
            wait.tv_sec = (time_t)(left / 1000000000u);
            wait.tv_nsec = (long)(left % 1000000000u);
        }
        if (ppoll(polled, 3, &wait, NULL) < 0 && errno != EINTR) die("ppoll");
        if (polled[2].revents) break;
    }
    printf("{");
    tell("down", &ways[0]);
    printf(", ");
    tell("up", &ways[1]);
    printf("}\n");
    return 0;
}
