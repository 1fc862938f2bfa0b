#include "base/buf.h"

#include "base/mem.h"
#include "base/unit.h"

#include <pthread.h>
#include <string.h>

static struct buf *buf_filled(uint32_t size)
{
    struct buf *buf = buf_try_new(size);
    assert_non_null(buf);
    for (uint32_t i = 0; i < size; i++)
        buf_bytes(buf)[i] = (uint8_t)i;
    return buf;
}

static struct slice slice_in(struct buf *buf, uint32_t offset, uint32_t size)
{
    return (struct slice){.bytes = buf_bytes(buf) + offset, .size = size, .buf = buf};
}

static void new_buf_knows_its_size(void **state)
{
    (void)state;
    struct buf *buf = buf_filled(100);
    assert_int_equal(buf_size(buf), 100);
    assert_ptr_equal(buf_ref(buf), buf);
    assert_null(buf_unref(buf));
    assert_int_equal(buf_bytes(buf)[99], 99);
    assert_null(buf_unref(buf));
    assert_null(buf_unref(NULL));
    buf = buf_filled(0);
    assert_int_equal(buf_size(buf), 0);
    (void)buf_unref(buf);
    mem_fail_at(1);
    assert_null(buf_try_new(1));
}

/* 1,000 bytes: 125 are an eighth and share the buf, 124 are copied out of it. */
static void keep_shares_from_an_eighth_on(void **state)
{
    (void)state;
    struct buf *buf = buf_filled(1000);
    struct slice shared, copied;
    assert_int_equal(slice_keep(slice_in(buf, 10, 125), &shared), 0);
    assert_ptr_equal(shared.buf, buf);
    assert_ptr_equal(shared.bytes, buf_bytes(buf) + 10);
    assert_int_equal(slice_keep(slice_in(buf, 10, 124), &copied), 0);
    assert_ptr_not_equal(copied.buf, buf);
    assert_true(slice_equal(copied, slice_in(buf, 10, 124)));
    (void)buf_unref(buf);
    assert_int_equal(shared.bytes[0], 10); /* the slice's reference is the last */
    slice_done(&shared);
    assert_null(shared.buf);
    assert_int_equal(shared.size, 0);
    slice_done(&shared);
    assert_int_equal(copied.bytes[0], 10);
    slice_done(&copied);
}

static void keep_copies_borrowed_bytes(void **state)
{
    (void)state;
    char text[] = "borrowed";
    struct slice kept;
    assert_int_equal(slice_keep(slice_str(text), &kept), 0);
    memset(text, 'x', sizeof text - 1);
    assert_true(slice_equal(kept, slice_str("borrowed")));
    slice_done(&kept);
}

static void keep_of_nothing_needs_no_memory(void **state)
{
    (void)state;
    struct slice kept;
    mem_fail_at(1);
    assert_int_equal(slice_keep((struct slice){0}, &kept), 0);
    mem_fail_at(0);
    assert_int_equal(kept.size, 0);
    assert_non_null(kept.bytes);
    slice_done(&kept);
}

static void keep_without_memory_leaves_the_result(void **state)
{
    (void)state;
    struct slice kept = slice_str("before");
    mem_fail_at(1);
    assert_int_equal(slice_keep(slice_str("text"), &kept), ERR_NOMEM);
    assert_true(slice_equal(kept, slice_str("before")));
}

static void equality_is_of_bytes(void **state)
{
    (void)state;
    assert_true(slice_equal(slice_str(""), (struct slice){0}));
    assert_true(slice_equal(slice_of("a\0b", 3), slice_of("a\0b", 3)));
    assert_false(slice_equal(slice_of("a\0b", 3), slice_of("a\0c", 3)));
    assert_false(slice_equal(slice_str("ab"), slice_str("abc")));
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *ref_and_unref(void *data)
{
    struct buf *buf = data;
    for (int i = 0; i < ROUNDS; i++) {
        (void)buf_ref(buf);
        (void)buf_unref(buf);
    }
    return buf_unref(buf);
}

static void order_is_of_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool begins; /* b with a */
    } rows[] = {
        {"", "a", true},    {"a", "aa", true},    {"a", "b", false},
        {"ab", "b", false}, {"a", "\xff", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct slice a = slice_str(rows[i].a), b = slice_str(rows[i].b);
        assert_true(slice_order(a, b) < 0);
        assert_true(slice_order(b, a) > 0);
        assert_int_equal(slice_order(a, a), 0);
        assert_int_equal(slice_begins_with(b, a), rows[i].begins);
        assert_false(slice_begins_with(a, b));
        assert_true(slice_begins_with(a, a));
    }
    const struct slice none = slice_of(NULL, 0);
    assert_int_equal(slice_order(none, none), 0);
    assert_true(slice_order(none, slice_of("\0", 1)) < 0);
    assert_true(slice_begins_with(none, none));
}

/* The last of four threads frees, whoever that is; a sanitizer build sees any other outcome. */
static void references_are_counted_across_threads(void **state)
{
    (void)state;
    struct buf *buf = buf_filled(64);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, buf_ref(buf)), 0);
    }
    (void)buf_unref(buf);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_buf_knows_its_size),
        cmocka_unit_test(keep_shares_from_an_eighth_on),
        cmocka_unit_test(keep_copies_borrowed_bytes),
        cmocka_unit_test(keep_of_nothing_needs_no_memory),
        cmocka_unit_test(keep_without_memory_leaves_the_result),
        cmocka_unit_test(equality_is_of_bytes),
        cmocka_unit_test(order_is_of_bytes),
        cmocka_unit_test(references_are_counted_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
