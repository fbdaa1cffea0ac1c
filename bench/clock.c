/* Nanoseconds that one reading of the monotonic clock takes: the part of a recorded send that cannot be less. */
#include <stdio.h>
#include <time.h>

enum { READINGS = 1000000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void) {
    struct timespec t;
    double start = now();
    for (int i = 0; i < READINGS; i++) clock_gettime(CLOCK_MONOTONIC, &t);
    printf("%.1f\n", (now() - start) / READINGS);
    return 0;
}
