#include "broker/pidmap.h"

#include "base/mem.h"
#include "base/unit.h"

static void *value_of(uint32_t pid)
{
    return (void *)(uintptr_t)(pid * 8 + 8);
}

static void put_find_remove(void **state)
{
    (void)state;
    struct pidmap map = {.size = 0};
    assert_null(pidmap_find(&map, 1));
    pidmap_remove(&map, 1);
    pidmap_put(&map, 1, value_of(1));
    pidmap_put(&map, 65535, value_of(65535));
    assert_ptr_equal(pidmap_find(&map, 1), value_of(1));
    assert_ptr_equal(pidmap_find(&map, 65535), value_of(65535));
    assert_null(pidmap_find(&map, 9));
    pidmap_set(&map, 1, value_of(2));
    assert_ptr_equal(pidmap_find(&map, 1), value_of(2));
    pidmap_remove(&map, 1);
    assert_null(pidmap_find(&map, 1));
    assert_int_equal(map.count, 1);
    pidmap_done(&map);
    assert_int_equal(map.count, 0);
}

/* Identifiers that differ only in their high bits do not make the table large. */
static void few_identifiers_stay_small(void **state)
{
    (void)state;
    struct pidmap map = {.size = 0};
    for (uint32_t i = 0; i < 16; i++)
        pidmap_put(&map, (uint16_t)(1 + i * 4096), value_of(i));
    assert_true(map.size <= 64);
    for (uint32_t i = 0; i < 16; i++)
        assert_ptr_equal(pidmap_find(&map, (uint16_t)(1 + i * 4096)), value_of(i));
    pidmap_done(&map);
}

/* A small table stays when it is empty, until it is shrunk; a large one does not. */
static void empty_tables_are_kept_while_small(void **state)
{
    (void)state;
    struct pidmap map = {.size = 0};
    pidmap_put(&map, 7, value_of(7));
    pidmap_shrink(&map); /* not while there is something in it */
    assert_ptr_equal(pidmap_find(&map, 7), value_of(7));
    pidmap_remove(&map, 7);
    assert_true(map.size > 0);
    pidmap_shrink(&map);
    assert_int_equal(map.size, 0);
    for (uint16_t pid = 1; pid <= 1000; pid++)
        pidmap_put(&map, pid, value_of(pid));
    for (uint16_t pid = 1; pid <= 1000; pid++)
        pidmap_remove(&map, pid);
    assert_int_equal(map.size, 0);
}

/* Against a plain array, with identifiers that crowd into the same slots. */
static void random_against_array(void **state)
{
    (void)state;
    static void *model[65536];
    struct pidmap map = {.size = 0};
    uint64_t random = 88172645463325252u;
    for (uint32_t step = 0; step < 200000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint16_t pid =
            (uint16_t)(step % 3 ? (random & 63) * 1024 + 1 + (random >> 32 & 7) : 1 + random % 300);
        if (pid == 0)
            pid = 65535;
        if (!model[pid] && (random >> 40) % 2) {
            model[pid] = value_of(step);
            pidmap_put(&map, pid, model[pid]);
        } else {
            model[pid] = NULL;
            pidmap_remove(&map, pid);
        }
        assert_ptr_equal(pidmap_find(&map, pid), model[pid]);
    }
    uint32_t count = 0;
    for (uint32_t pid = 1; pid < 65536; pid++) {
        assert_ptr_equal(pidmap_find(&map, (uint16_t)pid), model[pid]);
        count += model[pid] != NULL;
    }
    assert_int_equal(map.count, count);
    pidmap_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_find_remove),
        cmocka_unit_test(few_identifiers_stay_small),
        cmocka_unit_test(empty_tables_are_kept_while_small),
        cmocka_unit_test(random_against_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
