#include "harness.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A wait that takes longer has failed. */
enum { TURNS_MAX = 6000, TURN_MS = 10 };

static int set_up_with(void **state, struct engine_options options)
{
    struct engine *engine = mem_new(sizeof *engine);
    engine->options = options;
    engine_kind.open(engine);
    *state = engine;
    return 0;
}

int set_up(void **state)
{
    return set_up_with(state, (struct engine_options){0});
}

int set_up_small_retention(void **state)
{
    return set_up_with(state, (struct engine_options){.small_retention = true});
}

int set_up_low_pressure(void **state)
{
    return set_up_with(state, (struct engine_options){.pressure_bytes = 256 * 1024});
}

int tear_down(void **state)
{
    struct engine *engine = *state;
    engine->gone = true;
    engine_kind.close(engine);
    mem_free(engine);
    return 0;
}

void restart(struct engine *engine, bool crash)
{
    engine_kind.reopen(engine, crash);
    engine->append_count = engine->done_count;
}

struct message plain_message(uint32_t topic_id, const char *payload)
{
    return (struct message){
        .topic = slice_str("first/second"),
        .payload = slice_str(payload),
        .client_id = slice_str("publisher"),
        .publisher = 7,
        .time_ms = UINT64_C(1700000000123),
        .expiry_s = MESSAGE_NO_EXPIRY,
        .topic_id = topic_id,
        .qos = 1,
    };
}

static void on_append(struct store_append *req, int err)
{
    struct ack *ack = CONTAINER_OF(req, struct ack, req);
    struct engine *engine = ack->engine;
    if (engine->gone)
        return;
    assert_false(engine->submitting);
    assert_false(ack->done);
    ack->done = true;
    ack->err = err;
    ack->order = engine->done_count++;
    if (err == 0) {
        ack->position = req->stored.position;
        for (uint16_t i = 0; i < req->queue_count && i < SEQS_KEPT; i++)
            ack->seqs[i] = req->seqs[i];
    }
    if (ack->then)
        ack->then(ack);
}

int submit(struct engine *engine, struct ack *ack)
{
    ack->engine = engine;
    ack->done = false;
    ack->req.done = on_append;
    engine->submitting = true;
    const int err = store_append(engine->store, &ack->req);
    engine->submitting = false;
    assert_false(ack->done);
    if (err == 0)
        engine->append_count++;
    return err;
}

int submit_message(struct engine *engine, struct ack *ack, const struct message *message,
                   const uint32_t *queue_ids, uint16_t queue_count)
{
    ack->req.message = message;
    ack->req.queue_ids = queue_ids;
    ack->req.queue_count = queue_count;
    return submit(engine, ack);
}

void wait_for(struct engine *engine, const bool *flag)
{
    for (int i = 0; i < TURNS_MAX && !*flag; i++)
        assert_int_equal(loop_turn(engine->loop, TURN_MS), 0);
    assert_true(*flag);
}

void wait_all(struct engine *engine)
{
    for (int i = 0; i < TURNS_MAX && engine->done_count < engine->append_count; i++)
        assert_int_equal(loop_turn(engine->loop, TURN_MS), 0);
    assert_int_equal(engine->done_count, engine->append_count);
}

void append_many(struct engine *engine, uint32_t topic_id, uint32_t queue_id, const char *prefix,
                 uint64_t from, uint64_t to)
{
    struct ack *acks = mem_grow(NULL, (to - from) * sizeof *acks);
    memset(acks, 0, (to - from) * sizeof *acks);
    for (uint64_t i = from; i < to; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "%s%" PRIu64, prefix, i);
        const struct message message = plain_message(topic_id, payload);
        assert_int_equal(
            submit_message(engine, &acks[i - from], &message, &queue_id, queue_id ? 1 : 0), 0);
    }
    wait_all(engine);
    for (uint64_t i = from; i < to; i++) {
        assert_int_equal(acks[i - from].err, 0);
        assert_true(queue_id == 0 || acks[i - from].seqs[0] == i);
    }
    mem_free(acks);
}

void write_row(struct engine *engine, enum meta_kind kind, struct slice key, struct slice value)
{
    const struct meta_op op = {.kind = kind, .key = key, .value = value};
    struct ack ack = {.req = {.ops = &op, .op_count = 1}};
    assert_int_equal(submit(engine, &ack), 0);
    wait_for(engine, &ack.done);
    assert_int_equal(ack.err, 0);
}

static void on_read(struct store_read *req, int err)
{
    struct pull *pull = CONTAINER_OF(req, struct pull, req);
    assert_false(pull->engine->submitting);
    assert_false(pull->done);
    pull->done = true;
    pull->err = err;
}

int pull(struct engine *engine, struct pull *pull)
{
    pull->engine = engine;
    pull->done = false;
    pull->req.done = on_read;
    if (pull->req.entries_max == 0)
        pull->req.entries_max = STORE_READ_MAX;
    if (pull->req.bytes_max == 0)
        pull->req.bytes_max = 1 << 20;
    engine->submitting = true;
    const int result = store_read(engine->store, &pull->req);
    engine->submitting = false;
    assert_false(pull->done);
    if (result != 0)
        return MIN(result, 0);
    wait_for(engine, &pull->done);
    return pull->err;
}

void check_bounds(struct engine *engine, uint32_t queue_id, uint64_t first, uint64_t next)
{
    uint64_t found_first = 99, found_next = 99;
    store_queue_bounds(engine->store, queue_id, &found_first, &found_next);
    assert_int_equal(found_first, first);
    assert_int_equal(found_next, next);
}

void check_queue(struct engine *engine, uint32_t queue_id, const char *prefix, uint64_t first,
                 uint64_t next)
{
    check_bounds(engine, queue_id, first, next);
    uint64_t seq = first;
    for (;;) {
        struct pull read = {.req = {.queue_id = queue_id, .from_seq = seq}};
        assert_int_equal(pull(engine, &read), 0);
        for (uint16_t i = 0; i < read.req.entry_count; i++, seq++) {
            char expected[TEXT_MAX];
            (void)snprintf(expected, sizeof expected, "%s%" PRIu64, prefix, seq);
            assert_int_equal(read.req.entries[i].seq, seq);
            assert_true(slice_equal(read.req.entries[i].message.payload, slice_str(expected)));
        }
        const bool end = read.req.entry_count == 0;
        store_release(engine->store, &read.req);
        if (end)
            break;
    }
    assert_int_equal(seq, next);
}

static int add_row_text(void *data, struct slice key, struct slice value)
{
    char *text = data;
    const size_t size = strlen(text);
    (void)snprintf(text + size, 1000 - size, "%.*s=%.*s;", (int)key.size, (const char *)key.bytes,
                   (int)value.size, (const char *)value.bytes);
    return 0;
}

void check_rows(struct engine *engine, const char *prefix, const char *expected)
{
    char text[1000] = "";
    assert_int_equal(meta_scan(engine->meta, slice_str(prefix), add_row_text, text), 0);
    assert_string_equal(text, expected);
}

uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}
