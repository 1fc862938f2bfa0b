#include "base/hashmap.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { KEYS = 4000 };

struct item {
    struct hashnode node;
    uint32_t key;
    uint32_t seen;
};

/* The naive model: which keys are in the map, and as which item. */
struct model {
    struct item *items[KEYS];
    uint32_t count;
};

static bool match_key(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, const struct item, node)->key == *(const uint32_t *)key;
}

/* Few distinct hashes make long chains and equal hashes; the masks below choose. */
static uint64_t hash_of(uint32_t key, uint64_t hash_mask)
{
    return hash_u64(key) & hash_mask;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void check_find(const struct hashmap *map, const struct model *model, uint32_t key,
                       uint64_t hash_mask)
{
    const struct hashnode *node = hashmap_find(map, hash_of(key, hash_mask), match_key, &key);
    assert_ptr_equal(node, model->items[key] ? &model->items[key]->node : NULL);
}

/* Walks the map, removing a third of the nodes on the way when asked to. */
static void check_walk(struct hashmap *map, struct model *model, bool removing)
{
    uint64_t pos = 0;
    uint32_t seen = 0;
    const uint32_t before = model->count;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(map, &pos, node))) {
        struct item *item = CONTAINER_OF(node, struct item, node);
        assert_ptr_equal(model->items[item->key], item);
        assert_int_equal(item->seen++, 0);
        seen++;
        if (removing && item->key % 3 == 0) {
            hashmap_remove(map, node);
            model->items[item->key] = NULL;
            model->count--;
            mem_free(item);
        }
    }
    assert_int_equal(seen, before);
    assert_int_equal(map->count, model->count);
    for (uint32_t key = 0; key < KEYS; key++) {
        if (model->items[key])
            model->items[key]->seen = 0;
    }
}

static void toggle(struct hashmap *map, struct model *model, uint32_t key, uint64_t hash_mask)
{
    struct item *item = model->items[key];
    if (item) {
        hashmap_remove(map, &item->node);
        mem_free(item);
        model->items[key] = NULL;
        model->count--;
        return;
    }
    item = mem_new(sizeof *item);
    item->key = key;
    hashmap_insert(map, &item->node, hash_of(key, hash_mask));
    model->items[key] = item;
    model->count++;
}

static void play(uint64_t seed, uint64_t hash_mask, uint32_t fail_every)
{
    struct hashmap map;
    struct model *model = mem_new(sizeof *model);
    hashmap_init(&map);
    for (uint32_t step = 0; step < 20000; step++) {
        const uint32_t key_range = step < 10000 ? 100 + step / 3 : KEYS;
        const uint32_t key = next_random(&seed) % MIN(key_range, (uint32_t)KEYS);
        if (fail_every > 0 && step % fail_every == 0)
            mem_fail_at(1);
        toggle(&map, model, key, hash_mask);
        assert_int_equal(map.count, model->count);
        check_find(&map, model, key, hash_mask);
        check_find(&map, model, next_random(&seed) % KEYS, hash_mask);
        if (step % 2500 == 2499)
            check_walk(&map, model, step % 5000 == 4999);
    }
    mem_fail_at(0);
    for (uint32_t key = 0; key < KEYS; key++) {
        check_find(&map, model, key, hash_mask);
        if (model->items[key])
            toggle(&map, model, key, hash_mask);
    }
    assert_int_equal(map.count, 0);
    hashmap_done(&map);
    mem_free(model);
}

static void agrees_with_a_naive_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        play(seed, UINT64_MAX, 0);
}

static void agrees_when_hashes_collide(void **state)
{
    (void)state;
    play(11, 0x3f, 0);
    play(12, 0, 0);
    play(13, 0xffffff0000000000u, 0); /* equal low bits: one bucket for all */
}

static void lives_without_memory_for_a_bigger_table(void **state)
{
    (void)state;
    play(21, UINT64_MAX, 1);
    play(22, UINT64_MAX, 7);
}

static void empty_map_answers(void **state)
{
    (void)state;
    struct hashmap map;
    const uint32_t key = 1;
    uint64_t pos = 0;
    hashmap_init(&map);
    assert_null(hashmap_find(&map, hash_u64(key), match_key, &key));
    assert_null(hashmap_next(&map, &pos, NULL));
    hashmap_done(&map);
    hashmap_done(&map);
}

/* No insert moves more than a few buckets: the old table shrinks step by step. */
static void growth_is_incremental(void **state)
{
    (void)state;
    struct hashmap map;
    struct item *items = mem_new(KEYS * sizeof *items);
    hashmap_init(&map);
    bool grew = false;
    for (uint32_t key = 0; key < KEYS; key++) {
        const bool moving = map.old != NULL;
        const uint64_t moved = map.moved;
        items[key].key = key;
        hashmap_insert(&map, &items[key].node, hash_u64(key));
        if (moving && map.old)
            assert_true(map.moved - moved <= 4);
        grew = grew || map.old;
        assert_true(map.count <= (map.mask + 1) * 2);
    }
    assert_true(grew);
    hashmap_done(&map);
    mem_free(items);
}

static void reserved_room_needs_no_growth(void **state)
{
    (void)state;
    struct hashmap map;
    hashmap_init(&map);
    hashmap_reserve(&map, KEYS);
    struct item *items = mem_new(KEYS * sizeof *items);
    for (uint32_t key = 0; key < KEYS; key++) {
        items[key].key = key;
        hashmap_insert(&map, &items[key].node, hash_u64(key));
        assert_null(map.old);
    }
    hashmap_reserve(&map, KEYS * 10); /* too late: it is left as it is */
    for (uint32_t key = 0; key < KEYS; key++)
        assert_non_null(hashmap_find(&map, hash_u64(key), match_key, &key));
    hashmap_done(&map);
    mem_fail_at(1);
    hashmap_reserve(&map, KEYS);
    assert_null(map.buckets);
    hashmap_insert(&map, &items[0].node, hash_u64(0));
    hashmap_done(&map);
    mem_free(items);
}

static void hash_depends_on_every_byte_and_the_seed(void **state)
{
    (void)state;
    uint8_t bytes[300];
    memset(bytes, 7, sizeof bytes);
    const uint64_t before = hash_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_true(hash_bytes(bytes, sizeof bytes) != before);
        bytes[i] ^= 1;
    }
    assert_true(hash_bytes(bytes, sizeof bytes) == before);
    assert_true(hash_bytes(bytes, sizeof bytes - 1) != before);
    hash_set_seed(1);
    const uint64_t first = hash_bytes("key", 3), first_number = hash_u64(3);
    hash_set_seed(2);
    assert_true(hash_bytes("key", 3) != first);
    assert_true(hash_u64(3) != first_number);
    hash_set_seed(1);
    assert_true(hash_bytes("key", 3) == first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_naive_model),
        cmocka_unit_test(agrees_when_hashes_collide),
        cmocka_unit_test(lives_without_memory_for_a_bigger_table),
        cmocka_unit_test(empty_map_answers),
        cmocka_unit_test(growth_is_incremental),
        cmocka_unit_test(reserved_room_needs_no_growth),
        cmocka_unit_test(hash_depends_on_every_byte_and_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
