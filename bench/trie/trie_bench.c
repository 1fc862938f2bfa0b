/* Measures the subscription trie and the retained index: bytes for each filter or topic, and
 * nanoseconds for each operation, at 10^3 to 10^6 filters.
 *
 * usage: tidemq-trie-bench [COUNT_MAX]    (1000 to 1000000, the default)
 *
 * Filters: 80 % exact with four levels, 10 % with '+', 10 % with '#'. Memory is what the allocator
 * handed out (mallinfo2), its own overhead included. Uncached matches run without a cache; cached
 * ones repeat 1,000 topic names. One process, one thread; times are of its CPU.
 */
#include "broker/retained.h"
#include "broker/trie.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    COUNT_MIN = 1000,
    COUNT_MAX = 1000000,
    TEXT_MAX = 64,
    MATCHES = 1000000,
    NAMES_CACHED = 1000,
    VISITS_MAX = 4096,
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double heap_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();
    return (double)(info.uordblks + info.hblkhd);
}

/* {site}/{line}/{device}/{value}: a hundredth as many lines as devices. */
static struct slice put_name(char *text, uint64_t *random, uint32_t count, uint32_t kind)
{
    const uint32_t device = next_random(random) % count;
    const uint32_t line = device / 100, value = next_random(random) % 4;
    int size;
    if (kind == 8)
        size = snprintf(text, TEXT_MAX, "site%u/line%u/+/v%u", line % 20, line, value);
    else if (kind == 9)
        size = snprintf(text, TEXT_MAX, "site%u/line%u/device%u/#", line % 20, line, device);
    else
        size =
            snprintf(text, TEXT_MAX, "site%u/line%u/device%u/v%u", line % 20, line, device, value);
    return slice_of(text, (size_t)size);
}

/* Inserts until there are `count` different filters. Returns the time for each. */
static double fill(struct trie *trie, uint32_t count, uint64_t *random)
{
    char text[TEXT_MAX];
    uint32_t tries = 0;
    const double start = cpu_ns();
    for (; trie_count(trie) < count; tries++) {
        const struct slice filter = put_name(text, random, count, next_random(random) % 10);
        const int err = trie_insert(trie, filter, trie);
        if (err < 0 && err != ERR_EXISTS) {
            fprintf(stderr, "out of memory\n");
            exit(1);
        }
    }
    return (cpu_ns() - start) / tries;
}

/* Time for a match of one of `names` topics, their making not counted; *ret_found is added to. */
static double match(struct trie *trie, char (*names)[TEXT_MAX], uint32_t name_count,
                    uint64_t *ret_found)
{
    const double start = cpu_ns();
    for (uint32_t i = 0; i < MATCHES; i++) {
        const struct slice topic = slice_str(names[i % name_count]);
        *ret_found += trie_match(trie, topic).count;
    }
    return (cpu_ns() - start) / MATCHES;
}

static void measure_trie(uint32_t count, char (*names)[TEXT_MAX])
{
    uint64_t random = 1, found = 0, found_cached = 0;
    const double before = heap_bytes();
    struct trie *trie = trie_new(0);
    const double insert = fill(trie, count, &random);
    const double bytes = (heap_bytes() - before) / count;
    for (uint32_t i = 0; i < MATCHES; i++)
        (void)put_name(names[i], &random, count, 0);
    const double uncached = match(trie, names, MATCHES, &found);
    (void)trie_free(trie);

    random = 1;
    trie = trie_new(65536);
    (void)fill(trie, count, &random);
    const double cached = match(trie, names, NAMES_CACHED, &found_cached);
    (void)trie_free(trie);
    if (found == 0 || found_cached == 0) {
        fprintf(stderr, "no topic matched\n");
        exit(1);
    }
    printf("%8u %10.1f %10.0f %12.0f %10.0f %12.2f\n", count, bytes, insert, uncached, cached,
           (double)found / MATCHES);
}

/* Visits every entry under `filter`. Returns the time for each. */
static double walk(struct retained_index *index, const char *filter, uint64_t expected)
{
    struct slice topic = slice_of(NULL, 0);
    uint64_t found = 0;
    char after[TEXT_MAX];
    const double start = cpu_ns();
    do {
        if (retained_next(index, slice_str(filter), topic, VISITS_MAX, &topic))
            found++;
        memcpy(after, topic.bytes ? (const char *)topic.bytes : "", topic.size);
        topic = slice_of(after, topic.size);
    } while (topic.size > 0);
    if (found != expected) {
        fprintf(stderr, "%s: %lu entries of %lu\n", filter, (unsigned long)found,
                (unsigned long)expected);
        exit(1);
    }
    return (cpu_ns() - start) / (double)found;
}

static void measure_retained(uint32_t count)
{
    char text[TEXT_MAX];
    uint64_t random = 1, text_bytes = 0;
    const double before = heap_bytes();
    struct retained_index *index = retained_new();
    uint32_t tries = 0;
    double start = cpu_ns();
    for (; retained_count(index) < count; tries++) {
        const struct slice topic = put_name(text, &random, count, 0);
        struct retained *entry = retained_put(index, topic);
        text_bytes += entry->present ? 0 : topic.size;
        retained_mark(index, entry, true);
    }
    const double insert = (cpu_ns() - start) / tries;
    const double bytes = (heap_bytes() - before - (double)text_bytes) / count;

    uint32_t found = 0;
    start = cpu_ns();
    for (uint32_t i = 0; i < MATCHES; i++)
        found += retained_find(index, put_name(text, &random, count, 0)) != NULL;
    const double find = (cpu_ns() - start) / MATCHES;
    const double all = walk(index, "#", count);
    printf("%8u %10.1f %10.0f %12.0f %10.0f %12.2f\n", count, bytes, insert, find, all,
           (double)found / MATCHES);
    (void)retained_free(index);
}

int main(int argc, char **argv)
{
    const unsigned long count_max = argc > 1 ? strtoul(argv[1], NULL, 10) : COUNT_MAX;
    if (argc > 2 || count_max < COUNT_MIN || count_max > COUNT_MAX) {
        fprintf(stderr, "usage: tidemq-trie-bench [COUNT_MAX, %d to %d]\n", COUNT_MIN, COUNT_MAX);
        return 2;
    }
    char(*names)[TEXT_MAX] = malloc(MATCHES * sizeof *names);
    if (!names)
        return 1;
    printf("trie\n%8s %10s %10s %12s %10s %12s\n", "filters", "B/filter", "ns/insert",
           "ns/uncached", "ns/cached", "found/match");
    for (uint32_t count = COUNT_MIN; count <= count_max; count *= 10)
        measure_trie(count, names);
    printf("retained (bytes without the topic's text)\n%8s %10s %10s %12s %10s %12s\n", "topics",
           "B/topic", "ns/put", "ns/find", "ns/walked", "found/find");
    for (uint32_t count = COUNT_MIN; count <= count_max; count *= 10)
        measure_retained(count);
    free(names);
    return 0;
}
