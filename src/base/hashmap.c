/* While a bigger table is being filled, a node lies in `old` when its old bucket is not yet moved,
 * else in `buckets`; every insert and remove moves a few buckets, so that the move ends long before
 * the next one is due. A table that cannot be had is no error: chains grow longer instead.
 *
 * A walk first ends a running move, because a remove must not shift nodes under it; only an insert
 * can start another.
 */
#include "base/hashmap.h"

#include "base/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <sys/random.h>

enum { BUCKETS_MIN = 8, MOVES_PER_STEP = 4 };

/* A walk's position: the bucket above, the place in its chain below. */
enum { POS_CHAIN_BITS = 24 };

static uint64_t hash_seed;

__attribute__((constructor)) static void hash_seed_init(void)
{
    const ssize_t size = getrandom(&hash_seed, sizeof hash_seed, 0);
    ASSERT(size == (ssize_t)sizeof hash_seed);
}

void hash_set_seed(uint64_t seed)
{
    hash_seed = seed;
}

uint64_t hash_bytes(const void *bytes, size_t size)
{
    return XXH3_64bits_withSeed(bytes, size, hash_seed);
}

/* The finalizer of MurmurHash3 over the secret and the value. */
uint32_t hash_u32(uint32_t value)
{
    uint32_t hash = value + (uint32_t)hash_seed;
    hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
    hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
    return hash ^ (hash >> 16);
}

uint64_t hash_u64(uint64_t value)
{
    return XXH3_64bits_withSeed(&value, sizeof value, hash_seed);
}

static void push(struct hashnode **bucket, struct hashnode *node)
{
    node->next = *bucket;
    *bucket = node;
}

/* Moves up to `bucket_count` buckets of the old table; frees it after the last. */
static void move_some(struct hashmap *map, uint64_t bucket_count)
{
    for (; map->old && bucket_count > 0; bucket_count--) {
        struct hashnode *node = map->old[map->moved];
        while (node) {
            struct hashnode *next = node->next;
            push(&map->buckets[node->hash & map->mask], node);
            node = next;
        }
        map->old[map->moved++] = NULL;
        if (map->moved > map->old_mask) {
            mem_free(map->old);
            map->old = NULL;
        }
    }
}

static void grow(struct hashmap *map)
{
    const uint64_t bucket_count = (map->mask + 1) * 2;
    struct hashnode **bigger = mem_try_zeroed(bucket_count * sizeof(struct hashnode *));
    if (!bigger)
        return;
    map->old = map->buckets;
    map->old_mask = map->mask;
    map->moved = 0;
    map->buckets = bigger;
    map->mask = bucket_count - 1;
}

/* The bucket that holds the nodes of `hash` now. */
static struct hashnode **bucket_of(const struct hashmap *map, uint64_t hash)
{
    if (map->old && (hash & map->old_mask) >= map->moved)
        return &map->old[hash & map->old_mask];
    return &map->buckets[hash & map->mask];
}

void hashmap_init(struct hashmap *map)
{
    *map = (struct hashmap){0};
}

void hashmap_done(struct hashmap *map)
{
    mem_free(map->buckets);
    mem_free(map->old);
    *map = (struct hashmap){0};
}

void hashmap_reserve(struct hashmap *map, uint64_t count)
{
    uint64_t bucket_count = BUCKETS_MIN;
    while (bucket_count < count && bucket_count <= UINT64_MAX / 2 / sizeof(struct hashnode *))
        bucket_count *= 2;
    if (map->count > 0 || bucket_count <= map->mask + 1)
        return;
    struct hashnode **bigger = mem_try_zeroed(bucket_count * sizeof(struct hashnode *));
    if (!bigger)
        return;
    hashmap_done(map);
    map->buckets = bigger;
    map->mask = bucket_count - 1;
}

void hashmap_insert(struct hashmap *map, struct hashnode *node, uint64_t hash)
{
    if (!map->buckets) {
        map->buckets = mem_new(BUCKETS_MIN * sizeof(struct hashnode *));
        map->mask = BUCKETS_MIN - 1;
    }
    if (map->old)
        move_some(map, MOVES_PER_STEP);
    else if (map->count > map->mask)
        grow(map);
    node->hash = hash;
    push(bucket_of(map, hash), node);
    map->count++;
}

struct hashnode *hashmap_find(const struct hashmap *map, uint64_t hash, hashmap_match_fn *match,
                              const void *key)
{
    if (map->count == 0)
        return NULL;
    for (struct hashnode *node = *bucket_of(map, hash); node; node = node->next) {
        if (node->hash == hash && match(node, key))
            return node;
    }
    return NULL;
}

void hashmap_remove(struct hashmap *map, struct hashnode *node)
{
    ASSERT(map->count > 0);
    struct hashnode **at = bucket_of(map, node->hash);
    while (*at && *at != node)
        at = &(*at)->next;
    ASSERT(*at == node);
    *at = node->next;
    node->next = NULL;
    map->count--;
    move_some(map, MOVES_PER_STEP);
}

struct hashnode *hashmap_next(struct hashmap *map, uint64_t *pos, struct hashnode *prev)
{
    if (map->count == 0)
        return NULL;
    move_some(map, UINT64_MAX);
    uint64_t bucket = *pos >> POS_CHAIN_BITS;
    uint64_t depth = *pos & ((1u << POS_CHAIN_BITS) - 1);
    for (; bucket <= map->mask; bucket++, depth = 0, prev = NULL) {
        struct hashnode *node = map->buckets[bucket];
        for (uint64_t i = 0; node && i < depth; i++)
            node = node->next;
        /* prev may be freed memory: it is compared, never followed */
        if (node && node == prev) {
            node = node->next;
            depth++;
        }
        if (node) {
            ASSERT(depth >> POS_CHAIN_BITS == 0);
            *pos = bucket << POS_CHAIN_BITS | depth;
            return node;
        }
    }
    *pos = bucket << POS_CHAIN_BITS;
    return NULL;
}
