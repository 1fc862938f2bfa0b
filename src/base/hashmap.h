/* Intrusive hash table: chained nodes, power-of-two buckets, grown incrementally (a few buckets
 * moved per insert or remove), so that no single insert is slow. Thread: owner. */
#pragma once

#include "base/base.h"

struct hashnode {
    struct hashnode *next;
    uint64_t hash;
};

struct hashmap {
    struct hashnode **buckets, **old; /* old: the smaller table while it is being moved */
    uint64_t mask, old_mask, moved;   /* old buckets below `moved` are empty */
    uint64_t count;
};

/* true when `node` is the one with `key`; called only for equal hashes. */
typedef bool hashmap_match_fn(const struct hashnode *node, const void *key);

void hashmap_init(struct hashmap *map);
void hashmap_done(struct hashmap *map); /* frees the table, not the nodes */
/* Makes room for `count` nodes in an empty table, so that it need not grow on the way there. */
void hashmap_reserve(struct hashmap *map, uint64_t count);
void hashmap_insert(struct hashmap *map, struct hashnode *node,
                    uint64_t hash); /* no duplicate check */
struct hashnode *hashmap_find(const struct hashmap *map, uint64_t hash, hashmap_match_fn *match,
                              const void *key);
void hashmap_remove(struct hashmap *map, struct hashnode *node); /* node must be in the map */

/* Walks all nodes: start with *pos = 0 and prev = NULL, then pass what the last call returned; NULL
 * at the end. The node returned, and no other, may be removed and freed before the next call;
 * inserting during a walk may repeat or miss nodes. */
struct hashnode *hashmap_next(struct hashmap *map, uint64_t *pos, struct hashnode *prev);

/* Seeded 64-bit hash of bytes (xxh3 with a per-process secret seed). Thread: any. */
uint64_t hash_bytes(const void *bytes, size_t size);
uint64_t hash_u64(uint64_t value);
/* A cheaper one, for small tables that are short-lived: which values collide depends on the secret,
 * but not on all of it. */
uint32_t hash_u32(uint32_t value);

/* Replaces the secret seed, so that a simulation walks its tables in the same order each time.
 * Tests only, before the first table is filled. */
void hash_set_seed(uint64_t seed);
