/* A node is one level of a filter. Its children for '+' and '#' are fields; the others are found by
 * an open-addressing table of 8-byte slots {tag, node} keyed by (parent, level), and the level's
 * bytes, kept in the node, are compared on a hit. The hash is seeded with a secret, so nobody can
 * choose levels that collide. Nodes lie in blocks that never move and are named by their number;
 * node 1 is the root, number 0 means none.
 *
 * The table grows incrementally: while a bigger one is being filled, entries lie in either, and
 * each change moves a few slots. In the table being emptied a removed slot stays MOVED, so that its
 * chains hold; in the other, removal shifts the rest of the chain back. Neither the table nor the
 * blocks shrink.
 *
 * A match goes through the topic level by level with the set of nodes that fit so far (at most
 * twice as many after each level, and never more than there are filters): one table lookup for
 * each.
 *
 * Invariants (trie_check):
 *  1. a node without a value has a child, or is the root;
 *  2. a '#' node has a value and no children;              [MQTT3-4.7.1-2] [MQTT5-4.7.1-1]
 *  3. every node but the root is its parent's `plus` or `multi`, or in the table, exactly once;
 *  4. literal_count and the counts of nodes, values and slots are right.
 */
#include "broker/trie.h"

#include "base/hashmap.h"
#include "base/mem.h"
#include "broker/match_cache.h"
#include "mqtt/topic.h"

#include <string.h>

enum {
    NONE = 0,
    ROOT = 1,
    BLOCK_BITS = 10,
    BLOCK_NODES = 1 << BLOCK_BITS,
    INLINE_BYTES = 14,
    SLOTS_MIN = 64,
    MOVES_PER_STEP = 8,
};

#define FREE_NODE UINT32_MAX /* as `parent`: not in use, `plus` names the next free one */
#define MOVED     UINT32_MAX /* as `node` of a slot of the table being emptied */
#define NODES_MAX (UINT32_MAX - 1)
#define SLOT_NONE UINT32_MAX

struct node {
    void *value; /* NULL: no filter ends here */
    uint32_t parent;
    uint32_t plus, multi; /* children for '+' and '#' */
    uint32_t literal_count;
    uint16_t level_size;
    uint8_t level[INLINE_BYTES]; /* the bytes, or a pointer to them when there are more */
};

struct slot {
    uint32_t tag; /* of the hash; its low bits are the home slot */
    uint32_t node;
};

struct table {
    struct slot *slots; /* power of two */
    uint32_t mask;
    uint32_t used;
};

struct node_set {
    uint32_t *nodes;
    uint32_t count, room;
};

struct trie {
    struct node **blocks;
    uint32_t block_count, block_room;
    uint32_t node_end; /* nodes from here on were never used */
    uint32_t free_first;
    uint32_t node_count; /* in use, the root too */
    struct table table, old;
    uint32_t moved;       /* slots of `old` below are empty */
    uint64_t level_bytes; /* of levels that are not inline */
    uint64_t filter_count;
    struct match_cache *cache;
    struct node_set now, next; /* scratch of a match */
    void **found;
    uint32_t found_count, found_room;
};

static struct node *node_at(const struct trie *trie, uint32_t id)
{
    return &trie->blocks[id >> BLOCK_BITS][id & (BLOCK_NODES - 1)];
}

static const uint8_t *node_level(const struct node *node)
{
    if (node->level_size <= INLINE_BYTES)
        return node->level;
    const uint8_t *bytes;
    memcpy(&bytes, node->level, sizeof bytes);
    return bytes;
}

static bool is_byte(struct slice level, uint8_t byte)
{
    return level.size == 1 && level.bytes[0] == byte;
}

static uint32_t tag_of(uint32_t parent, uint64_t level_hash)
{
    const uint64_t mixed =
        (level_hash ^ parent * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(mixed >> 32);
}

static bool node_is(const struct trie *trie, uint32_t id, uint32_t parent, struct slice level)
{
    const struct node *node = node_at(trie, id);
    return node->parent == parent && node->level_size == level.size &&
           memcmp(node_level(node), level.bytes, level.size) == 0;
}

static uint32_t table_find(const struct trie *trie, const struct table *table, uint32_t tag,
                           uint32_t parent, struct slice level)
{
    if (!table->slots)
        return NONE;
    for (uint32_t i = tag & table->mask;; i = (i + 1) & table->mask) {
        const struct slot *slot = &table->slots[i];
        if (slot->node == NONE)
            return NONE;
        if (slot->tag == tag && slot->node != MOVED && node_is(trie, slot->node, parent, level))
            return slot->node;
    }
}

static uint32_t literal_find(const struct trie *trie, uint32_t tag, uint32_t parent,
                             struct slice level)
{
    const uint32_t node = table_find(trie, &trie->table, tag, parent, level);
    return node != NONE ? node : table_find(trie, &trie->old, tag, parent, level);
}

static void table_put(struct table *table, struct slot slot)
{
    uint32_t i = slot.tag & table->mask;
    while (table->slots[i].node != NONE)
        i = (i + 1) & table->mask;
    table->slots[i] = slot;
    table->used++;
}

static void move_some(struct trie *trie)
{
    for (uint32_t i = 0; trie->old.slots && i < MOVES_PER_STEP; i++) {
        struct slot *slot = &trie->old.slots[trie->moved];
        if (slot->node != NONE && slot->node != MOVED) {
            table_put(&trie->table, *slot);
            trie->old.used--;
            slot->node = MOVED;
        }
        if (trie->moved++ == trie->old.mask) {
            ASSERT(trie->old.used == 0);
            mem_free(trie->old.slots);
            trie->old = (struct table){0};
        }
    }
}

/* Makes sure that one more entry fits below three quarters. Returns 0 or ERR_NOMEM. */
static int table_reserve(struct trie *trie)
{
    move_some(trie);
    const uint64_t used = (uint64_t)trie->table.used + trie->old.used + 1;
    const uint64_t slots = (uint64_t)trie->table.mask + 1;
    if (used * 4 <= slots * 3)
        return 0;
    ASSERT(!trie->old.slots);
    struct slot *bigger = mem_try_zeroed(slots * 2 * sizeof *bigger);
    if (!bigger)
        return ERR_NOMEM;
    trie->old = trie->table;
    trie->moved = 0;
    trie->table = (struct table){.slots = bigger, .mask = (uint32_t)(slots * 2 - 1)};
    return 0;
}

void trie_reserve(struct trie *trie, uint64_t level_count)
{
    uint64_t slots = SLOTS_MIN;
    while (level_count * 4 > slots * 3 && slots <= UINT32_MAX / 2)
        slots *= 2;
    if (trie->table.used > 0 || trie->old.slots || slots <= (uint64_t)trie->table.mask + 1)
        return;
    struct slot *bigger = mem_try_zeroed(slots * sizeof *bigger);
    if (!bigger)
        return;
    mem_free(trie->table.slots);
    trie->table = (struct table){.slots = bigger, .mask = (uint32_t)(slots - 1)};
}

/* The slot of `node` in the table; SLOT_NONE when it is not there. */
static uint32_t slot_of(const struct table *table, uint32_t tag, uint32_t node)
{
    if (!table->slots)
        return SLOT_NONE;
    for (uint32_t i = tag & table->mask; table->slots[i].node != NONE; i = (i + 1) & table->mask) {
        if (table->slots[i].node == node)
            return i;
    }
    return SLOT_NONE;
}

/* Empties slot `hole` and moves back what probed past it. */
static void table_close(struct table *table, uint32_t hole)
{
    uint32_t i = hole;
    for (;;) {
        i = (i + 1) & table->mask;
        if (table->slots[i].node == NONE)
            break;
        const uint32_t home = table->slots[i].tag & table->mask;
        if (((i - home) & table->mask) >= ((i - hole) & table->mask)) {
            table->slots[hole] = table->slots[i];
            hole = i;
        }
    }
    table->slots[hole].node = NONE;
    table->used--;
}

static void literal_remove(struct trie *trie, uint32_t tag, uint32_t node)
{
    const uint32_t at = slot_of(&trie->table, tag, node);
    if (at != SLOT_NONE) {
        table_close(&trie->table, at);
        return;
    }
    const uint32_t old_at = slot_of(&trie->old, tag, node);
    ASSERT(old_at != SLOT_NONE && trie->old.slots);
    trie->old.slots[old_at].node = MOVED;
    trie->old.used--;
}

static int block_add(struct trie *trie)
{
    if (trie->block_count == trie->block_room) {
        const uint32_t room = MAX(trie->block_room * 2, 16u);
        struct node **bigger = mem_try_realloc(trie->blocks, room * sizeof *bigger);
        if (!bigger)
            return ERR_NOMEM;
        trie->blocks = bigger;
        trie->block_room = room;
    }
    struct node *block = mem_try_alloc(BLOCK_NODES * sizeof *block);
    if (!block)
        return ERR_NOMEM;
    trie->blocks[trie->block_count++] = block;
    return 0;
}

/* A new node, linked to nothing; NONE when out of memory. */
static uint32_t node_new(struct trie *trie, uint32_t parent, struct slice level)
{
    ASSERT(level.size <= UINT16_MAX);
    if (trie->free_first == NONE) {
        const uint32_t room = trie->block_count << BLOCK_BITS;
        if (trie->node_end == NODES_MAX || (trie->node_end == room && block_add(trie) < 0))
            return NONE;
    }
    char *bytes = NULL;
    if (level.size > INLINE_BYTES) {
        bytes = mem_try_copy(level.bytes, level.size);
        if (!bytes)
            return NONE;
        trie->level_bytes += level.size;
    }
    const uint32_t id = trie->free_first != NONE ? trie->free_first : trie->node_end++;
    struct node *node = node_at(trie, id);
    if (id == trie->free_first)
        trie->free_first = node->plus;
    *node = (struct node){.parent = parent, .level_size = (uint16_t)level.size};
    if (bytes)
        memcpy(node->level, &bytes, sizeof bytes);
    else if (level.size > 0)
        memcpy(node->level, level.bytes, level.size);
    trie->node_count++;
    return id;
}

static void node_free(struct trie *trie, uint32_t id)
{
    struct node *node = node_at(trie, id);
    if (node->level_size > INLINE_BYTES) {
        void *bytes;
        memcpy(&bytes, node->level, sizeof bytes);
        mem_free(bytes);
        trie->level_bytes -= node->level_size;
    }
    node->parent = FREE_NODE;
    node->plus = trie->free_first;
    trie->free_first = id;
    trie->node_count--;
}

struct trie *trie_new(uint32_t cache_entries_max)
{
    struct trie *trie = mem_new(sizeof *trie);
    trie->cache = match_cache_new(cache_entries_max);
    trie->node_end = ROOT;
    trie->table.slots = mem_new(SLOTS_MIN * sizeof(struct slot));
    trie->table.mask = SLOTS_MIN - 1;
    trie->blocks = mem_new(sizeof(struct node *));
    trie->block_room = 1;
    trie->blocks[trie->block_count++] = mem_new(BLOCK_NODES * sizeof(struct node));
    const uint32_t root = node_new(trie, NONE, slice_of(NULL, 0));
    ASSERT(root == ROOT);
    return trie;
}

struct trie *trie_free(struct trie *trie)
{
    if (!trie)
        return NULL;
    for (uint32_t id = ROOT; trie->level_bytes > 0; id++) {
        if (node_at(trie, id)->parent != FREE_NODE)
            node_free(trie, id);
    }
    for (uint32_t i = 0; i < trie->block_count; i++)
        mem_free(trie->blocks[i]);
    mem_free(trie->blocks);
    mem_free(trie->table.slots);
    mem_free(trie->old.slots);
    mem_free(trie->now.nodes);
    mem_free(trie->next.nodes);
    mem_free(trie->found);
    (void)match_cache_free(trie->cache);
    mem_free(trie);
    return NULL;
}

static uint32_t child_find(const struct trie *trie, uint32_t parent, struct slice level)
{
    if (is_byte(level, '+'))
        return node_at(trie, parent)->plus;
    if (is_byte(level, '#'))
        return node_at(trie, parent)->multi;
    const uint32_t tag = tag_of(parent, hash_bytes(level.bytes, level.size));
    return literal_find(trie, tag, parent, level);
}

/* The child of `parent` for this level, made when missing; NONE when out of memory. */
static uint32_t child_ensure(struct trie *trie, uint32_t parent, struct slice level)
{
    const uint32_t found = child_find(trie, parent, level);
    if (found != NONE)
        return found;
    const bool literal = !is_byte(level, '+') && !is_byte(level, '#');
    if (literal && table_reserve(trie) < 0)
        return NONE;
    const uint32_t id = node_new(trie, parent, level);
    if (id == NONE)
        return NONE;
    struct node *above = node_at(trie, parent);
    if (is_byte(level, '+')) {
        above->plus = id;
    } else if (is_byte(level, '#')) {
        above->multi = id;
    } else {
        const uint32_t tag = tag_of(parent, hash_bytes(level.bytes, level.size));
        table_put(&trie->table, (struct slot){.tag = tag, .node = id});
        above->literal_count++;
    }
    return id;
}

/* Unlinks and frees `id` and what is above it, as far as nothing needs them. */
static void prune(struct trie *trie, uint32_t id)
{
    while (id != ROOT) {
        const struct node *node = node_at(trie, id);
        if (node->value || node->plus != NONE || node->multi != NONE || node->literal_count > 0)
            return;
        const uint32_t parent = node->parent;
        struct node *above = node_at(trie, parent);
        if (above->plus == id) {
            above->plus = NONE;
        } else if (above->multi == id) {
            above->multi = NONE;
        } else {
            literal_remove(trie, tag_of(parent, hash_bytes(node_level(node), node->level_size)),
                           id);
            above->literal_count--;
        }
        node_free(trie, id);
        id = parent;
    }
}

static void changed(struct trie *trie, struct slice filter)
{
    const struct slice first = topic_first(filter);
    const uint64_t hash = hash_bytes(first.bytes, first.size);
    const bool wildcard = is_byte(first, '+') || is_byte(first, '#');
    match_cache_change(trie->cache, wildcard ? NULL : &hash);
}

int trie_insert(struct trie *trie, struct slice filter, void *value)
{
    ASSERT(filter.size > 0);
    ASSERT(value != NULL);
    uint32_t at = ROOT, pos = 0;
    struct slice level;
    while (topic_next_level(filter, &pos, &level)) {
        const uint32_t child = child_ensure(trie, at, level);
        if (child == NONE) {
            prune(trie, at);
            return ERR_NOMEM;
        }
        at = child;
    }
    struct node *node = node_at(trie, at);
    if (node->value)
        return ERR_EXISTS;
    node->value = value;
    trie->filter_count++;
    changed(trie, filter);
    return 0;
}

static uint32_t filter_find(const struct trie *trie, struct slice filter)
{
    uint32_t at = ROOT, pos = 0;
    struct slice level;
    while (at != NONE && topic_next_level(filter, &pos, &level))
        at = child_find(trie, at, level);
    return at;
}

void *trie_find(const struct trie *trie, struct slice filter)
{
    ASSERT(filter.size > 0);
    const uint32_t at = filter_find(trie, filter);
    return at == NONE ? NULL : node_at(trie, at)->value;
}

void *trie_remove(struct trie *trie, struct slice filter)
{
    ASSERT(filter.size > 0);
    const uint32_t at = filter_find(trie, filter);
    if (at == NONE || !node_at(trie, at)->value)
        return NULL;
    void *value = TAKE(node_at(trie, at)->value);
    trie->filter_count--;
    move_some(trie);
    prune(trie, at);
    changed(trie, filter);
    return value;
}

static void set_add(struct node_set *set, uint32_t node)
{
    if (set->count == set->room) {
        set->room = MAX(set->room * 2, 64u);
        set->nodes = mem_grow(set->nodes, set->room * sizeof *set->nodes);
    }
    set->nodes[set->count++] = node;
}

static void found_add(struct trie *trie, uint32_t id)
{
    void *value = node_at(trie, id)->value;
    if (!value)
        return;
    if (trie->found_count == trie->found_room) {
        trie->found_room = MAX(trie->found_room * 2, 64u);
        trie->found = mem_grow(trie->found, trie->found_room * sizeof *trie->found);
    }
    trie->found[trie->found_count++] = value;
}

/* Steps from the nodes in `now` to those in `next`, over one level of the topic. */
static void match_level(struct trie *trie, struct slice level, bool wildcards)
{
    const uint64_t hash = hash_bytes(level.bytes, level.size);
    trie->next.count = 0;
    for (uint32_t i = 0; i < trie->now.count; i++) {
        const uint32_t id = trie->now.nodes[i];
        const struct node *node = node_at(trie, id);
        if (wildcards && node->multi != NONE)
            found_add(trie, node->multi);
        if (wildcards && node->plus != NONE)
            set_add(&trie->next, node->plus);
        if (node->literal_count == 0)
            continue;
        const uint32_t child = literal_find(trie, tag_of(id, hash), id, level);
        if (child != NONE)
            set_add(&trie->next, child);
    }
    const struct node_set next = trie->next;
    trie->next = trie->now;
    trie->now = next;
}

static void match_all(struct trie *trie, struct slice topic)
{
    const bool dollar = topic.bytes[0] == '$';
    uint32_t pos = 0;
    struct slice level;
    trie->found_count = 0;
    trie->now.count = 0;
    set_add(&trie->now, ROOT);
    for (bool first = true; trie->now.count > 0 && topic_next_level(topic, &pos, &level);
         first = false)
        match_level(trie, level, !(first && dollar)); /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    for (uint32_t i = 0; i < trie->now.count; i++) {
        const uint32_t id = trie->now.nodes[i];
        found_add(trie, id);
        if (node_at(trie, id)->multi != NONE)
            found_add(trie, node_at(trie, id)->multi); /* "a/#" takes in "a" */
    }
}

struct trie_matches trie_match(struct trie *trie, struct slice topic)
{
    ASSERT(topic.size > 0);
    struct trie_matches matches;
    const uint64_t hash = hash_bytes(topic.bytes, topic.size);
    if (match_cache_find(trie->cache, topic, hash, &matches))
        return matches;
    match_all(trie, topic);
    const struct slice first = topic_first(topic);
    const struct trie_matches found = {.values = trie->found, .count = trie->found_count};
    return match_cache_add(trie->cache, topic, hash, hash_bytes(first.bytes, first.size), found);
}

uint64_t trie_count(const struct trie *trie)
{
    return trie->filter_count;
}

static uint64_t table_bytes(const struct table *table)
{
    return table->slots ? ((uint64_t)table->mask + 1) * sizeof(struct slot) : 0;
}

uint64_t trie_memory(const struct trie *trie)
{
    return sizeof *trie + (uint64_t)trie->block_count * BLOCK_NODES * sizeof(struct node) +
           trie->block_room * sizeof(struct node *) + table_bytes(&trie->table) +
           table_bytes(&trie->old) + trie->level_bytes +
           ((uint64_t)trie->now.room + trie->next.room) * sizeof(uint32_t) +
           trie->found_room * sizeof(void *) + match_cache_memory(trie->cache);
}

static void check_node(const struct trie *trie, uint32_t id)
{
    const struct node *node = node_at(trie, id);
    ASSERT(node->value || node->plus != NONE || node->multi != NONE || node->literal_count > 0 ||
           id == ROOT);
    if (node->multi != NONE) {
        const struct node *multi = node_at(trie, node->multi);
        ASSERT(multi->parent == id);
        ASSERT(multi->value);
        ASSERT(multi->plus == NONE && multi->multi == NONE && multi->literal_count == 0);
    }
    ASSERT(node->plus == NONE || node_at(trie, node->plus)->parent == id);
    if (id == ROOT)
        return;
    const struct node *above = node_at(trie, node->parent);
    ASSERT(above->parent != FREE_NODE);
    if (above->plus == id || above->multi == id)
        return;
    const struct slice level = slice_of(node_level(node), node->level_size);
    const uint32_t tag = tag_of(node->parent, hash_bytes(level.bytes, level.size));
    ASSERT(literal_find(trie, tag, node->parent, level) == id);
}

static uint32_t check_table(const struct trie *trie, const struct table *table)
{
    uint32_t used = 0;
    for (uint64_t i = 0; table->slots && i <= table->mask; i++) {
        const uint32_t id = table->slots[i].node;
        if (id == NONE || id == MOVED)
            continue;
        ASSERT(id < trie->node_end);
        ASSERT(node_at(trie, id)->parent != FREE_NODE);
        used++;
    }
    ASSERT(used == table->used);
    return used;
}

void trie_check(const struct trie *trie)
{
    uint64_t values = 0, nodes = 0, literals = 0, fields = 0, level_bytes = 0;
    for (uint32_t id = ROOT; id < trie->node_end; id++) {
        const struct node *node = node_at(trie, id);
        if (node->parent == FREE_NODE)
            continue;
        check_node(trie, id);
        nodes++;
        values += node->value != NULL;
        literals += node->literal_count;
        fields += (uint64_t)(node->plus != NONE) + (uint64_t)(node->multi != NONE);
        level_bytes += node->level_size > INLINE_BYTES ? node->level_size : 0;
    }
    ASSERT(values == trie->filter_count);
    ASSERT(nodes == trie->node_count);
    ASSERT(nodes == literals + fields + 1);
    ASSERT(level_bytes == trie->level_bytes);
    ASSERT(check_table(trie, &trie->table) + check_table(trie, &trie->old) == literals);
    match_cache_check(trie->cache);
}
