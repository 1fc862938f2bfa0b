/* Bytes of a stream against a plain array. */
#include "net/quic_fifo.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

#define TOTAL (20 * QUIC_CHUNK_SIZE)

static uint8_t plain[TOTAL];

static void fill(void)
{
    for (size_t i = 0; i < TOTAL; i++)
        plain[i] = (uint8_t)(i * 7 + i / 251);
}

/* What can be seen from `position` on is what was pushed. */
static void expect_rest(const struct quic_fifo *fifo, uint64_t position)
{
    struct iovec iov[32];
    const int count = quic_fifo_look(fifo, position, iov, 32);
    for (int i = 0; i < count; i++) {
        assert_memory_equal(iov[i].iov_base, plain + position, iov[i].iov_len);
        position += iov[i].iov_len;
    }
    assert_int_equal(position, fifo->end);
}

static void bytes_stay_until_released(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, QUIC_CHUNK_SIZE - 1, QUIC_CHUNK_SIZE,
                                   3, 2 * QUIC_CHUNK_SIZE, 0};
    struct quic_fifo fifo = {0};
    struct iovec first;
    const uint64_t before = mem_used();
    fill();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
        assert_int_equal(quic_fifo_push(&fifo, plain + fifo.end, sizes[i]), 0);
    assert_int_equal(quic_fifo_look(&fifo, 1, &first, 1), 1);
    const uint8_t *there = first.iov_base;
    for (uint64_t position = 0; position < fifo.end; position += 777)
        expect_rest(&fifo, position);
    assert_int_equal(quic_fifo_look(&fifo, fifo.end, &first, 1), 0);
    assert_int_equal(quic_fifo_push(&fifo, plain + fifo.end, 5 * QUIC_CHUNK_SIZE), 0);
    assert_int_equal(quic_fifo_look(&fifo, 1, &first, 1), 1);
    assert_ptr_equal(first.iov_base, there);
    for (uint64_t position = 0; position < fifo.end; position += 501) {
        quic_fifo_release(&fifo, position);
        expect_rest(&fifo, position);
        assert_int_equal(quic_fifo_size(&fifo), fifo.end - position);
    }
    quic_fifo_release(&fifo, 1); /* again, and less: nothing changes */
    quic_fifo_clear(&fifo);
    assert_int_equal(quic_fifo_size(&fifo), 0);
    assert_int_equal(mem_used(), before);
}

static void bytes_go_through(void **state)
{
    (void)state;
    struct quic_fifo fifo = {0};
    uint8_t room[3000];
    uint64_t taken = 0;
    fill();
    while (taken < TOTAL) {
        const size_t part = MIN((size_t)5000, (size_t)(TOTAL - fifo.end));
        assert_int_equal(quic_fifo_push(&fifo, plain + fifo.end, part), 0);
        const size_t got = quic_fifo_pop(&fifo, room, taken % sizeof room + 1);
        assert_memory_equal(room, plain + taken, got);
        taken += got;
        while (part == 0 && quic_fifo_size(&fifo) > 0)
            taken += quic_fifo_pop(&fifo, room, sizeof room);
    }
    assert_int_equal(quic_fifo_pop(&fifo, room, sizeof room), 0);
    assert_null(fifo.first);
}

static void without_memory_nothing_is_added(void **state)
{
    (void)state;
    struct quic_fifo fifo = {0};
    const uint64_t before = mem_used();
    for (uint64_t n = 1; n <= 3; n++) {
        mem_fail_at(n);
        assert_int_equal(quic_fifo_push(&fifo, plain, 3 * QUIC_CHUNK_SIZE), ERR_NOMEM);
        assert_int_equal(quic_fifo_size(&fifo), 0);
    }
    mem_fail_at(0);
    assert_int_equal(mem_used(), before);
    assert_int_equal(quic_fifo_push(&fifo, plain, 3 * QUIC_CHUNK_SIZE), 0);
    quic_fifo_clear(&fifo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_stay_until_released),
        cmocka_unit_test(bytes_go_through),
        cmocka_unit_test(without_memory_nothing_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
