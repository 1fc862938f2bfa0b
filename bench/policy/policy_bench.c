/* Measures decisions about rights: nanoseconds of CPU for each PUBLISH and SUBSCRIBE under the
 * policies of a file, and bytes for each client.
 *
 * usage: tidemq-policy-bench FILE [COUNT]    (decisions of each kind; 1000000)
 *
 * FILE: bench/policies.yaml, 20 policies of which the last allows bench/#. A client publishes to
 * one topic, to 4, 40 and 1,000 of them in turn; what was decided about the last 8 to 64 is kept.
 * Its first decision finds out what policies concern it. One process, one thread.
 */
#include "app/policy_file.h"
#include "auth/access.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT_MIN = 1000, COUNT_USUAL = 1000000, TOPICS_MAX = 1000, CLIENTS_MAX = 10000 };

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

static struct facts client_facts(const char *client_id)
{
    struct facts facts = {.address = address_parse(slice_str("192.0.2.7:1"))};
    for (int i = 0; i < FACT_COUNT; i++)
        facts.values[i] = slice_of("", 0);
    facts.values[FACT_CLIENT_ID] = slice_str(client_id);
    return facts;
}

static struct rulebook *read_rulebook(const char *name)
{
    struct rulebook *rulebook = rulebook_new();
    struct policies policies;
    struct blocks blocks;
    struct errmsg why = {0};
    if (policy_file_read(name, &policies, &blocks, &why) < 0) {
        (void)fprintf(stderr, "%s\n", why.text);
        exit(1);
    }
    rulebook_configure(rulebook, true, &policies, &blocks);
    return rulebook;
}

static void measure_publish(struct rulebook *rulebook, uint32_t count, uint32_t topic_count)
{
    char topics[TOPICS_MAX][32];
    const struct facts facts = client_facts("bench-pub-17");
    struct access *access = access_new(rulebook, &facts);
    ASSERT(access);
    for (uint32_t i = 0; i < topic_count; i++)
        (void)snprintf(topics[i], sizeof topics[i], "bench/%u", i);
    uint32_t allowed = 0;
    const double before_ns = cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        const struct rule_request request = {
            .action = RULE_PUB, .topic = slice_str(topics[i % topic_count]), .qos = 1};
        allowed += access_check(access, &request, NULL);
    }
    const double spent_ns = cpu_ns() - before_ns;
    ASSERT(allowed == count);
    (void)printf("publish, %4u topics in turn %8.1f ns\n", topic_count, spent_ns / count);
    (void)access_unref(access);
}

static void measure_denied(struct rulebook *rulebook, uint32_t count)
{
    const struct facts facts = client_facts("bench-pub-17");
    struct access *access = access_new(rulebook, &facts);
    ASSERT(access);
    uint32_t allowed = 0;
    const double before_ns = cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        char topic[32];
        (void)snprintf(topic, sizeof topic, "nowhere/%u", i);
        const struct rule_request request = {.action = RULE_PUB, .topic = slice_str(topic)};
        allowed += access_check(access, &request, NULL);
    }
    const double spent_ns = cpu_ns() - before_ns;
    ASSERT(allowed == 0);
    (void)printf("publish, always a new topic  %8.1f ns (that nobody allows)\n", spent_ns / count);
    (void)access_unref(access);
}

static void measure_subscribe(struct rulebook *rulebook, uint32_t count)
{
    const struct facts facts = client_facts("bench-sub-17");
    struct access *access = access_new(rulebook, &facts);
    ASSERT(access);
    uint32_t allowed = 0;
    const double before_ns = cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        const struct rule_request request = {
            .action = RULE_SUB, .topic = slice_str("bench/+/#"), .qos = 1};
        allowed += access_check(access, &request, NULL);
    }
    const double spent_ns = cpu_ns() - before_ns;
    ASSERT(allowed == count);
    (void)printf("subscribe                    %8.1f ns\n", spent_ns / count);
    (void)access_unref(access);
}

static void measure_clients(struct rulebook *rulebook, uint32_t count)
{
    static struct access *clients[CLIENTS_MAX];
    count = MIN(count, (uint32_t)CLIENTS_MAX);
    double bytes = heap_bytes();
    for (uint32_t i = 0; i < count; i++) {
        char client_id[32];
        (void)snprintf(client_id, sizeof client_id, "bench-pub-%u", i);
        const struct facts facts = client_facts(client_id);
        clients[i] = access_new(rulebook, &facts);
        ASSERT(clients[i]);
    }
    (void)printf("memory of a client           %8.1f bytes, idle\n",
                 (heap_bytes() - bytes) / count);
    const double before_ns = cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        const struct rule_request request = {.action = RULE_PUB, .topic = slice_str("bench/1")};
        const bool allowed = access_check(clients[i], &request, NULL);
        ASSERT(allowed);
    }
    (void)printf("first publish of a client    %8.1f ns\n", (cpu_ns() - before_ns) / count);
    (void)printf("memory of a client           %8.1f bytes, with one topic\n",
                 (heap_bytes() - bytes) / count);
    for (uint32_t i = 0; i < count; i++)
        clients[i] = access_unref(clients[i]);
}

int main(int argc, char **argv)
{
    const long count = argc == 3 ? strtol(argv[2], NULL, 10) : COUNT_USUAL;
    if (argc < 2 || argc > 3 || count < COUNT_MIN) {
        (void)fputs("usage: tidemq-policy-bench FILE [COUNT]\n", stderr);
        return 2;
    }
    struct rulebook *rulebook = read_rulebook(argv[1]);
    (void)printf("%zu policies\n", rulebook_policies(rulebook, ORIGIN_FILE)->count);
    measure_publish(rulebook, (uint32_t)count, 1);
    measure_publish(rulebook, (uint32_t)count, 4);
    measure_publish(rulebook, (uint32_t)count, 40);
    measure_publish(rulebook, (uint32_t)count, TOPICS_MAX);
    measure_denied(rulebook, (uint32_t)count);
    measure_subscribe(rulebook, (uint32_t)count);
    measure_clients(rulebook, (uint32_t)count);
    (void)rulebook_free(rulebook);
    return 0;
}
