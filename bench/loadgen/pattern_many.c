#include "pattern_many.h"
#include "client.h"
#include "crowd.h"
#include <stdio.h>
#include <stdlib.h>

#define TICK_NS 100000000

/* Gives a closed client the next identity. */
static void set_session(struct client *client, struct gen *gen, uint32_t number)
{
    const struct options *options = gen->options;
    char text[128];
    client_done(client);
    crowd_print_id(text, sizeof text, gen, "session", number);
    client_init(client, gen, number, text);
    client->clean = false;
    (void)snprintf(text, sizeof text, "%.64s/session/*", options->topic_prefix);
    client_set_filter(client, text);
    client->filter_next = number;
}

/* Closes the client if it is done, and connects it again. Returns whether a connection began. */
static bool connect_next(struct client *client, struct gen *gen, uint32_t opened)
{
    const struct options *options = gen->options;
    if (client->state == CLIENT_READY) {
        if (options->resume && !client->session_present)
            gen->counters.forgotten++;
        client_close(client);
        gen->counters.finished++;
    }
    if (client->state != CLIENT_CLOSED || opened >= options->count)
        return false;
    if (options->pattern == PATTERN_SESSIONS)
        set_session(client, gen, opened * options->stride);
    return client_open(client);
}

void pattern_many_connect(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd crowd;
    uint32_t opened = 0;
    crowd_init(&crowd, gen, options->connections, "connect");
    struct measure *measure = &result->measures[result->measure_count++];
    measure_begin(measure, gen, "connect");
    gen->progress_ns = gen_clock_ns();
    while (gen->counters.finished < options->count && !gen->failed) {
        for (uint32_t i = 0; i < crowd.count && !gen->failed; i++)
            opened += connect_next(&crowd.clients[i], gen, opened);
        const uint64_t before = gen->counters.finished;
        if (before < options->count)
            gen_turn(gen, TICK_NS);
        if (gen->now_ns > gen->progress_ns + options->timeout_s * 1000000000ULL)
            gen_fail(gen, "%llu of %u connections made, then none for %u s",
                     (unsigned long long)before, options->count, options->timeout_s);
    }
    measure_settle(measure, gen);
    if (gen->counters.forgotten > 0)
        gen_fail(gen, "the server has forgotten %llu of %u sessions",
                 (unsigned long long)gen->counters.forgotten, options->count);
    crowd_done(&crowd);
}

/* Four filters match each topic prefix/sN/dN/xN, and belong to sessions of their own, so that each
 * message is delivered four times by any server. */
static const char *const filter_kinds[] = {"s*/+/x*", "+/d*/#", "s*/d*/+", "+/+/x*"};
#define FILTER_KINDS 4

static void make_filter_sessions(struct crowd *crowd, struct gen *gen)
{
    const struct options *options = gen->options;
    const uint32_t group_count = options->filters / FILTER_KINDS;
    const uint32_t step = crowd->count / FILTER_KINDS;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct client *client = &crowd->clients[i];
        char text[128];
        client->clean = !options->persistent;
        client->filter_next = i % step;
        client->filter_end = group_count;
        client->filter_step = step;
        (void)snprintf(text, sizeof text, "%.64s/%s", options->topic_prefix,
                       filter_kinds[i / step]);
        client_set_filter(client, text);
    }
}

/* Lets messages be counted by their number. */
static void count_copies(struct gen *gen, uint32_t topic_count, uint32_t topic_step)
{
    gen->copies = bytes_new_array(gen->options->count, sizeof *gen->copies);
    gen->topic_count = topic_count;
    gen->topic_step = topic_step;
}

void pattern_many_filters(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    const uint32_t group_count = options->filters / FILTER_KINDS;
    const uint32_t topic_count =
        options->topics > 0 && options->topics < group_count ? options->topics : group_count;
    struct crowd sessions;
    struct crowd publishers;
    count_copies(gen, topic_count, group_count / topic_count);
    crowd_init(&sessions, gen, options->subscribers, "sub");
    make_filter_sessions(&sessions, gen);
    crowd_init_publishers(&publishers, gen, "s*/d*/x*");
    result->deliveries_expected = (uint64_t)options->count * FILTER_KINDS;
    result->acks_expected = options->qos > 0 ? options->count : 0;
    gen->goal = (struct gen_goal){.published = options->count,
                                  .acked = result->acks_expected,
                                  .delivered = result->deliveries_expected};

    struct measure *measure = &result->measures[result->measure_count++];
    measure_begin(measure, gen, "subscribe");
    const bool connected = gen_connect(gen, sessions.clients, sessions.count);
    measure_settle(measure, gen);
    if (connected && gen_connect(gen, publishers.clients, publishers.count)) {
        measure = &result->measures[result->measure_count++];
        measure_begin(measure, gen, "run");
        crowd_publish(&publishers, gen, FILTER_KINDS);
        (void)gen_run_to_goal(gen);
        measure_settle(measure, gen);
    }
    crowd_done(&publishers);
    crowd_done(&sessions);
    free(gen->copies);
    gen->copies = NULL;
}

static void set_retained(struct gen *gen, struct measure *measure)
{
    struct crowd publishers;
    crowd_init_publishers(&publishers, gen, "retained/*");
    gen->goal = (struct gen_goal){.published = gen->options->count, .acked = gen->options->count};
    if (gen_connect(gen, publishers.clients, publishers.count)) {
        measure_begin(measure, gen, "set");
        crowd_publish(&publishers, gen, 0);
        (void)gen_run_to_goal(gen);
        measure_settle(measure, gen);
    }
    crowd_done(&publishers);
}

static void stream_retained(struct gen *gen, struct measure *measure, uint64_t deliveries)
{
    struct crowd subscribers;
    crowd_init(&subscribers, gen, gen->options->subscribers, "sub");
    for (uint32_t i = 0; i < subscribers.count; i++) {
        char filter[128];
        (void)snprintf(filter, sizeof filter, "%.64s/#", gen->options->topic_prefix);
        client_set_filter(&subscribers.clients[i], filter);
    }
    gen->fan = subscribers.count;
    gen->goal = (struct gen_goal){.delivered = deliveries};
    measure_begin(measure, gen, "stream");
    if (gen_connect(gen, subscribers.clients, subscribers.count))
        (void)gen_run_to_goal(gen);
    measure_settle(measure, gen);
    crowd_done(&subscribers);
}

void pattern_many_retained(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    count_copies(gen, options->count, 1);
    if (options->phase != PHASE_DRAIN) {
        result->acks_expected = options->count;
        set_retained(gen, &result->measures[result->measure_count++]);
    }
    if (options->phase != PHASE_PUBLISH && !gen->failed) {
        result->deliveries_expected = (uint64_t)options->count * options->subscribers;
        stream_retained(gen, &result->measures[result->measure_count++],
                        result->deliveries_expected);
    }
    free(gen->copies);
    gen->copies = NULL;
}
