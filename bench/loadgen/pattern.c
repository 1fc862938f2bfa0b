#include "pattern.h"
#include "client.h"
#include "crowd.h"
#include "pattern_many.h"
#include <stdio.h>

/* Subscriber i gets everything, or in pairs what publisher i sends. */
static void make_subscribers(struct crowd *crowd, struct gen *gen)
{
    const struct options *options = gen->options;
    const bool pairs = options->pattern == PATTERN_PAIRS;
    crowd_init(crowd, gen, options->subscribers, "sub");
    for (uint32_t i = 0; i < crowd->count; i++) {
        char filter[128];
        struct client *client = &crowd->clients[i];
        if (pairs)
            (void)snprintf(filter, sizeof filter, "%.64s/%u", options->topic_prefix, i);
        else
            (void)snprintf(filter, sizeof filter, "%.64s/#", options->topic_prefix);
        client_set_filter(client, filter);
        client->clean = !options->persistent;
        client->publisher_first = pairs ? i : 0;
        client->publisher_count = pairs ? 1 : options->publishers;
        client->last_seqs = bytes_new_array(client->publisher_count, sizeof(uint32_t));
    }
}

static void run_messages(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd publishers;
    struct crowd subscribers;
    const uint64_t fan = options->pattern == PATTERN_PAIRS ? 1 : options->subscribers;
    crowd_init_publishers(&publishers, gen, NULL);
    make_subscribers(&subscribers, gen);
    result->deliveries_expected = options->count * fan;
    result->acks_expected = options->qos > 0 ? options->count : 0;
    gen->goal = (struct gen_goal){.published = options->count,
                                  .acked = result->acks_expected,
                                  .delivered = result->deliveries_expected};

    if (gen_connect(gen, subscribers.clients, subscribers.count) &&
        gen_connect(gen, publishers.clients, publishers.count)) {
        struct measure *measure = &result->measures[result->measure_count++];
        measure_begin(measure, gen, "run");
        crowd_publish(&publishers, gen, fan);
        (void)gen_run_to_goal(gen);
        measure_settle(measure, gen);
    }
    crowd_done(&publishers);
    crowd_done(&subscribers);
}

static void backlog_subscribe(struct gen *gen)
{
    struct crowd subscribers;
    make_subscribers(&subscribers, gen);
    (void)gen_connect(gen, subscribers.clients, subscribers.count);
    crowd_done(&subscribers);
}

static void backlog_publish(struct gen *gen, struct measure *measure)
{
    struct crowd publishers;
    crowd_init_publishers(&publishers, gen, NULL);
    gen->goal = (struct gen_goal){.published = gen->options->count, .acked = gen->options->count};
    if (gen_connect(gen, publishers.clients, publishers.count)) {
        measure_begin(measure, gen, "publish");
        crowd_publish(&publishers, gen, 0);
        (void)gen_run_to_goal(gen);
        measure_settle(measure, gen);
    }
    crowd_done(&publishers);
}

static void backlog_drain(struct gen *gen, struct measure *measure, uint64_t deliveries)
{
    struct crowd subscribers;
    make_subscribers(&subscribers, gen);
    gen->goal = (struct gen_goal){.delivered = gen->counters.delivered + deliveries};
    measure_begin(measure, gen, "drain");
    (void)gen_connect(gen, subscribers.clients, subscribers.count);
    for (uint32_t i = 0; i < subscribers.count && !gen->failed; i++) {
        if (!subscribers.clients[i].session_present)
            gen_fail(gen, "the server has forgotten the session of '%s'",
                     subscribers.clients[i].id);
    }
    (void)gen_run_to_goal(gen);
    measure_settle(measure, gen);
    crowd_done(&subscribers);
}

static void run_backlog(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    const uint64_t deliveries = (uint64_t)options->count * options->subscribers;
    if (options->phase != PHASE_DRAIN) {
        result->acks_expected = options->count;
        backlog_subscribe(gen);
        if (!gen->failed)
            backlog_publish(gen, &result->measures[result->measure_count++]);
    }
    if (options->phase != PHASE_PUBLISH && !gen->failed) {
        result->deliveries_expected = deliveries;
        hist_clear(&gen->delivery);
        backlog_drain(gen, &result->measures[result->measure_count++], deliveries);
    }
}

static void run_idle(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd crowd;
    crowd_init(&crowd, gen, options->connections, "idle");
    for (uint32_t i = 0; i < crowd.count && options->subscribe_idle; i++) {
        char filter[128];
        crowd.clients[i].clean = !options->persistent;
        (void)snprintf(filter, sizeof filter, "%.64s/idle/%u", options->topic_prefix, i);
        client_set_filter(&crowd.clients[i], filter);
    }
    struct measure *measure = &result->measures[result->measure_count++];
    measure_begin(measure, gen, "connect");
    (void)gen_connect(gen, crowd.clients, crowd.count);
    measure_settle(measure, gen);
    if (options->hold_s > 0 && !gen->failed) {
        measure = &result->measures[result->measure_count++];
        measure_begin(measure, gen, "hold");
        gen_run_for(gen, options->hold_s * 1000);
        measure_end(measure, gen);
    }
    crowd_done(&crowd);
}

void pattern_run(struct gen *gen, struct pattern_result *ret_result)
{
    *ret_result = (struct pattern_result){0};
    switch (gen->options->pattern) {
    case PATTERN_FAN:
    case PATTERN_PAIRS:
        run_messages(gen, ret_result);
        break;
    case PATTERN_BACKLOG:
        run_backlog(gen, ret_result);
        break;
    case PATTERN_IDLE:
        run_idle(gen, ret_result);
        break;
    case PATTERN_CONNECT:
    case PATTERN_SESSIONS:
        pattern_many_connect(gen, ret_result);
        break;
    case PATTERN_FILTERS:
        pattern_many_filters(gen, ret_result);
        break;
    case PATTERN_RETAINED:
        pattern_many_retained(gen, ret_result);
        break;
    }
}
