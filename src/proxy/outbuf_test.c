/* The output buffer against a stream that takes as much as the test allows. */
#include "proxy/outbuf.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

struct sink {
    struct stream stream;
    size_t room; /* bytes still taken */
    size_t size;
    int writes, err;
    uint8_t bytes[1 << 20];
};

static ssize_t sink_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct sink *sink = CONTAINER_OF(stream, struct sink, stream);
    size_t taken = 0;
    sink->writes++;
    if (sink->err)
        return sink->err;
    for (int i = 0; i < iov_count && sink->room > 0; i++) {
        const size_t part = MIN(iov[i].iov_len, sink->room);
        memcpy(sink->bytes + sink->size, iov[i].iov_base, part);
        sink->size += part;
        sink->room -= part;
        taken += part;
    }
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

static const struct stream_ops sink_ops = {.name = "sink", .writev = sink_writev};

struct fixture {
    struct sink sink;
    struct budget budget;
    struct out_pool pool;
    struct outbuf out;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    fixture->sink.stream.ops = &sink_ops;
    fixture->sink.room = SIZE_MAX;
    fixture->budget.max = UINT64_MAX;
    out_pool_init(&fixture->pool, &fixture->budget, 2);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    outbuf_clear(&fixture->out, &fixture->pool);
    assert_int_equal(fixture->budget.used, 0);
    out_pool_done(&fixture->pool);
    mem_free(fixture);
    return 0;
}

static void fill(uint8_t *bytes, size_t size)
{
    uint32_t value = 1;
    for (size_t i = 0; i < size; i++) {
        value = value * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(value >> 24);
    }
}

/* Copies, pieces in one, references and oversize pieces come out as one stream, however it is cut.
 */
static void everything_comes_out_in_order(void **state)
{
    struct fixture *fixture = *state;
    enum { COPIED = 10000, PIECE = 6000, KEPT = 9000, ALL = COPIED + PIECE + KEPT + 10 };
    static uint8_t wanted[ALL];
    fill(wanted, ALL);
    for (size_t step = 1; step < 9000; step = step * 3 + 1) {
        struct outbuf *out = &fixture->out;
        fixture->sink.size = 0;
        assert_int_equal(outbuf_add(out, &fixture->pool, wanted, COPIED), 0);
        uint8_t *piece = outbuf_reserve(out, &fixture->pool, PIECE + 100);
        memcpy(piece, wanted + COPIED, PIECE);
        outbuf_commit(out, PIECE);
        struct slice kept;
        assert_int_equal(slice_keep(slice_of(wanted + COPIED + PIECE, KEPT), &kept), 0);
        assert_int_equal(outbuf_add_kept_take(out, &fixture->pool, kept), 0);
        assert_int_equal(outbuf_add(out, &fixture->pool, wanted + ALL - 10, 10), 0);
        assert_int_equal(out->size, ALL);
        while (out->size > 0) {
            fixture->sink.room = step;
            assert_true(outbuf_write(out, &fixture->pool, &fixture->sink.stream, SIZE_MAX) > 0);
        }
        assert_int_equal(fixture->sink.size, ALL);
        assert_memory_equal(fixture->sink.bytes, wanted, ALL);
        assert_null(out->first);
        assert_int_equal(fixture->budget.used, 0);
        assert_true(fixture->pool.count <= 2); /* the pool keeps no more than it may */
    }
}

static void many_small_pieces_are_one_write(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 10000; i++)
        assert_int_equal(outbuf_add(&fixture->out, &fixture->pool, "1234", 4), 0);
    assert_int_equal(outbuf_write(&fixture->out, &fixture->pool, &fixture->sink.stream, SIZE_MAX),
                     40000);
    assert_int_equal(fixture->sink.writes, 1);
}

static void a_limit_ends_the_writing(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t bytes[700000];
    assert_int_equal(outbuf_add(&fixture->out, &fixture->pool, bytes, sizeof bytes), 0);
    const ssize_t n = outbuf_write(&fixture->out, &fixture->pool, &fixture->sink.stream, 100000);
    assert_true(n >= 100000 && n < 500000);
    assert_int_equal(fixture->out.size, sizeof bytes - (size_t)n);
}

static void errors_are_returned(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(outbuf_add(&fixture->out, &fixture->pool, "x", 1), 0);
    fixture->sink.room = 0;
    assert_int_equal(outbuf_write(&fixture->out, &fixture->pool, &fixture->sink.stream, SIZE_MAX),
                     0);
    fixture->sink.err = -32;
    assert_int_equal(outbuf_write(&fixture->out, &fixture->pool, &fixture->sink.stream, SIZE_MAX),
                     -32);
    assert_int_equal(fixture->out.size, 1);
}

/* Room that was reserved but not used does not stay with an idle conn. */
static void unused_room_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    assert_non_null(outbuf_reserve(&fixture->out, &fixture->pool, 10));
    assert_int_equal(outbuf_write(&fixture->out, &fixture->pool, &fixture->sink.stream, SIZE_MAX),
                     0);
    assert_null(fixture->out.first);
    assert_int_equal(fixture->sink.writes, 0);
}

static void burst(struct fixture *fixture, size_t size)
{
    static uint8_t bytes[100 * OUTBUF_CHUNK_SIZE];
    assert_int_equal(outbuf_add(&fixture->out, &fixture->pool, bytes, (uint32_t)size), 0);
    outbuf_clear(&fixture->out, &fixture->pool);
}

/* What a burst took goes when nobody needs it; what is needed again and again stays. */
static void a_burst_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    struct out_pool *pool = &fixture->pool;
    pool->count_max = 1000;
    burst(fixture, 90 * (size_t)OUTBUF_CHUNK_SIZE);
    const uint32_t all = pool->count;
    assert_true(all >= 90);
    assert_int_equal(out_pool_trim(pool, 4), 0); /* all was in use meanwhile */
    burst(fixture, 30 * (size_t)OUTBUF_CHUNK_SIZE);
    const uint64_t freed = out_pool_trim(pool, 4);
    assert_int_equal(freed, (uint64_t)(all - pool->count) * OUTBUF_CHUNK_SIZE);
    assert_in_range(pool->count, 30, 32);
    burst(fixture, 30 * (size_t)OUTBUF_CHUNK_SIZE);
    assert_int_equal(out_pool_trim(pool, 4), 0);
    assert_true(out_pool_trim(pool, 4) > 0);
    assert_int_equal(pool->count, 4);
    assert_int_equal(out_pool_trim(pool, 4), 0);
}

static void out_of_memory_is_told(void **state)
{
    struct fixture *fixture = *state;
    mem_fail_at(1);
    assert_null(outbuf_reserve(&fixture->out, &fixture->pool, 10));
    mem_fail_at(2);
    static uint8_t bytes[10000];
    assert_int_equal(outbuf_add(&fixture->out, &fixture->pool, bytes, sizeof bytes), ERR_NOMEM);
    struct slice kept;
    assert_int_equal(slice_keep(slice_of(bytes, sizeof bytes), &kept), 0);
    mem_fail_at(1);
    assert_int_equal(outbuf_add_kept_take(&fixture->out, &fixture->pool, kept), ERR_NOMEM);
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_comes_out_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_small_pieces_are_one_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_limit_ends_the_writing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_are_returned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unused_room_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_burst_is_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(out_of_memory_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
