/* A B+tree of pointers to entries, each one allocation that holds the topic's bytes. Keys compare
 * as bytes, with '/' below every other, so that a topic is followed at once by everything beneath
 * it.
 *
 * Iteration: the topic last returned is compared with the filter, level by level, and the first
 * difference says from where on the next match can lie: at a larger literal, behind a subtree, or
 * nowhere. That place is sought from the root, or, when it is the next entry and nothing has
 * changed since, found through `hint`.
 *
 * Nodes are merged with a neighbour when both fit into three quarters of one; a node may
 * stay small while its neighbours are large, but never empty.
 *
 * Invariants (retained_check): all leaves at the same depth; keys ascend; keys[i] of an inner node,
 * i >= 1, is the smallest entry under children[i]; no node but an empty root leaf is empty.
 */
#include "broker/retained.h"

#include "base/mem.h"
#include "mqtt/topic.h"

#include <string.h>

enum {
    NODE_ROOM = 64,
    NODE_SMALL = NODE_ROOM / 4,
    NODE_MERGED_MAX = NODE_ROOM * 3 / 4,
    DEPTH_MAX = 16,
    SCRATCH_SIZE = 2 * TOPIC_SIZE_MAX + 1,
};

struct entry {
    struct retained value; /* first: what callers hold is also the entry */
    uint32_t topic_size;
    uint8_t topic[];
};

/* keys of a leaf: the entries; of an inner node: see above, keys[0] is not used. */
struct node {
    uint32_t count; /* of entries or children */
    bool leaf;
    struct entry *keys[NODE_ROOM];
    struct node *children[]; /* NODE_ROOM of an inner node */
};

struct path {
    struct node *nodes[DEPTH_MAX]; /* from the root to the leaf */
    uint32_t index[DEPTH_MAX];     /* place taken in each */
    uint32_t depth;                /* of the leaf */
};

struct retained_index {
    struct node *root;
    uint64_t entry_count, present_count;
    uint64_t memory;
    uint64_t change_count;
    struct path hint; /* of the entry last returned by retained_next */
    uint64_t hint_change_count;
    uint8_t *scratch; /* of a seek key put together */
};

/* Where a seek ends: at the first key that is ... */
enum bound {
    AT_LEAST,  /* not below the bound */
    ABOVE,     /* above it */
    PAST_TREE, /* above it and everything beneath it as a topic */
};

struct seek {
    struct slice key;
    enum bound bound;
    bool none; /* nothing can match any more */
};

static uint32_t rank(uint8_t byte)
{
    return byte == '/' ? 0 : byte + 1u;
}

/* Index of the first byte in which a and b differ, at most `size`. */
static uint32_t common_size(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    uint32_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        if (x != y)
            break;
    }
    while (i < size && a[i] == b[i])
        i++;
    return i;
}

static int key_compare(struct slice a, struct slice b)
{
    const uint32_t shorter = MIN(a.size, b.size);
    const uint32_t same = common_size(a.bytes, b.bytes, shorter);
    if (same < shorter)
        return rank(a.bytes[same]) < rank(b.bytes[same]) ? -1 : 1;
    return a.size == b.size ? 0 : a.size < b.size ? -1 : 1;
}

static struct slice entry_topic(const struct entry *entry)
{
    return slice_of(entry->topic, entry->topic_size);
}

/* true when the entry lies before where the seek ends. */
static bool lies_before(const struct entry *entry, const struct seek *seek)
{
    const struct slice topic = entry_topic(entry);
    const int order = key_compare(topic, seek->key);
    if (order <= 0)
        return order < 0 || seek->bound != AT_LEAST;
    return seek->bound == PAST_TREE && topic.size > seek->key.size &&
           topic.bytes[seek->key.size] == '/' &&
           memcmp(topic.bytes, seek->key.bytes, seek->key.size) == 0;
}

static size_t node_size(bool leaf)
{
    return sizeof(struct node) + (leaf ? 0 : NODE_ROOM * sizeof(struct node *));
}

static struct node *node_new(struct retained_index *index, bool leaf)
{
    struct node *node = mem_try_alloc(node_size(leaf));
    if (!node)
        return NULL;
    node->count = 0;
    node->leaf = leaf;
    index->memory += node_size(leaf);
    return node;
}

static void node_free(struct retained_index *index, struct node *node)
{
    index->memory -= node_size(node->leaf);
    mem_free(node);
}

struct retained_index *retained_new(void)
{
    struct retained_index *index = mem_new(sizeof *index);
    index->root = mem_new(node_size(true));
    index->root->leaf = true;
    index->scratch = mem_new(SCRATCH_SIZE);
    index->memory = sizeof *index + node_size(true) + SCRATCH_SIZE;
    index->hint_change_count = UINT64_MAX;
    return index;
}

/* NOLINTNEXTLINE(misc-no-recursion): a tree of at most DEPTH_MAX levels. */
static void tree_free(struct node *node)
{
    for (uint32_t i = 0; i < node->count; i++) {
        if (node->leaf)
            mem_free(node->keys[i]);
        else
            tree_free(node->children[i]);
    }
    mem_free(node);
}

struct retained_index *retained_free(struct retained_index *index)
{
    if (!index)
        return NULL;
    tree_free(index->root);
    mem_free(index->scratch);
    mem_free(index);
    return NULL;
}

/* First place in the node, from `from` on, that does not lie before the seek's end. */
static uint32_t place_in(const struct node *node, uint32_t from, const struct seek *seek)
{
    uint32_t low = from, high = node->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (lies_before(node->keys[middle], seek))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The leaf and the place in it where the seek ends; when that is the leaf's end, the entry sought
 * is the next leaf's first (path_settle). */
static void descend(const struct retained_index *index, const struct seek *seek,
                    struct path *ret_path)
{
    struct seek inner = *seek;
    if (inner.bound == AT_LEAST)
        inner.bound = ABOVE; /* into the child that begins with the bound itself */
    struct node *node = index->root;
    uint32_t depth = 0;
    for (; !node->leaf; depth++) {
        const uint32_t child = place_in(node, 1, &inner) - 1;
        ret_path->nodes[depth] = node;
        ret_path->index[depth] = child;
        node = node->children[child];
    }
    ret_path->nodes[depth] = node;
    ret_path->index[depth] = place_in(node, 0, seek);
    ret_path->depth = depth;
}

/* Goes from a leaf's end to the next leaf; false at the index's end. */
static bool path_settle(struct path *path)
{
    uint32_t depth = path->depth;
    if (path->index[depth] < path->nodes[depth]->count)
        return true;
    do {
        if (depth == 0)
            return false;
        depth--;
    } while (path->index[depth] + 1 == path->nodes[depth]->count);
    path->index[depth]++;
    for (; depth < path->depth; depth++) {
        path->nodes[depth + 1] = path->nodes[depth]->children[path->index[depth]];
        path->index[depth + 1] = 0;
    }
    return true;
}

static struct entry *path_entry(const struct path *path)
{
    const struct node *leaf = path->nodes[path->depth];
    const uint32_t place = path->index[path->depth];
    return place < leaf->count ? leaf->keys[place] : NULL;
}

static struct entry *find(const struct retained_index *index, struct slice topic,
                          struct path *ret_path)
{
    const struct seek seek = {.key = topic, .bound = AT_LEAST};
    descend(index, &seek, ret_path);
    struct entry *entry = path_entry(ret_path);
    return entry && slice_equal(entry_topic(entry), topic) ? entry : NULL;
}

struct retained *retained_find(struct retained_index *index, struct slice topic)
{
    struct path path;
    struct entry *entry = find(index, topic, &path);
    return entry ? &entry->value : NULL;
}

static void insert_at(struct node *node, uint32_t place, struct entry *key, struct node *child)
{
    ASSERT(node->count < NODE_ROOM);
    const uint32_t behind = node->count - place;
    memmove(&node->keys[place + 1], &node->keys[place], behind * sizeof node->keys[0]);
    node->keys[place] = key;
    if (child) {
        memmove(&node->children[place + 1], &node->children[place],
                behind * sizeof node->children[0]);
        node->children[place] = child;
    }
    node->count++;
}

static void remove_at(struct node *node, uint32_t place)
{
    const uint32_t behind = node->count - place - 1;
    memmove(&node->keys[place], &node->keys[place + 1], behind * sizeof node->keys[0]);
    if (!node->leaf)
        memmove(&node->children[place], &node->children[place + 1],
                behind * sizeof node->children[0]);
    node->count--;
}

/* Moves the entries or children from `first` on to the end of `to`. */
static void move_tail(struct node *from, uint32_t first, struct node *to)
{
    const uint32_t count = from->count - first;
    ASSERT(to->count + count <= NODE_ROOM);
    memcpy(&to->keys[to->count], &from->keys[first], count * sizeof from->keys[0]);
    if (!from->leaf)
        memcpy(&to->children[to->count], &from->children[first], count * sizeof from->children[0]);
    to->count += count;
    from->count = first;
}

/* Splits the full child at `place` of a node that has room. Returns 0 or ERR_NOMEM. */
static int split_child(struct retained_index *index, struct node *node, uint32_t place)
{
    struct node *left = node->children[place];
    struct node *right = node_new(index, left->leaf);
    if (!right)
        return ERR_NOMEM;
    move_tail(left, NODE_ROOM / 2, right);
    insert_at(node, place + 1, right->keys[0], right);
    return 0;
}

/* Puts a new root above a full one. Returns 0 or ERR_NOMEM. */
static int grow_root(struct retained_index *index)
{
    struct node *root = node_new(index, false);
    if (!root)
        return ERR_NOMEM;
    root->children[0] = index->root;
    root->count = 1;
    if (split_child(index, root, 0) < 0) {
        node_free(index, root);
        return ERR_NOMEM;
    }
    index->root = root;
    return 0;
}

/* Finds the leaf for a new key, splitting full nodes on the way; NULL when out of memory. */
static struct node *leaf_with_room(struct retained_index *index, const struct seek *seek)
{
    if (index->root->count == NODE_ROOM && grow_root(index) < 0)
        return NULL;
    struct node *node = index->root;
    while (!node->leaf) {
        uint32_t child = place_in(node, 1, seek) - 1;
        if (node->children[child]->count == NODE_ROOM) {
            if (split_child(index, node, child) < 0)
                return NULL;
            child = place_in(node, 1, seek) - 1;
        }
        node = node->children[child];
    }
    return node;
}

struct retained *retained_put(struct retained_index *index, struct slice topic)
{
    ASSERT(topic.size > 0);
    ASSERT(topic.size <= TOPIC_SIZE_MAX);
    struct path path;
    struct entry *entry = find(index, topic, &path);
    if (entry)
        return &entry->value;
    index->change_count++;
    entry = mem_try_alloc(sizeof *entry + topic.size);
    if (!entry)
        return NULL;
    const struct seek seek = {.key = topic, .bound = ABOVE};
    struct node *leaf = leaf_with_room(index, &seek);
    if (!leaf) {
        mem_free(entry);
        return NULL;
    }
    *entry = (struct entry){.topic_size = topic.size};
    memcpy(entry->topic, topic.bytes, topic.size);
    insert_at(leaf, place_in(leaf, 0, &seek), entry, NULL);
    index->entry_count++;
    index->memory += sizeof *entry + topic.size;
    return &entry->value;
}

void retained_mark(struct retained_index *index, struct retained *retained, bool present)
{
    if (present && !retained->present)
        index->present_count++;
    else if (!present && retained->present)
        index->present_count--;
    retained->present = present;
}

/* Puts the child at `place` and a neighbour together when they fit. */
static void merge_child(struct retained_index *index, struct node *node, uint32_t place)
{
    const uint32_t at = place > 0 ? place - 1 : 0;
    if (at + 1 >= node->count)
        return;
    struct node *left = node->children[at], *right = node->children[at + 1];
    if (left->count + right->count > NODE_MERGED_MAX)
        return;
    if (!right->leaf)
        right->keys[0] = node->keys[at + 1];
    move_tail(right, 0, left);
    node_free(index, right);
    remove_at(node, at + 1);
}

/* Takes the key at the end of the path out of its leaf, and mends the nodes above. */
static void path_remove(struct retained_index *index, struct path *path)
{
    if (path->index[path->depth] == 0) {
        struct path next = *path;
        next.index[next.depth]++;
        struct entry *successor = path_settle(&next) ? path_entry(&next) : NULL;
        for (uint32_t depth = path->depth; depth-- > 0;) {
            if (path->index[depth] == 0)
                continue;
            /* is taken out below when nothing is left there */
            path->nodes[depth]->keys[path->index[depth]] = successor;
            break;
        }
    }
    remove_at(path->nodes[path->depth], path->index[path->depth]);
    for (uint32_t depth = path->depth; depth > 0; depth--) {
        struct node *node = path->nodes[depth], *above = path->nodes[depth - 1];
        if (node->count == 0) {
            node_free(index, node);
            remove_at(above, path->index[depth - 1]);
        } else if (node->count < NODE_SMALL) {
            merge_child(index, above, path->index[depth - 1]);
        }
    }
    while (!index->root->leaf && index->root->count == 1) {
        struct node *root = index->root;
        index->root = root->children[0];
        node_free(index, root);
    }
    ASSERT(index->root->leaf || index->root->count > 1);
}

void retained_remove(struct retained_index *index, struct slice topic)
{
    struct path path;
    struct entry *entry = find(index, topic, &path);
    if (!entry)
        return;
    retained_mark(index, &entry->value, false);
    index->change_count++;
    path_remove(index, &path);
    index->entry_count--;
    index->memory -= sizeof *entry + entry->topic_size;
    mem_free(entry);
}

static bool is_byte(struct slice level, uint8_t byte)
{
    return level.size == 1 && level.bytes[0] == byte;
}

/* Size of the levels of the filter from `from` on that stand before its next wildcard, without a
 * '/' at the end. */
static uint32_t literal_size(struct slice filter, uint32_t from)
{
    uint32_t pos = from, size = 0;
    struct slice level;
    while (topic_next_level(filter, &pos, &level) && !is_byte(level, '+') && !is_byte(level, '#'))
        size = (uint32_t)(level.bytes - filter.bytes) + level.size - from;
    return size;
}

/* The first key not below: `topic`, a '/' when `slash`, the filter's literal levels from `from` on.
 */
static struct seek seek_beneath(struct retained_index *index, struct slice topic, bool slash,
                                struct slice filter, uint32_t from)
{
    const uint32_t literal = literal_size(filter, from);
    uint8_t *key = index->scratch;
    if (topic.size > 0)
        memcpy(key, topic.bytes, topic.size);
    uint32_t size = topic.size;
    if (slash)
        key[size++] = '/';
    if (literal > 0)
        memcpy(key + size, filter.bytes + from, literal);
    return (struct seek){.key = slice_of(key, size + literal), .bound = AT_LEAST};
}

/* true when the topic matches the filter; otherwise *ret_seek is where the next match can lie,
 * which is behind the topic. */
static bool fits(struct retained_index *index, struct slice filter, struct slice topic,
                 struct seek *ret_seek)
{
    if (topic.bytes[0] == '$' && (filter.bytes[0] == '+' || filter.bytes[0] == '#')) {
        *ret_seek = (struct seek){.key = slice_of("%", 1)}; /* '$' + 1 */
        return false;                                       /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    }
    struct seek past = {.bound = PAST_TREE, .none = true}; /* the last level that a '+' took */
    uint32_t filter_pos = 0, topic_pos = 0;
    struct slice want, have;
    for (;;) {
        const uint32_t filter_at = filter_pos, topic_at = topic_pos;
        const bool more_filter = topic_next_level(filter, &filter_pos, &want);
        if (more_filter && is_byte(want, '#'))
            return true; /* after the topic's end too: "a/#" takes in "a" */
        const bool more_topic = topic_next_level(topic, &topic_pos, &have);
        if (!more_filter && !more_topic)
            return true;
        if (!more_filter)
            break;
        if (!more_topic) {
            *ret_seek = seek_beneath(index, topic, true, filter, filter_at);
            return false;
        }
        if (is_byte(want, '+')) {
            past.key = slice_of(topic.bytes, topic_at + have.size);
            past.none = false;
            continue;
        }
        const int order = key_compare(have, want);
        if (order < 0) {
            *ret_seek =
                seek_beneath(index, slice_of(topic.bytes, topic_at), false, filter, filter_at);
            return false;
        }
        if (order > 0)
            break;
    }
    *ret_seek = past;
    return false;
}

/* From the path's entry to where the seek ends, which lies behind it. */
static void advance(const struct retained_index *index, const struct seek *seek, struct path *path)
{
    const struct node *leaf = path->nodes[path->depth];
    uint32_t *place = &path->index[path->depth];
    if (lies_before(leaf->keys[leaf->count - 1], seek))
        descend(index, seek, path);
    else
        *place = place_in(leaf, *place + 1, seek);
}

/* The place behind `topic`, which retained_next has returned. */
static void resume(const struct retained_index *index, struct slice topic, struct path *ret_path)
{
    if (index->hint_change_count == index->change_count &&
        slice_equal(entry_topic(path_entry(&index->hint)), topic)) {
        *ret_path = index->hint;
        ret_path->index[ret_path->depth]++;
        return;
    }
    const struct seek seek = {.key = topic, .bound = ABOVE};
    descend(index, &seek, ret_path);
}

struct retained *retained_next(struct retained_index *index, struct slice filter,
                               struct slice after, uint32_t visits_max, struct slice *ret_topic)
{
    ASSERT(filter.size > 0);
    ASSERT(after.size <= TOPIC_SIZE_MAX);
    ASSERT(visits_max > 0);
    struct path path;
    struct seek seek = {0};
    if (after.size == 0) {
        seek = (struct seek){.key = slice_of(filter.bytes, literal_size(filter, 0))};
        descend(index, &seek, &path);
    } else if (fits(index, filter, after, &seek)) {
        resume(index, after, &path);
    } else if (!seek.none) {
        descend(index, &seek, &path);
    }
    for (uint32_t visits = 0; !seek.none && path_settle(&path);) {
        struct entry *entry = path_entry(&path);
        const bool match = fits(index, filter, entry_topic(entry), &seek);
        if (match && entry->value.present) {
            index->hint = path;
            index->hint_change_count = index->change_count;
            *ret_topic = entry_topic(entry);
            return &entry->value;
        }
        if (!(!match && seek.none) && ++visits == visits_max) {
            *ret_topic = entry_topic(entry);
            return NULL;
        }
        if (match)
            path.index[path.depth]++;
        else if (!seek.none)
            advance(index, &seek, &path);
    }
    *ret_topic = slice_of(NULL, 0);
    return NULL;
}

uint64_t retained_count(const struct retained_index *index)
{
    return index->present_count;
}

uint64_t retained_memory(const struct retained_index *index)
{
    return index->memory;
}

/* What a walk over the tree has seen so far. */
struct census {
    const struct entry *last;
    uint64_t entries, present, memory;
    uint32_t leaf_depth;
};

/* NOLINTNEXTLINE(misc-no-recursion): as tree_free. */
static void check_tree(const struct node *node, uint32_t depth, struct census *census)
{
    ASSERT(depth < DEPTH_MAX);
    ASSERT(node->count <= NODE_ROOM);
    ASSERT(node->count > 0 || depth == 0);
    census->memory += node_size(node->leaf);
    for (uint32_t i = 0; i < node->count; i++) {
        if (!node->leaf) {
            check_tree(node->children[i], depth + 1, census);
            const struct node *leaf = node->children[i];
            while (!leaf->leaf)
                leaf = leaf->children[0];
            ASSERT(i == 0 || node->keys[i] == leaf->keys[0]);
            continue;
        }
        const struct entry *entry = node->keys[i];
        ASSERT(!census->last || key_compare(entry_topic(census->last), entry_topic(entry)) < 0);
        ASSERT(census->entries == 0 || census->leaf_depth == depth);
        census->leaf_depth = depth;
        census->last = entry;
        census->entries++;
        census->present += entry->value.present;
        census->memory += sizeof *entry + entry->topic_size;
    }
}

void retained_check(const struct retained_index *index)
{
    struct census census = {.memory = sizeof *index + SCRATCH_SIZE};
    check_tree(index->root, 0, &census);
    ASSERT(index->root->leaf || index->root->count > 1);
    ASSERT(census.entries == index->entry_count);
    ASSERT(census.present == index->present_count);
    ASSERT(census.memory == index->memory);
}
