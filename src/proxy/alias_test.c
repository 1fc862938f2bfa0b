#include "proxy/alias.h"

#include "base/mem.h"
#include "base/unit.h"

static void topics_are_set_replaced_and_found(void **state)
{
    (void)state;
    struct budget budget = {.max = 1000};
    struct alias_table table = {.max = 3};
    assert_int_equal(alias_get(&table, 3).size, 0);
    assert_int_equal(alias_set(&table, &budget, 3, slice_str("a/b")), 0);
    assert_int_equal(alias_set(&table, &budget, 1, slice_str("c")), 0);
    assert_true(slice_equal(alias_get(&table, 3), slice_str("a/b")));
    assert_int_equal(alias_get(&table, 2).size, 0);
    const uint64_t used = budget.used;
    assert_int_equal(alias_set(&table, &budget, 3, slice_str("d")), 0);
    assert_true(slice_equal(alias_get(&table, 3), slice_str("d")));
    assert_int_equal(budget.used, used - 2);
    table.count = 1;
    assert_int_equal(alias_find(&table, slice_str("c")), 1);
    assert_int_equal(alias_find(&table, slice_str("d")), 0); /* not given by us */
    alias_done(&table, &budget);
    assert_int_equal(budget.used, 0);
}

/* A failure leaves what was set before. */
static void memory_may_be_short(void **state)
{
    (void)state;
    struct budget budget = {.max = 60};
    struct alias_table table = {.max = 3};
    for (uint64_t n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_int_equal(alias_set(&table, &budget, 1, slice_str("abc")), ERR_NOMEM);
    }
    mem_fail_at(0);
    assert_int_equal(alias_set(&table, &budget, 1, slice_str("abc")), 0);
    assert_int_equal(alias_set(&table, &budget, 1, slice_str("0123456789abcdef")), ERR_NOMEM);
    assert_true(slice_equal(alias_get(&table, 1), slice_str("abc")));
    alias_done(&table, &budget);
    struct alias_table wide = {.max = 100};
    assert_int_equal(alias_set(&wide, &budget, 1, slice_str("a")), ERR_NOMEM);
    alias_done(&wide, &budget);
    assert_int_equal(budget.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_are_set_replaced_and_found),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
