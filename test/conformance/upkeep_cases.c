#include "cases.h"
#include "harness.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct store_stats stats_of(struct engine *engine)
{
    struct store_stats stats;
    engine->store->ops->stats(engine->store, &stats);
    return stats;
}

static void a_restart_keeps_everything_acknowledged(void **state)
{
    struct engine *engine = *state;
    uint64_t next = 0;
    for (int round = 0; round < 6; round++) {
        append_many(engine, 1, 5, "m", next, next + 500);
        next += 500;
        restart(engine, round % 2);
        check_queue(engine, 5, "m", 0, next);
        check_queue(engine, 1, "m", 0, next);
    }
    restart(engine, true);
    restart(engine, true);
    check_queue(engine, 5, "m", 0, next);
}

/* Positions rise over restarts too: what points at a message never finds another. */
static void positions_are_not_used_again(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_id = 5;
    uint64_t last = 0;
    for (int round = 0; round < 4; round++) {
        struct ack acks[10] = {0};
        const struct message message = plain_message(1, "m");
        for (size_t i = 0; i < ARRAY_COUNT(acks); i++)
            assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
        wait_all(engine);
        for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
            assert_true(acks[i].position > last);
            assert_true(acks[i].position < STORE_POSITION_NONE);
            last = acks[i].position;
        }
        assert_true(stats_of(engine).head_position > last);
        restart(engine, round % 2);
        assert_true(stats_of(engine).head_position > last);
    }
}

/* Of what is lazy a crash leaves a beginning; what is durable takes all before it along. */
static void a_crash_leaves_a_beginning(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 20);
    struct ack *acks = mem_new(60 * sizeof *acks);
    const uint32_t queue_id = 5;
    for (uint32_t i = 0; i < 60; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%u", 20 + i);
        const struct message message = plain_message(1, payload);
        acks[i].req.level = i == 29 ? STORE_SYNC : STORE_LAZY;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
    }
    wait_all(engine);
    check_queue(engine, 5, "m", 0, 80);
    restart(engine, true);
    mem_free(acks);
    uint64_t first, next;
    store_queue_bounds(engine->store, 5, &first, &next);
    assert_in_range(next, 50, 80);
    check_queue(engine, 5, "m", 0, next);
    check_queue(engine, 1, "m", 0, next);
    append_many(engine, 1, 5, "m", next, next + 5);
    check_queue(engine, 5, "m", 0, next + 5);
}

static void an_orderly_end_keeps_lazy_appends_too(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_id = 5;
    const struct meta_op op = {.kind = META_PUT, .key = slice_str("a"), .value = slice_str("1")};
    for (uint32_t i = 0; i < 5; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%u", i);
        const struct message message = plain_message(1, payload);
        struct store_append req = {.message = &message,
                                   .queue_ids = &queue_id,
                                   .queue_count = 1,
                                   .ops = &op,
                                   .op_count = 1,
                                   .level = STORE_LAZY};
        assert_int_equal(store_append(engine->store, &req), 0);
    }
    restart(engine, false);
    check_queue(engine, 5, "m", 0, 5);
    check_rows(engine, "", "a=1;");
}

/* Each pending append ends, once, and is there afterwards if it was acknowledged. */
static void closing_ends_what_is_pending(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 100 };
    struct ack *acks = mem_new(COUNT * sizeof *acks);
    const uint32_t queue_id = 5;
    for (uint32_t i = 0; i < COUNT; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%u", i);
        const struct message message = plain_message(1, payload);
        acks[i].req.level = i % 2 ? STORE_SYNC : STORE_LAZY;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
    }
    const uint64_t submitted = engine->append_count;
    restart(engine, false);
    assert_int_equal(engine->done_count, submitted);
    uint64_t acknowledged = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(acks[i].err == 0 || acks[i].err == -ECANCELED);
        if (acks[i].err == 0)
            assert_int_equal(acknowledged++, i);
    }
    uint64_t first, next;
    store_queue_bounds(engine->store, 5, &first, &next);
    assert_in_range(next, acknowledged, COUNT);
    check_queue(engine, 5, "m", 0, next);
    mem_free(acks);
}

static void a_dropped_queue_is_forgotten(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 50);
    append_many(engine, 1, 6, "n", 0, 50);
    struct ack ack = {0};
    const uint32_t queue_ids[] = {5, 6};
    const struct message message = plain_message(1, "n50");
    assert_int_equal(submit_message(engine, &ack, &message, queue_ids, 2), 0);
    wait_for(engine, &ack.done);
    store_queue_drop(engine->store, 5);
    check_bounds(engine, 5, 0, 0);
    for (int round = 0; round < 3; round++) {
        struct pull read = {.req = {.queue_id = 5}};
        assert_int_equal(pull(engine, &read), 0);
        assert_int_equal(read.req.entry_count, 0);
        store_release(engine->store, &read.req);
        check_bounds(engine, 5, 0, 0);
        const uint64_t next = 51 + (uint64_t)round * 5;
        check_queue(engine, 6, "n", 0, next);
        struct pull get = {.req = {.position = ack.position}};
        assert_int_equal(pull(engine, &get), 0);
        assert_int_equal(get.req.entry_count, 1);
        store_release(engine->store, &get.req);
        append_many(engine, 1, 6, "n", next, next + 5);
        restart(engine, round == 0);
    }
}

/* Entries of a queue may be under way while it is dropped. */
static void a_queue_can_be_dropped_under_appends(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_ids[] = {5, 6};
    struct ack acks[20] = {0};
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%zu", i);
        const struct message message = plain_message(1, payload);
        assert_int_equal(submit_message(engine, &acks[i], &message, queue_ids, 2), 0);
    }
    store_queue_drop(engine->store, 5);
    wait_all(engine);
    append_many(engine, 1, 6, "m", 20, 21);
    check_bounds(engine, 5, 0, 0);
    check_queue(engine, 6, "m", 0, 21);
    restart(engine, true);
    check_bounds(engine, 5, 0, 0);
    check_queue(engine, 6, "m", 0, 21);
}

/* --- retention ------------------------------------------------------------------------------ */

struct retention {
    struct engine *engine;
    bool asked;
    uint64_t position;
    uint32_t asked_count;
};

static void on_trim(void *data, uint64_t position)
{
    struct retention *retention = data;
    assert_false(retention->asked);
    retention->asked = true;
    retention->asked_count++;
    retention->position = position;
}

static void watch(struct engine *engine, struct retention *retention)
{
    const struct store_watcher watcher = {.on_trim = on_trim, .data = retention};
    retention->engine = engine;
    engine->store->ops->watch(engine->store, &watcher);
}

enum { BIG_SIZE = 100 * 1000 };

/* Appends big messages, whose payloads begin with their number, to queue 5 until a trim is asked
 * for. Returns how many there are now. */
static uint64_t append_until_asked(struct engine *engine, struct retention *retention,
                                   uint64_t *positions, uint64_t from, uint64_t end)
{
    static char payload[BIG_SIZE];
    const uint32_t queue_id = 5;
    memset(payload, '.', sizeof payload);
    uint64_t n = from;
    for (; n < end && !retention->asked; n++) {
        memcpy(payload, &n, sizeof n);
        struct message message = plain_message(1, "");
        message.payload = slice_of(payload, sizeof payload);
        struct ack ack = {0};
        assert_int_equal(submit_message(engine, &ack, &message, &queue_id, 1), 0);
        wait_for(engine, &ack.done);
        assert_int_equal(ack.err, 0);
        assert_int_equal(ack.seqs[0], n);
        positions[n] = ack.position;
        if (n == from + 60)
            engine_kind.make_trim(engine);
    }
    assert_true(retention->asked);
    return n;
}

static void check_big(struct engine *engine, uint64_t first, uint64_t next)
{
    check_bounds(engine, 5, first, next);
    uint64_t seq = 0; /* below the first kept: reading begins there */
    while (seq < next) {
        struct pull read = {.req = {.queue_id = 5, .from_seq = seq}};
        assert_int_equal(pull(engine, &read), 0);
        assert_true(read.req.entry_count > 0);
        seq = MAX(seq, first);
        for (uint16_t i = 0; i < read.req.entry_count; i++, seq++) {
            uint64_t number;
            memcpy(&number, read.req.entries[i].message.payload.bytes, sizeof number);
            assert_int_equal(read.req.entries[i].seq, seq);
            assert_int_equal(number, seq);
        }
        store_release(engine->store, &read.req);
    }
}

static void wait_trimmed(struct engine *engine, uint64_t position)
{
    for (int i = 0; i < 1000 && stats_of(engine).first_position < position; i++)
        assert_int_equal(loop_turn(engine->loop, 10), 0);
    assert_true(stats_of(engine).first_position >= position);
}

/* How many of the positions lie below. */
static uint64_t count_below(const uint64_t *positions, uint64_t count, uint64_t position)
{
    uint64_t below = 0;
    while (below < count && positions[below] < position)
        below++;
    return below;
}

/* Nothing goes before the owner has answered, and then only what lies below the position; numbers
 * go on, rows and other queues stay, and what was trimmed is told apart from what never was. */
static void a_trim_waits_for_the_owner(void **state)
{
    struct engine *engine = *state;
    enum { COUNT_MAX = 400 };
    uint64_t *positions = mem_new(COUNT_MAX * sizeof *positions);
    struct retention retention = {0};
    watch(engine, &retention);
    write_row(engine, META_PUT, slice_str("row"), slice_str("kept"));
    append_many(engine, 1, 7, "gone", 0, 3);
    uint64_t count = append_until_asked(engine, &retention, positions, 0, COUNT_MAX);
    assert_true(retention.position > positions[0]);
    assert_true(retention.position <= stats_of(engine).head_position);
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_turn(engine->loop, 5), 0);
    check_big(engine, 0, count);
    check_queue(engine, 7, "gone", 0, 3);

    /* the owner carries over what must live */
    struct ack copy = {0};
    struct message message = plain_message(1, "copied");
    message.flags = MESSAGE_COPY;
    message.origin = positions[0];
    assert_int_equal(submit_message(engine, &copy, &message, NULL, 0), 0);
    wait_for(engine, &copy.done);

    retention.asked = false;
    const uint64_t trimmed = retention.position;
    store_trim_go(engine->store);
    wait_trimmed(engine, trimmed);
    for (int round = 0; round < 3; round++) {
        check_big(engine, count_below(positions, count, trimmed), count);
        check_bounds(engine, 7, 3, 3);
        struct pull get = {.req = {.position = positions[0]}};
        assert_int_equal(pull(engine, &get), ERR_TRIMMED);
        store_release(engine->store, &get.req);
        get = (struct pull){.req = {.position = copy.position}};
        assert_int_equal(pull(engine, &get), 0);
        assert_int_equal(get.req.entries[0].message.origin, positions[0]);
        assert_true(slice_equal(get.req.entries[0].message.payload, slice_str("copied")));
        store_release(engine->store, &get.req);
        restart(engine, round == 0);
        check_rows(engine, "", "row=kept;");
    }
    append_many(engine, 1, 7, "gone", 3, 4);
    mem_free(positions);
}

/* A read that goes on while its entries are freed gets what is kept, or what there was. */
static void reads_go_on_over_a_trim(void **state)
{
    struct engine *engine = *state;
    enum { COUNT_MAX = 400 };
    uint64_t *positions = mem_new(COUNT_MAX * sizeof *positions);
    struct retention retention = {0};
    watch(engine, &retention);
    const uint64_t count = append_until_asked(engine, &retention, positions, 0, COUNT_MAX);
    struct pull held = {.req = {.queue_id = 5, .entries_max = 3}};
    assert_int_equal(pull(engine, &held), 0);
    retention.asked = false;
    store_trim_go(engine->store);
    wait_trimmed(engine, retention.position);
    assert_true(held.req.entry_count > 0);
    for (uint16_t i = 0; i < held.req.entry_count; i++) {
        uint64_t number;
        memcpy(&number, held.req.entries[i].message.payload.bytes, sizeof number);
        assert_int_equal(number, i);
    }
    store_release(engine->store, &held.req);
    check_big(engine, count_below(positions, count, retention.position), count);
    mem_free(positions);
}

/* --- pressure ------------------------------------------------------------------------------ */

static void on_drained(void *data)
{
    ++*(uint32_t *)data;
}

/* More than should wait: pressure is told; much more: refused; then it ends, and is told to end. */
static void pressure_comes_and_goes(void **state)
{
    struct engine *engine = *state;
    enum { COUNT_MAX = 4000 };
    static char payload[10 * 1000];
    uint32_t drained_count = 0;
    const struct store_watcher watcher = {.on_drained = on_drained, .data = &drained_count};
    engine->store->ops->watch(engine->store, &watcher);
    struct ack *acks = mem_new(COUNT_MAX * sizeof *acks);
    const uint32_t queue_id = 5;
    struct message message = plain_message(1, "");
    message.payload = slice_of(payload, sizeof payload);
    assert_false(store_pressure(engine->store));
    uint32_t count = 0, first_pressed = 0;
    int err = 0;
    while (count < COUNT_MAX) {
        err = submit_message(engine, &acks[count], &message, &queue_id, 1);
        if (err < 0)
            break;
        count++;
        if (first_pressed == 0 && store_pressure(engine->store))
            first_pressed = count;
    }
    assert_int_equal(err, ERR_FULL);
    assert_true(first_pressed > 0);
    assert_true(first_pressed < count);
    assert_int_equal(drained_count, 0);
    wait_all(engine);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(acks[i].err, 0);
    assert_false(acks[count].done);
    assert_int_equal(drained_count, 1);
    assert_false(store_pressure(engine->store));
    check_bounds(engine, 5, 0, count);
    assert_int_equal(submit_message(engine, &acks[count], &message, &queue_id, 1), 0);
    wait_all(engine);
    assert_int_equal(acks[count].seqs[0], count);
    assert_int_equal(drained_count, 1);
    mem_free(acks);
}

int upkeep_cases(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(a_restart_keeps_everything_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(positions_are_not_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_crash_leaves_a_beginning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_orderly_end_keeps_lazy_appends_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_ends_what_is_pending, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dropped_queue_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_queue_can_be_dropped_under_appends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trim_waits_for_the_owner, set_up_small_retention,
                                        tear_down),
        cmocka_unit_test_setup_teardown(reads_go_on_over_a_trim, set_up_small_retention, tear_down),
        cmocka_unit_test_setup_teardown(pressure_comes_and_goes, set_up_low_pressure, tear_down),
    };
    return cmocka_run_group_tests_name("upkeep", cases, NULL, NULL);
}
