#include "gen.h"
#include "client.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX  512
#define PENDING_MAX 64
#define TICK_NS     100000000LL
#define SECOND_NS   1000000000ULL

uint64_t gen_clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

void gen_init(struct gen *gen, const struct options *options)
{
    memset(gen, 0, sizeof *gen);
    gen->options = options;
    gen->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    gen->scratch = bytes_new_array(GEN_SCRATCH_SIZE, 1);
    if (gen->epoll_fd < 0)
        gen_fail(gen, "could not open an epoll instance: %m");
    if (options->tls && (gen->tls = tls_setup_new()) == NULL)
        gen_fail(gen, "could not set up TLS");
}

void gen_done(struct gen *gen)
{
    free(gen->scratch);
    bytes_done(&gen->plain);
    tls_setup_free(gen->tls);
    (void)close(gen->epoll_fd);
}

void gen_fail(struct gen *gen, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!gen->failed)
        (void)vsnprintf(gen->error, sizeof gen->error, format, args);
    va_end(args);
    gen->failed = true;
}

void gen_enqueue(struct gen *gen, struct client *client)
{
    if (client->queued)
        return;
    client->queued = true;
    client->next = NULL;
    if (gen->queue_tail != NULL)
        gen->queue_tail->next = client;
    else
        gen->queue_head = client;
    gen->queue_tail = client;
}

static void dequeue(struct gen *gen)
{
    struct client *client = gen->queue_head;
    gen->queue_head = client->next;
    if (gen->queue_head == NULL)
        gen->queue_tail = NULL;
    client->queued = false;
}

/* Returns how many messages may be published before lag_max is reached. */
static uint64_t lag_room(const struct gen *gen)
{
    if (gen->fan == 0 || gen->options->lag_max == 0)
        return UINT64_MAX;
    const uint64_t lag = gen->counters.published - gen->counters.delivered / gen->fan;
    return lag < gen->options->lag_max ? gen->options->lag_max - lag : 0;
}

/* Lets each queued publisher write one batch. Returns true when one of them could go on at once. */
static bool publish_queued(struct gen *gen)
{
    struct client *last = gen->queue_tail;
    while (gen->queue_head != NULL && !gen->failed) {
        struct client *client = gen->queue_head;
        const uint32_t count = client_sendable(client);
        if (count > 0 && lag_room(gen) < count)
            return false;
        dequeue(gen);
        if (count > 0) {
            client_publish(client, count);
            if (client_sendable(client) > 0)
                gen_enqueue(gen, client);
        }
        if (client == last)
            break;
    }
    return gen->queue_head != NULL;
}

void gen_pace(struct gen *gen, struct client *publishers, uint32_t count, uint64_t total)
{
    gen->paced_publishers = publishers;
    gen->paced_count = count;
    gen->paced_total = total;
    gen->paced_start_ns = gen_clock_ns();
}

static uint64_t paced_due_ns(const struct gen *gen)
{
    return gen->paced_start_ns +
           (uint64_t)((double)gen->counters.published * 1e9 / gen->options->rate);
}

/* Publishes what is due, each publisher in turn. Returns when the next message is due, in
 * nanoseconds from now. */
static int64_t publish_paced(struct gen *gen)
{
    while (gen->counters.published < gen->paced_total && !gen->failed) {
        const uint64_t now_ns = gen_clock_ns();
        const uint64_t due_ns = paced_due_ns(gen);
        const uint64_t left = gen->paced_total - gen->counters.published;
        const uint32_t burst = left < gen->options->burst ? (uint32_t)left : gen->options->burst;
        struct client *client = &gen->paced_publishers[gen->paced_turn % gen->paced_count];
        if (due_ns > now_ns)
            return (int64_t)(due_ns - now_ns);
        if (client->state != CLIENT_READY || (gen->options->qos > 0 && client->free_count < burst))
            return TICK_NS; /* an acknowledgement wakes us */
        hist_add(&gen->slip, now_ns - due_ns);
        client_publish(client, burst);
        gen->paced_turn++;
    }
    return TICK_NS;
}

static void note_progress(struct gen *gen)
{
    const struct counters *c = &gen->counters;
    const uint64_t mark = c->published + c->acked + c->delivered + c->ready + c->subscribed +
                          c->finished + c->duplicates;
    if (mark != gen->progress_mark) {
        gen->progress_mark = mark;
        gen->progress_ns = gen->now_ns;
    }
}

void gen_turn(struct gen *gen, int64_t timeout_ns)
{
    struct epoll_event events[EVENTS_MAX];
    if (gen->paced_total > 0) {
        const int64_t due_ns = publish_paced(gen);
        if (due_ns < timeout_ns)
            timeout_ns = due_ns;
    } else if (publish_queued(gen)) {
        timeout_ns = 0;
    }
    if (gen->failed)
        return;
    const struct timespec timeout = {.tv_sec = timeout_ns / (int64_t)SECOND_NS,
                                     .tv_nsec = timeout_ns % (int64_t)SECOND_NS};
    const int count = epoll_pwait2(gen->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        gen->now_ns = gen_clock_ns();
        client_on_events(events[i].data.ptr, events[i].events);
    }
    gen->now_ns = gen_clock_ns();
    note_progress(gen);
}

static bool goal_reached(const struct gen *gen)
{
    return gen->counters.published >= gen->goal.published &&
           gen->counters.acked >= gen->goal.acked &&
           gen->counters.delivered >= gen->goal.delivered && gen->unflushed == 0;
}

bool gen_run_to_goal(struct gen *gen)
{
    gen->progress_ns = gen_clock_ns();
    while (!gen->failed && !goal_reached(gen)) {
        gen_turn(gen, TICK_NS);
        if (gen->now_ns > gen->progress_ns + gen->options->timeout_s * SECOND_NS)
            gen_fail(gen, "no progress for %u s", gen->options->timeout_s);
    }
    return !gen->failed;
}

void gen_run_for(struct gen *gen, uint32_t duration_ms)
{
    const uint64_t end_ns = gen_clock_ns() + duration_ms * 1000000ULL;
    for (uint64_t now_ns = gen_clock_ns(); now_ns < end_ns && !gen->failed;
         now_ns = gen_clock_ns()) {
        const int64_t left_ns = (int64_t)(end_ns - now_ns);
        gen_turn(gen, left_ns < TICK_NS ? left_ns : TICK_NS);
    }
}

bool gen_connect(struct gen *gen, struct client *clients, uint32_t count)
{
    const uint64_t ready_before = gen->counters.ready;
    uint32_t opened = 0;
    gen->progress_ns = gen_clock_ns();
    while (gen->counters.ready - ready_before < count && !gen->failed) {
        while (opened < count && opened - (gen->counters.ready - ready_before) < PENDING_MAX &&
               client_open(&clients[opened]))
            opened++;
        gen_turn(gen, TICK_NS);
        if (gen->now_ns > gen->progress_ns + gen->options->timeout_s * SECOND_NS)
            gen_fail(gen, "%llu of %u clients connected, then none for %u s",
                     (unsigned long long)(gen->counters.ready - ready_before), count,
                     gen->options->timeout_s);
    }
    return !gen->failed;
}
