#include "base/mem.h"

#include "base/unit.h"

#include <pthread.h>
#include <string.h>

static void new_memory_is_zero(void **state)
{
    (void)state;
    static const uint8_t zeros[1000];
    uint8_t *small = mem_new(sizeof zeros);
    assert_memory_equal(small, zeros, sizeof zeros);
    mem_free(small);
    uint8_t *large = mem_try_zeroed(sizeof zeros);
    assert_non_null(large);
    assert_memory_equal(large, zeros, sizeof zeros);
    mem_free(large);
    mem_free(NULL);
}

static void size_zero_is_not_exhaustion(void **state)
{
    (void)state;
    void *block = mem_try_alloc(0);
    assert_non_null(block);
    block = mem_try_realloc(block, 0);
    assert_non_null(block);
    mem_free(block);
    char *text = mem_try_copy(NULL, 0);
    assert_non_null(text);
    assert_string_equal(text, "");
    mem_free(text);
}

static void impossible_sizes_give_null(void **state)
{
    (void)state;
    assert_null(mem_try_copy("x", SIZE_MAX));
}

static void copies_end_with_nul(void **state)
{
    (void)state;
    char *copy = mem_try_copy("a\0b!", 3);
    assert_non_null(copy);
    assert_memory_equal(copy, "a\0b", 4);
    mem_free(copy);
    copy = mem_strdup("own");
    assert_string_equal(copy, "own");
    mem_free(copy);
}

static void grow_keeps_contents(void **state)
{
    (void)state;
    char *block = mem_grow(NULL, 4);
    memcpy(block, "abc", 4);
    block = mem_grow(block, 4096);
    assert_string_equal(block, "abc");
    mem_free(block);
}

/* The third of these calls fails, alone, whichever of the functions it is. */
static void nth_call_fails_once(void **state)
{
    (void)state;
    for (int offset = 0; offset < 4; offset++) {
        mem_fail_at(3);
        for (int call = 1; call <= 6; call++) {
            void *block = NULL;
            switch ((call + offset) % 4) {
            case 0:
                block = mem_try_alloc(8);
                break;
            case 1:
                block = mem_try_zeroed(8);
                break;
            case 2:
                block = mem_try_realloc(NULL, 8);
                break;
            default:
                block = mem_try_copy("copy", 4);
                break;
            }
            assert_int_equal(block == NULL, call == 3);
            mem_free(block);
        }
    }
}

static void failed_realloc_leaves_the_block(void **state)
{
    (void)state;
    char *block = mem_try_copy("stay", 4);
    mem_fail_at(1);
    assert_null(mem_try_realloc(block, 4096));
    assert_string_equal(block, "stay");
    mem_free(block);
}

static void zero_switches_injection_off(void **state)
{
    (void)state;
    mem_fail_at(1);
    mem_fail_at(0);
    void *block = mem_try_alloc(1);
    assert_non_null(block);
    mem_free(block);
}

static void *alloc_in_thread(void *data)
{
    void **ret_block = data;
    *ret_block = mem_try_alloc(1);
    return NULL;
}

static void injection_is_of_this_thread_only(void **state)
{
    (void)state;
    mem_fail_at(1);
    pthread_t thread;
    void *block = NULL;
    assert_int_equal(pthread_create(&thread, NULL, alloc_in_thread, (void *)&block), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(block);
    mem_free(block);
    assert_null(mem_try_alloc(1));
}

/* What this thread holds is counted to the byte, whichever function gave it. */
static void what_is_in_use_is_counted(void **state)
{
    (void)state;
    const uint64_t before = mem_used();
    void *blocks[] = {
        mem_new(1000),        mem_grow(NULL, 3000),   mem_try_alloc(1 << 20),
        mem_try_zeroed(5000), mem_try_copy("abc", 3), mem_strdup("a string"),
    };
    const uint64_t held = mem_used() - before;
    const uint64_t asked = 1000 + 3000 + (1 << 20) + 5000 + 4 + 9;
    assert_true(held >= asked);
    assert_true(held <= asked + ARRAY_COUNT(blocks) * 64 + 8192); /* pages, of the large one */
    blocks[2] = mem_try_realloc(blocks[2], 2 << 20);
    assert_non_null(blocks[2]);
    assert_true(mem_used() - before >= asked + (1 << 20));
    mem_fail_at(1);
    assert_null(mem_try_realloc(blocks[0], 4096));
    for (size_t i = 0; i < ARRAY_COUNT(blocks); i++)
        mem_free(blocks[i]);
    assert_int_equal(mem_used(), before);
}

enum { UNTOLD_BY_ENDED_THREADS = 1024 };

/* A block that another thread frees is no longer in use here. */
static void *free_in_thread(void *data)
{
    mem_free(data);
    return NULL;
}

static void blocks_of_other_threads_are_counted(void **state)
{
    (void)state;
    void *kept = mem_new(UNTOLD_BY_ENDED_THREADS); /* so that the sum is not below zero */
    const uint64_t before = mem_used();
    void *block = mem_try_alloc(1 << 20);
    assert_true(mem_used() >= before + (1 << 20));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_in_thread, block), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(mem_used(), before);
    mem_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zero),
        cmocka_unit_test(size_zero_is_not_exhaustion),
        cmocka_unit_test(impossible_sizes_give_null),
        cmocka_unit_test(copies_end_with_nul),
        cmocka_unit_test(grow_keeps_contents),
        cmocka_unit_test(nth_call_fails_once),
        cmocka_unit_test(failed_realloc_leaves_the_block),
        cmocka_unit_test(zero_switches_injection_off),
        cmocka_unit_test(injection_is_of_this_thread_only),
        cmocka_unit_test(what_is_in_use_is_counted),
        cmocka_unit_test(blocks_of_other_threads_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
