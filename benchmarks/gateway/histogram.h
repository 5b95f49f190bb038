/* A histogram of times: 64 buckets to each power of two of nanoseconds, so that a reading is off by 1.6 % at most. */
#include <stdint.h>
#include <stdio.h>

enum { STEPS = 64, BUCKETS = 64 * STEPS };
typedef struct { uint64_t count, max_ns, in[BUCKETS]; } histogram;

static void record(histogram *h, uint64_t ns) {
    int power = ns < STEPS ? 0 : 63 - __builtin_clzll(ns) - 5;
    h->in[(uint64_t)power * STEPS + (ns >> power)]++;
    h->count++;
    if (ns > h->max_ns) h->max_ns = ns;
}

static double quantile_us(const histogram *h, double q) {
    uint64_t seen = 0, rank = (uint64_t)(q * (double)h->count);
    for (uint64_t i = 0; i < BUCKETS; i++)
        if ((seen += h->in[i]) > rank) return (double)((i % STEPS) << (i / STEPS)) / 1e3;
    return 0;
}

/* Print it as a member of a JSON object, in microseconds. */
static void print_histogram(const char *name, const histogram *h) {
    printf(", \"%s\": {\"count\": %lu, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}", name, (unsigned long)h->count,
           quantile_us(h, 0.5), quantile_us(h, 0.99), (double)h->max_ns / 1e3);
}
