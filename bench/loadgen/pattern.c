#include "pattern.h"
#include "client.h"
#include <stdio.h>
#include <stdlib.h>

/* All clients of a pattern, publishers first. */
struct crowd {
    struct client *clients;
    uint32_t count;
};

static struct client *crowd_new(struct crowd *crowd, struct gen *gen, uint32_t count,
                                const char *kind)
{
    crowd->clients = bytes_new_array(count, sizeof *crowd->clients);
    crowd->count = count;
    for (uint32_t i = 0; i < count; i++) {
        char id[96];
        (void)snprintf(id, sizeof id, "%.64s-%s-%u", gen->options->id_prefix, kind, i);
        client_init(&crowd->clients[i], gen, i, id);
    }
    return crowd->clients;
}

static void crowd_done(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->count; i++)
        client_done(&crowd->clients[i]);
    free(crowd->clients);
    *crowd = (struct crowd){0};
}

static void make_publishers(struct crowd *crowd, struct gen *gen)
{
    const struct options *options = gen->options;
    crowd_new(crowd, gen, options->publishers, "pub");
    for (uint32_t i = 0; i < crowd->count; i++) {
        char topic[128];
        struct client *client = &crowd->clients[i];
        (void)snprintf(topic, sizeof topic, "%.64s/%u", options->topic_prefix, i);
        client_set_topic(client, topic);
        client->share = options->count / crowd->count + (i < options->count % crowd->count);
    }
}

/* Subscriber i gets everything, or in pairs what publisher i sends. */
static void make_subscribers(struct crowd *crowd, struct gen *gen)
{
    const struct options *options = gen->options;
    const bool pairs = options->pattern == PATTERN_PAIRS;
    crowd_new(crowd, gen, options->subscribers, "sub");
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
        client->last_seqs = bytes_new_array(client->publisher_count, sizeof(uint64_t));
    }
}

static void start_publishing(struct gen *gen, struct crowd *publishers, uint64_t fan)
{
    gen->fan = fan;
    if (gen->options->rate > 0) {
        gen_pace(gen, publishers->clients, publishers->count, gen->options->count);
        return;
    }
    for (uint32_t i = 0; i < publishers->count; i++)
        gen_enqueue(gen, &publishers->clients[i]);
}

/* Ends a measured part: the clock stops now, CPU counts until the server had time to finish. */
static void end_measure(struct gen *gen, struct measure *measure)
{
    measure_stop_clock(measure);
    gen_run_for(gen, gen->options->settle_ms);
    measure_end(measure, gen);
}

static void run_messages(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd publishers;
    struct crowd subscribers;
    const uint64_t fan = options->pattern == PATTERN_PAIRS ? 1 : options->subscribers;
    make_publishers(&publishers, gen);
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
        start_publishing(gen, &publishers, fan);
        (void)gen_run_to_goal(gen);
        end_measure(gen, measure);
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
    make_publishers(&publishers, gen);
    gen->goal = (struct gen_goal){.published = gen->options->count, .acked = gen->options->count};
    if (gen_connect(gen, publishers.clients, publishers.count)) {
        measure_begin(measure, gen, "publish");
        start_publishing(gen, &publishers, 0);
        (void)gen_run_to_goal(gen);
        end_measure(gen, measure);
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
    end_measure(gen, measure);
    crowd_done(&subscribers);
}

static void run_backlog(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    const uint64_t deliveries = (uint64_t)options->count * options->subscribers;
    if (options->phase != BACKLOG_DRAIN) {
        result->acks_expected = options->count;
        backlog_subscribe(gen);
        if (!gen->failed)
            backlog_publish(gen, &result->measures[result->measure_count++]);
    }
    if (options->phase != BACKLOG_PUBLISH && !gen->failed) {
        result->deliveries_expected = deliveries;
        hist_clear(&gen->delivery);
        backlog_drain(gen, &result->measures[result->measure_count++], deliveries);
    }
}

static void run_idle(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd crowd;
    crowd_new(&crowd, gen, options->connections, "idle");
    for (uint32_t i = 0; i < crowd.count && options->subscribe_idle; i++) {
        char filter[128];
        (void)snprintf(filter, sizeof filter, "%.64s/idle/%u", options->topic_prefix, i);
        client_set_filter(&crowd.clients[i], filter);
    }
    struct measure *measure = &result->measures[result->measure_count++];
    measure_begin(measure, gen, "connect");
    (void)gen_connect(gen, crowd.clients, crowd.count);
    end_measure(gen, measure);
    if (options->hold_s > 0 && !gen->failed) {
        measure = &result->measures[result->measure_count++];
        measure_begin(measure, gen, "hold");
        gen_run_for(gen, options->hold_s * 1000);
        measure_end(measure, gen);
    }
    crowd_done(&crowd);
}

static void run_connect(struct gen *gen, struct pattern_result *result)
{
    const struct options *options = gen->options;
    struct crowd crowd;
    uint64_t opened = 0;
    crowd_new(&crowd, gen, options->connections, "connect");
    struct measure *measure = &result->measures[result->measure_count++];
    measure_begin(measure, gen, "connect");
    gen->progress_ns = gen_clock_ns();
    while (gen->connack.count < options->count && !gen->failed) {
        for (uint32_t i = 0; i < crowd.count && !gen->failed; i++) {
            struct client *client = &crowd.clients[i];
            if (client->state == CLIENT_READY)
                client_close(client);
            if (client->state == CLIENT_CLOSED && opened < options->count && client_open(client))
                opened++;
        }
        const uint64_t before = gen->connack.count;
        gen_turn(gen, 100000000);
        if (gen->connack.count > before)
            gen->progress_ns = gen->now_ns;
        else if (gen->now_ns > gen->progress_ns + options->timeout_s * 1000000000ULL)
            gen_fail(gen, "no connection for %u s", options->timeout_s);
    }
    end_measure(gen, measure);
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
        run_connect(gen, ret_result);
        break;
    }
}
