/* Sets of four ways, the newest in front; a hit moves one place forward. Besides the number of
 * entries their bytes are bounded: a hand goes round the sets and clears them when too much is
 * held.
 *
 * Invariants (match_cache_check): `bytes` is the sum over the entries in the sets and the retired
 * ones; empty ways come last in a set; an entry's topic hashes to its set and tag.
 */
#include "broker/match_cache.h"

#include "base/hashmap.h"
#include "base/mem.h"

#include <string.h>

enum {
    WAYS = 4,
    GENERATIONS = 1024,
    TOPIC_BYTES_MAX = 1024, /* of an entry worth remembering */
    VALUES_MAX = 256,
};

struct entry {
    struct entry *next_retired;
    uint64_t retired_at; /* value of `results` when it left the sets */
    uint64_t generation;
    uint32_t topic_size; /* 0: never in a set */
    uint32_t value_count;
    uint32_t generation_index;
    bool is_dollar; /* filters with a wildcard in front do not concern it */
    void *values[]; /* the topic's bytes follow */
};

struct set {
    uint32_t tags[WAYS];
    struct entry *ways[WAYS];
};

struct match_cache {
    struct set *sets;
    uint64_t set_mask;
    uint64_t hand;
    uint64_t bytes, bytes_max;
    uint64_t results; /* given out so far */
    struct entry *retired_first, **retired_end;
    uint64_t wildcard_generation;
    uint64_t generations[GENERATIONS];
};

struct match_cache *match_cache_new(uint32_t entries_max)
{
    struct match_cache *cache = mem_new(sizeof *cache);
    cache->retired_end = &cache->retired_first;
    if (entries_max == 0)
        return cache;
    uint64_t set_count = 1;
    while (set_count * 2 * WAYS <= entries_max)
        set_count *= 2;
    cache->sets = mem_try_zeroed(set_count * sizeof(struct set));
    cache->set_mask = set_count - 1;
    cache->bytes_max = set_count * WAYS * MATCH_ENTRY_BYTES;
    return cache;
}

static uint64_t entry_bytes(const struct entry *entry)
{
    return sizeof *entry + entry->value_count * sizeof(void *) + entry->topic_size;
}

static uint8_t *entry_topic(struct entry *entry)
{
    return (uint8_t *)(entry->values + entry->value_count);
}

static struct trie_matches entry_matches(const struct entry *entry)
{
    return (struct trie_matches){.values = entry->values, .count = entry->value_count};
}

static void retire(struct match_cache *cache, struct entry *entry)
{
    entry->retired_at = cache->results;
    entry->next_retired = NULL;
    *cache->retired_end = entry;
    cache->retired_end = &entry->next_retired;
}

/* Counts one more result, and frees the retired ones that are no longer promised to anyone. */
static void count_result(struct match_cache *cache)
{
    cache->results++;
    while (cache->retired_first &&
           cache->results - cache->retired_first->retired_at > MATCH_RESULT_LIFE) {
        struct entry *entry = cache->retired_first;
        cache->retired_first = entry->next_retired;
        if (!cache->retired_first)
            cache->retired_end = &cache->retired_first;
        cache->bytes -= entry_bytes(entry);
        mem_free(entry);
    }
}

struct match_cache *match_cache_free(struct match_cache *cache)
{
    if (!cache)
        return NULL;
    for (uint64_t i = 0; cache->sets && i <= cache->set_mask; i++) {
        for (uint32_t way = 0; way < WAYS; way++)
            mem_free(cache->sets[i].ways[way]);
    }
    while (cache->retired_first) {
        struct entry *entry = cache->retired_first;
        cache->retired_first = entry->next_retired;
        mem_free(entry);
    }
    mem_free(cache->sets);
    mem_free(cache);
    return NULL;
}

static uint64_t generation_of(const struct match_cache *cache, const struct entry *entry)
{
    return cache->generations[entry->generation_index] +
           (entry->is_dollar ? 0 : cache->wildcard_generation);
}

static struct set *set_of(const struct match_cache *cache, uint64_t hash)
{
    return &cache->sets[hash & cache->set_mask];
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

/* The way that holds `topic`, WAYS when none does. */
static uint32_t way_of(const struct set *set, struct slice topic, uint32_t tag)
{
    for (uint32_t way = 0; way < WAYS && set->ways[way]; way++) {
        if (set->tags[way] != tag)
            continue;
        struct entry *entry = set->ways[way];
        if (entry->topic_size == topic.size &&
            memcmp(entry_topic(entry), topic.bytes, topic.size) == 0)
            return way;
    }
    return WAYS;
}

bool match_cache_find(struct match_cache *cache, struct slice topic, uint64_t hash,
                      struct trie_matches *ret_matches)
{
    if (!cache->sets)
        return false;
    struct set *set = set_of(cache, hash);
    const uint32_t way = way_of(set, topic, tag_of(hash));
    if (way == WAYS || set->ways[way]->generation != generation_of(cache, set->ways[way]))
        return false;
    struct entry *entry = set->ways[way];
    if (way > 0) {
        set->ways[way] = set->ways[way - 1];
        set->tags[way] = set->tags[way - 1];
        set->ways[way - 1] = entry;
        set->tags[way - 1] = tag_of(hash);
    }
    count_result(cache);
    *ret_matches = entry_matches(entry);
    return true;
}

/* Clears sets until there is room for `bytes` more. What was retired is on its way out. */
static void make_room(struct match_cache *cache, uint64_t bytes)
{
    uint64_t held = bytes + cache->bytes;
    for (const struct entry *entry = cache->retired_first; entry; entry = entry->next_retired)
        held -= entry_bytes(entry);
    for (uint64_t i = 0; i <= cache->set_mask && held > cache->bytes_max; i++) {
        struct set *set = &cache->sets[cache->hand++ & cache->set_mask];
        for (uint32_t way = 0; way < WAYS && set->ways[way]; way++) {
            held -= entry_bytes(set->ways[way]);
            retire(cache, TAKE(set->ways[way]));
        }
    }
}

static void remember(struct match_cache *cache, struct entry *entry, uint64_t hash)
{
    if (cache->bytes + entry_bytes(entry) > cache->bytes_max)
        make_room(cache, entry_bytes(entry));
    struct set *set = set_of(cache, hash);
    const struct slice topic = slice_of(entry_topic(entry), entry->topic_size);
    uint32_t way = way_of(set, topic, tag_of(hash));
    if (way == WAYS)
        way = WAYS - 1;
    if (set->ways[way])
        retire(cache, set->ways[way]);
    for (; way > 0; way--) {
        set->ways[way] = set->ways[way - 1];
        set->tags[way] = set->tags[way - 1];
    }
    set->ways[0] = entry;
    set->tags[0] = tag_of(hash);
}

struct trie_matches match_cache_add(struct match_cache *cache, struct slice topic, uint64_t hash,
                                    uint64_t first_hash, struct trie_matches found)
{
    const size_t values_size = found.count * sizeof(void *);
    struct entry *entry = NULL;
    const bool small = cache->sets && topic.size <= TOPIC_BYTES_MAX && found.count <= VALUES_MAX &&
                       sizeof *entry + values_size + topic.size <= cache->bytes_max;
    const uint32_t topic_size = small ? topic.size : 0;
    entry = mem_grow(NULL, sizeof *entry + values_size + topic_size);
    *entry = (struct entry){
        .topic_size = topic_size,
        .value_count = found.count,
        .generation_index = (uint32_t)(first_hash % GENERATIONS),
        .is_dollar = topic.size > 0 && topic.bytes[0] == '$',
    };
    entry->generation = generation_of(cache, entry);
    if (values_size)
        memcpy(entry->values, found.values, values_size);
    if (topic_size)
        memcpy(entry_topic(entry), topic.bytes, topic_size);

    count_result(cache);
    if (small)
        remember(cache, entry, hash);
    else
        retire(cache, entry);
    cache->bytes += entry_bytes(entry);
    return entry_matches(entry);
}

void match_cache_change(struct match_cache *cache, const uint64_t *first_hash)
{
    if (first_hash)
        cache->generations[*first_hash % GENERATIONS]++;
    else
        cache->wildcard_generation++;
}

uint64_t match_cache_memory(const struct match_cache *cache)
{
    const uint64_t sets = cache->sets ? (cache->set_mask + 1) * sizeof(struct set) : 0;
    return sizeof *cache + sets + cache->bytes;
}

void match_cache_check(const struct match_cache *cache)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; cache->sets && i <= cache->set_mask; i++) {
        const struct set *set = &cache->sets[i];
        for (uint32_t way = 0; way < WAYS; way++) {
            struct entry *entry = set->ways[way];
            if (!entry)
                continue;
            ASSERT(way == 0 || set->ways[way - 1]);
            const uint64_t hash = hash_bytes(entry_topic(entry), entry->topic_size);
            ASSERT(set_of(cache, hash) == set);
            ASSERT(set->tags[way] == tag_of(hash));
            ASSERT(entry->generation <= generation_of(cache, entry));
            bytes += entry_bytes(entry);
        }
    }
    ASSERT(!cache->sets || bytes <= cache->bytes_max);
    uint64_t retired_at = 0;
    for (const struct entry *entry = cache->retired_first; entry; entry = entry->next_retired) {
        ASSERT(entry->retired_at >= retired_at);
        retired_at = entry->retired_at;
        bytes += entry_bytes(entry);
    }
    ASSERT(bytes == cache->bytes);
}
