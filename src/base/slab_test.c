#include "base/slab.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { OBJECTS = 40000, SIZE = 300 }; /* six blocks */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static bool is_filled(const uint8_t *object, int byte)
{
    for (uint32_t i = 0; i < SIZE; i++) {
        if (object[i] != byte)
            return false;
    }
    return true;
}

/* Objects come zeroed and aligned, keep what is in them, and do not overlap. */
static void objects_are_apart(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, SIZE);
    uint8_t **objects = mem_new(OBJECTS * sizeof *objects);
    uint64_t random = 7;
    for (uint32_t step = 0; step < 5 * OBJECTS; step++) {
        const uint32_t n = next_random(&random) % OBJECTS;
        if (objects[n]) {
            assert_true(is_filled(objects[n], (int)(n % 251 + 1)));
            slab_free(&slab, objects[n]);
            objects[n] = NULL;
        } else {
            objects[n] = slab_new(&slab);
            assert_int_equal((uintptr_t)objects[n] % 8, 0);
            assert_true(is_filled(objects[n], 0));
            memset(objects[n], (int)(n % 251 + 1), SIZE);
        }
    }
    for (uint32_t n = 0; n < OBJECTS; n++) {
        assert_true(!objects[n] || is_filled(objects[n], (int)(n % 251 + 1)));
        slab_free(&slab, objects[n]);
    }
    slab_free(&slab, NULL);
    assert_int_equal(slab.in_use, 0);
    slab_done(&slab);
    mem_free(objects);
}

/* What is in use counts as memory in use, and no more. */
static void memory_is_counted(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, SIZE);
    void **objects = mem_new(OBJECTS * sizeof *objects);
    const uint64_t before = mem_used();
    for (uint32_t n = 0; n < OBJECTS; n++)
        objects[n] = slab_new(&slab);
    assert_true(mem_used() - before >= (uint64_t)OBJECTS * SIZE);
    assert_true(mem_used() - before < (uint64_t)OBJECTS * (SIZE + 32));
    for (uint32_t n = 0; n < OBJECTS; n++)
        slab_free(&slab, objects[n]);
    assert_int_equal(mem_used(), before);
    slab_done(&slab);
    mem_free(objects);
}

/* Blocks go back as they become empty, but one, which is used again. */
static void empty_blocks_go_back(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, SIZE);
    void **objects = mem_new(OBJECTS * sizeof *objects);
    for (uint32_t n = 0; n < OBJECTS; n++)
        objects[n] = slab_new(&slab);
    const uint32_t full = slab.block_count;
    for (uint32_t n = 0; n < OBJECTS; n++)
        slab_free(&slab, objects[n]);
    assert_true(slab.block_count <= 1 && slab.block_count <= full);
    const uint32_t left = slab.block_count;
    for (uint32_t turn = 0; turn < 10; turn++) {
        slab_free(&slab, slab_new(&slab));
        assert_int_equal(slab.block_count, left);
    }
    slab_done(&slab);
    assert_int_equal(slab.block_count, 0);
    mem_free(objects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_apart),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(empty_blocks_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
