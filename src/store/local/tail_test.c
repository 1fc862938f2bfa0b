#include "base/unit.h"

#include "base/mem.h"
#include "store/local/tail.h"

enum { STEP = 1024 };

struct world {
    struct tail tail;
    struct segment *segment;
    uint64_t head;
};

static int set_up(void **state)
{
    struct world *world = mem_new(sizeof *world);
    tail_init(&world->tail, 1024 * 1024);
    world->segment = segment_new(1, 4096, SEGMENT_SIZE_MAX, 1);
    world->head = 4096;
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    tail_done(&world->tail);
    (void)segment_unref(world->segment);
    mem_free(world);
    return 0;
}

/* Lays out pieces of STEP bytes that begin with their position. */
static void lay_out(struct world *world, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *bytes = tail_reserve(&world->tail, world->segment, world->head, STEP);
        assert_non_null(bytes);
        *(uint64_t *)(void *)bytes = world->head;
        world->head += STEP;
    }
}

static void check_from(const struct world *world, uint64_t from)
{
    const struct tail *tail = &world->tail;
    for (uint64_t position = from; position < world->head; position += STEP) {
        const uint32_t n = tail_find(tail, position);
        assert_true(n < tail->count);
        const struct tail_chunk *chunk = tail_chunk(tail, n);
        const uint64_t found = *(uint64_t *)(void *)(chunk->bytes + (position - chunk->base));
        assert_int_equal(found, position);
    }
    assert_int_equal(tail_find(tail, world->head), tail->count);
}

static void the_oldest_goes_first_and_only_when_done(void **state)
{
    struct world *world = *state;
    lay_out(world, 20000); /* 20 MB: the ring grows */
    check_from(world, 4096);
    assert_true(world->tail.count > 64);
    tail_trim(&world->tail, 4096);
    check_from(world, 4096);
    const uint64_t middle = 4096 + 10000 * STEP;
    tail_trim(&world->tail, middle);
    check_from(world, middle);
    assert_int_equal(tail_find(&world->tail, 4096), world->tail.count);
    tail_trim(&world->tail, world->head);
    assert_true(world->tail.bytes <= world->tail.bytes_max);
    check_from(world, world->head - 512 * 1024);
    lay_out(world, 5000);
    tail_trim(&world->tail, world->head);
    check_from(world, world->head - 512 * 1024);
}

static void what_is_cut_off_is_laid_out_anew(void **state)
{
    struct world *world = *state;
    lay_out(world, 1000);
    const uint64_t cut = 4096 + 700 * STEP;
    tail_cut(&world->tail, cut);
    world->head = cut;
    check_from(world, 4096);
    lay_out(world, 300);
    check_from(world, 4096);
    tail_cut(&world->tail, 4096);
    assert_int_equal(world->tail.count, 0);
    assert_int_equal(world->tail.bytes, 0);
}

static void a_large_piece_gets_a_chunk_of_its_own(void **state)
{
    struct world *world = *state;
    lay_out(world, 3);
    assert_non_null(tail_reserve(&world->tail, world->segment, world->head, 3 * TAIL_CHUNK_SIZE));
    world->head += (uint64_t)3 * TAIL_CHUNK_SIZE;
    lay_out(world, 1);
    assert_int_equal(world->tail.count, 3);
}

static void another_segment_begins_another_chunk(void **state)
{
    struct world *world = *state;
    lay_out(world, 3);
    struct segment *next = segment_new(2, world->head, SEGMENT_SIZE_MAX, 1);
    assert_non_null(tail_reserve(&world->tail, next, world->head, STEP));
    (void)segment_unref(next);
    assert_int_equal(world->tail.count, 2);
    assert_ptr_equal(tail_chunk(&world->tail, 1)->segment, next);
}

static void no_memory_changes_nothing(void **state)
{
    struct world *world = *state;
    lay_out(world, 3);
    mem_fail_at(1);
    assert_null(tail_reserve(&world->tail, world->segment, world->head, TAIL_CHUNK_SIZE));
    mem_fail_at(0);
    check_from(world, 4096);
    lay_out(world, 3);
    check_from(world, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_oldest_goes_first_and_only_when_done, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_cut_off_is_laid_out_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_piece_gets_a_chunk_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_segment_begins_another_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_changes_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
