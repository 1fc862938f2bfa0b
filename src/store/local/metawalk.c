#include "store/local/metawalk.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/metadb.h"
#include "store/local/metapage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum table { TABLE_FREE, TABLE_MAIN, TABLE_ROWS, TABLE_QUEUES, TABLE_STATE, TABLE_COUNT };

static const char *const table_names[TABLE_COUNT] = {
    [TABLE_ROWS] = "rows", [TABLE_QUEUES] = "queues", [TABLE_STATE] = METAROW_STATE_KEY};

/* The file, mapped for reading. */
struct image {
    const uint8_t *bytes;
    uint64_t size;
    uint64_t page_size;
};

/* One walk through one snapshot. */
struct walk {
    struct image image;
    const struct metawalk_events *events;
    struct metapage_meta meta;
    uint8_t *seen; /* a bit for each page: used by this snapshot, or free */
    bool damaged;
    bool found_table[TABLE_COUNT], has_state;
    struct metapage_tree trees[TABLE_COUNT];
    uint64_t tree_offsets[TABLE_COUNT]; /* where each tree's record lies */
    uint64_t row_count;                 /* handed out */
    uint64_t row_counts[UINT8_MAX + 1]; /* of the owner's table, by the key's first byte */
    uint64_t digest;
    struct metarow_state state;
};

/* One tree being walked. */
struct walk_tree {
    enum table table;
    const struct metapage_tree *record;
    uint64_t record_offset;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries;
    struct slice previous; /* the last key seen; bytes NULL: none yet */
    struct slice floor;    /* the separator in front of the next leaf; bytes NULL: none */
    bool broken;           /* part of it was not reached: counts mean nothing */
};

struct level {
    uint64_t number; /* of the page */
    uint32_t at, count;
};

static void found(struct walk *walk, uint64_t offset, const char *fmt, ...) PRINTF(3, 4);

static void found(struct walk *walk, uint64_t offset, const char *fmt, ...)
{
    char what[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    walk->damaged = true;
    walk->events->found(walk->events->data, offset, what);
}

/* --- pages --------------------------------------------------------------------------------- */

static const uint8_t *page_bytes(const struct walk *walk, uint64_t number)
{
    return walk->image.bytes + number * walk->image.page_size;
}

static struct metapage_header page_header(const struct walk *walk, uint64_t number)
{
    struct metapage_header header;
    memcpy(&header, page_bytes(walk, number), sizeof header);
    return header;
}

static bool is_seen(const struct walk *walk, uint64_t number)
{
    return walk->seen[number / 8] >> (number % 8) & 1;
}

/* Counts a page as used. Returns false when it cannot be: outside, or used already. */
static bool claim(struct walk *walk, uint64_t number, uint64_t from)
{
    const bool inside = number >= METAPAGE_FIRST && number <= walk->meta.last_page;
    if (!inside) {
        found(walk, from, "refers to page %" PRIu64 ", which does not exist", number);
        return false;
    }
    if (is_seen(walk, number)) {
        found(walk, from, "refers to page %" PRIu64 ", which is used already", number);
        return false;
    }
    walk->seen[number / 8] |= (uint8_t)(1u << (number % 8));
    return true;
}

/* Claims a page that holds something: it must lie in the file as a whole. */
static bool claim_present(struct walk *walk, uint64_t number, uint64_t from)
{
    if (!claim(walk, number, from))
        return false;
    if (number >= walk->image.size / walk->image.page_size) {
        found(walk, walk->image.size, "the file is cut off: page %" PRIu64 " is missing", number);
        return false;
    }
    return true;
}

/* --- nodes --------------------------------------------------------------------------------- */

struct node {
    uint64_t offset; /* in the file */
    uint16_t flags;
    struct slice key;
    const uint8_t *value;
    uint64_t size;  /* of the value; in a branch 0 */
    uint64_t child; /* in a branch */
    uint32_t room;  /* what it takes of its page */
};

static uint32_t node_count(const struct metapage_header *header)
{
    return (header->lower - (uint32_t)sizeof *header) / (uint32_t)sizeof(uint16_t);
}

/* Takes the nth node of a page apart. Returns false when it does not lie in its page. */
static bool node_get(const struct walk *walk, uint64_t number, uint32_t n, struct node *ret)
{
    const uint8_t *page = page_bytes(walk, number);
    const uint64_t page_size = walk->image.page_size;
    const struct metapage_header header = page_header(walk, number);
    const bool branch = header.flags == METAPAGE_BRANCH;
    struct metapage_node node;
    uint16_t at = 0;
    memcpy(&at, page + sizeof header + n * sizeof at, sizeof at);
    if (at < header.upper || at % 2 != 0 || at + sizeof node > page_size)
        return false;
    memcpy(&node, page + at, sizeof node);
    const uint64_t low = (uint64_t)node.low | (uint64_t)node.high << 16;
    uint64_t inside = 0;
    if (!branch)
        inside = node.flags & METANODE_BIG ? sizeof(uint64_t) : low;
    if (at + sizeof node + node.key_size + inside > page_size)
        return false;
    *ret = (struct node){
        .offset = number * page_size + at,
        .flags = branch ? 0 : node.flags,
        .key = slice_of(page + at + sizeof node, node.key_size),
        .value = page + at + sizeof node + node.key_size,
        .size = branch ? 0 : low,
        .child = branch ? low | (uint64_t)node.flags << 32 : 0,
        .room = (uint32_t)((sizeof node + node.key_size + inside + 1) & ~UINT64_C(1)),
    };
    return true;
}

static int compare_keys(enum table table, struct slice a, struct slice b)
{
    if (table == TABLE_FREE) {
        uint64_t left = 0, right = 0;
        memcpy(&left, a.bytes, MIN(a.size, sizeof left));
        memcpy(&right, b.bytes, MIN(b.size, sizeof right));
        return (left > right) - (left < right);
    }
    const int order = memcmp(a.bytes, b.bytes, MIN(a.size, b.size));
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* --- values -------------------------------------------------------------------------------- */

/* Finds a value that lies in pages of its own. Returns false when it cannot be read. */
static bool big_value(struct walk *walk, struct walk_tree *tree, struct node *node)
{
    uint64_t number = 0;
    memcpy(&number, node->value, sizeof number);
    const uint64_t page_size = walk->image.page_size;
    const uint64_t count = (sizeof(struct metapage_header) - 1 + node->size) / page_size + 1;
    for (uint64_t i = 0; i < count; i++) {
        if (!claim_present(walk, number + i, node->offset)) {
            tree->broken = true;
            return false;
        }
    }
    const struct metapage_header header = page_header(walk, number);
    tree->overflow_pages += count;
    node->value = page_bytes(walk, number) + sizeof header;
    if (header.number == number && header.flags == METAPAGE_OVERFLOW && header.page_count == count)
        return true;
    found(walk, number * page_size, "not the overflow page it should be");
    return false;
}

static void take_row(struct walk *walk, enum table table, const struct node *node)
{
    const enum metarow_table kind = table == TABLE_ROWS ? METAROW_ROWS : METAROW_QUEUES;
    struct slice value;
    const struct slice stored = slice_of(node->value, (uint32_t)MIN(node->size, UINT32_MAX));
    if (node->size > UINT32_MAX || !metarow_open(kind, node->key, stored, &value)) {
        found(walk, node->offset, "a row's checksum is wrong");
        return;
    }
    walk->digest += metarow_stored_check(stored);
    walk->row_count++;
    if (kind == METAROW_ROWS && node->key.size > 0)
        walk->row_counts[node->key.bytes[0]]++;
    if (walk->events->row)
        walk->events->row(walk->events->data, kind, node->key, value);
}

static void take_state(struct walk *walk, const struct node *node)
{
    struct slice value;
    const struct slice stored = slice_of(node->value, (uint32_t)node->size);
    if (slice_equal(node->key, slice_of(METAROW_LOST_KEY, sizeof METAROW_LOST_KEY - 1))) {
        if (!metarow_open(METAROW_LOST, node->key, stored, &value))
            found(walk, node->offset, "the list of what was given up has a wrong checksum");
        return;
    }
    uint64_t version = METAROW_VERSION;
    if (node->size >= sizeof version)
        memcpy(&version, node->value, sizeof version);
    if (version < METAROW_VERSION && node->size == METAROW_STATE_1_SIZE) {
        found(walk, node->offset,
              "written by an earlier build of TideMQ, in a format that this one does not read");
        return;
    }
    const bool ours =
        slice_equal(node->key, slice_of(METAROW_STATE_KEY, sizeof METAROW_STATE_KEY - 1));
    if (ours && node->size == sizeof walk->state)
        memcpy(&walk->state, node->value, sizeof walk->state);
    if (ours && node->size == sizeof walk->state && metarow_state_sound(&walk->state))
        walk->has_state = true;
    else
        found(walk, node->offset, "the state's checksum is wrong");
}

/* The record of one of our tables. */
static void take_table(struct walk *walk, const struct node *node)
{
    for (int table = TABLE_ROWS; table < TABLE_COUNT; table++) {
        const struct slice name =
            slice_of(table_names[table], (uint32_t)strlen(table_names[table]));
        if (!slice_equal(node->key, name))
            continue;
        if (node->size == sizeof walk->trees[table] && node->flags == METANODE_TREE) {
            memcpy(&walk->trees[table], node->value, sizeof walk->trees[table]);
            walk->tree_offsets[table] = node->offset;
            walk->found_table[table] = true;
        } else {
            found(walk, node->offset, "not the record of a table");
        }
        return;
    }
    found(walk, node->offset, "an unknown table");
}

/* Page numbers that one transaction freed. */
static void take_free(struct walk *walk, const struct node *node)
{
    uint64_t count = 0, txn_id = 0;
    const uint64_t room = node->size / sizeof count;
    if (node->key.size == sizeof txn_id)
        memcpy(&txn_id, node->key.bytes, sizeof txn_id);
    if (room > 0)
        memcpy(&count, node->value, sizeof count);
    if (txn_id == 0 || txn_id > walk->meta.txn_id || node->size % sizeof count != 0 ||
        room != count + 1) {
        found(walk, node->offset, "not a list of free pages");
        return;
    }
    uint64_t before = UINT64_MAX;
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t number = 0;
        memcpy(&number, node->value + i * sizeof number, sizeof number);
        if (number >= before) {
            found(walk, node->offset, "a list of free pages is out of order");
            return;
        }
        before = number;
        if (!claim(walk, number, node->offset))
            return;
    }
}

static void take_value(struct walk *walk, enum table table, const struct node *node)
{
    const bool big_allowed = table != TABLE_MAIN;
    const uint16_t flags = table == TABLE_MAIN ? METANODE_TREE : 0;
    if ((node->flags & ~(big_allowed ? METANODE_BIG : 0)) != flags) {
        found(walk, node->offset, "a node of another kind");
        return;
    }
    if (table == TABLE_FREE)
        take_free(walk, node);
    else if (table == TABLE_MAIN)
        take_table(walk, node);
    else if (table == TABLE_STATE)
        take_state(walk, node);
    else
        take_row(walk, table, node);
}

/* --- trees --------------------------------------------------------------------------------- */

/* What every page of a tree must look like; the rest is seen when its nodes are. */
static bool header_sound(struct walk *walk, uint64_t number, uint16_t flags)
{
    const struct metapage_header header = page_header(walk, number);
    const uint64_t page_size = walk->image.page_size;
    const uint64_t offset = number * page_size;
    const char *what = NULL;
    if (header.number != number)
        what = "the page says another number than its own";
    else if (header.flags != flags)
        what = "not the page of a tree that it should be";
    else if (header.lower < sizeof header + sizeof(uint16_t) || header.lower % 2 != 0 ||
             header.lower > header.upper || header.upper > page_size)
        what = "the page's bounds are wrong";
    if (what)
        found(walk, offset, "%s", what);
    return !what;
}

/* The nodes must fill what lies behind the free room. */
static void check_room(struct walk *walk, uint64_t number, uint64_t taken)
{
    const struct metapage_header header = page_header(walk, number);
    if (taken != walk->image.page_size - header.upper)
        found(walk, number * walk->image.page_size, "the page's nodes do not fill it");
}

static void check_order(struct walk *walk, struct walk_tree *tree, const struct node *node)
{
    const enum table table = tree->table;
    if (node->key.size == 0 || (table == TABLE_FREE && node->key.size != sizeof(uint64_t)))
        found(walk, node->offset, "a key of a wrong length");
    else if (tree->previous.bytes && compare_keys(table, node->key, tree->previous) <= 0)
        found(walk, node->offset, "keys are out of order");
    else if (tree->floor.bytes && compare_keys(table, node->key, tree->floor) < 0)
        found(walk, node->offset, "a key lies before what its branch says");
    tree->previous = node->key;
    tree->floor = (struct slice){0};
}

static void walk_leaf(struct walk *walk, struct walk_tree *tree, uint64_t number)
{
    const struct metapage_header header = page_header(walk, number);
    uint64_t taken = 0;
    tree->leaf_pages++;
    for (uint32_t n = 0; n < node_count(&header); n++) {
        struct node node;
        if (!node_get(walk, number, n, &node)) {
            found(walk, number * walk->image.page_size, "node %" PRIu32 " lies outside its page",
                  n);
            tree->broken = true;
            return;
        }
        taken += node.room;
        tree->entries++;
        check_order(walk, tree, &node);
        if (!(node.flags & METANODE_BIG) || big_value(walk, tree, &node))
            take_value(walk, tree->table, &node);
    }
    check_room(walk, number, taken);
}

/* The nodes of a branch all lie in their page and fill it. */
static bool branch_sound(struct walk *walk, uint64_t number)
{
    const struct metapage_header header = page_header(walk, number);
    uint64_t taken = 0;
    for (uint32_t n = 0; n < node_count(&header); n++) {
        struct node node;
        if (!node_get(walk, number, n, &node)) {
            found(walk, number * walk->image.page_size, "node %" PRIu32 " lies outside its page",
                  n);
            return false;
        }
        taken += node.room;
    }
    check_room(walk, number, taken);
    return true;
}

/* The separator in front of a child: behind all before it, and not behind what the child has. */
static void check_separator(struct walk *walk, struct walk_tree *tree, const struct node *node)
{
    if (node->key.size == 0 ||
        (tree->previous.bytes && compare_keys(tree->table, node->key, tree->previous) <= 0))
        found(walk, node->offset, "a branch's key does not separate");
    tree->floor = node->key;
}

/* Goes down to the page; leaves are handled at once. Returns true when it is a branch to go
 * through. */
static bool enter(struct walk *walk, struct walk_tree *tree, uint64_t number, uint32_t depth,
                  uint64_t from)
{
    const bool leaf = depth == tree->record->depth;
    const bool sound = claim_present(walk, number, from) &&
                       header_sound(walk, number, leaf ? METAPAGE_LEAF : METAPAGE_BRANCH);
    if (sound && leaf) {
        walk_leaf(walk, tree, number);
        return false;
    }
    if (sound && branch_sound(walk, number)) {
        tree->branch_pages++;
        return true;
    }
    tree->broken = true;
    return false;
}

static void walk_down(struct walk *walk, struct walk_tree *tree)
{
    struct level levels[METAPAGE_DEPTH_MAX];
    uint32_t depth = 1;
    if (!enter(walk, tree, tree->record->root, depth, tree->record_offset))
        return;
    struct metapage_header header = page_header(walk, tree->record->root);
    levels[0] = (struct level){.number = tree->record->root, .count = node_count(&header)};
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        if (level->at == level->count) {
            depth--;
            continue;
        }
        struct node node;
        const bool there = node_get(walk, level->number, level->at, &node);
        ASSERT(there); /* branch_sound has looked */
        if (level->at++ > 0)
            check_separator(walk, tree, &node);
        if (!enter(walk, tree, node.child, depth + 1, node.offset))
            continue;
        header = page_header(walk, node.child);
        levels[depth++] = (struct level){.number = node.child, .count = node_count(&header)};
    }
}

static void check_counts(struct walk *walk, const struct walk_tree *tree)
{
    const struct metapage_tree *record = tree->record;
    if (tree->broken)
        return;
    if (tree->branch_pages != record->branch_pages || tree->leaf_pages != record->leaf_pages ||
        tree->overflow_pages != record->overflow_pages || tree->entries != record->entries)
        found(walk, tree->record_offset, "a tree's counts are wrong");
}

static void walk_table(struct walk *walk, enum table table)
{
    const uint64_t record_offset = walk->tree_offsets[table];
    const struct metapage_tree *record = &walk->trees[table];
    struct walk_tree tree = {.table = table, .record = record, .record_offset = record_offset};
    if (record->flags != (table == TABLE_FREE ? METAPAGE_FREE_FLAGS : 0) ||
        record->page_size != (table == TABLE_FREE ? walk->image.page_size : 0)) {
        found(walk, record_offset, "a tree of another kind");
        return;
    }
    const bool empty = record->root == METAPAGE_NONE;
    if (record->depth > METAPAGE_DEPTH_MAX || empty != (record->depth == 0)) {
        found(walk, record_offset, "a tree's depth is wrong");
        return;
    }
    if (!empty)
        walk_down(walk, &tree);
    check_counts(walk, &tree);
}

/* --- snapshots ----------------------------------------------------------------------------- */

static int walk_begin(struct walk *walk, const struct image *image,
                      const struct metawalk_events *events, uint32_t slot)
{
    *walk = (struct walk){.image = *image, .events = events};
    memcpy(&walk->meta, image->bytes + slot * image->page_size, sizeof walk->meta);
    walk->trees[TABLE_FREE] = walk->meta.free;
    walk->trees[TABLE_MAIN] = walk->meta.main;
    walk->tree_offsets[TABLE_FREE] = slot * image->page_size + offsetof(struct metapage_meta, free);
    walk->tree_offsets[TABLE_MAIN] = slot * image->page_size + offsetof(struct metapage_meta, main);
    walk->seen = mem_try_zeroed(walk->meta.last_page / 8 + 1);
    return walk->seen ? 0 : ERR_NOMEM;
}

static void walk_end(struct walk *walk)
{
    mem_free(walk->seen);
}

static uint64_t meta_offset(const struct walk *walk, uint32_t slot)
{
    return slot * walk->image.page_size;
}

/* The tables' records, and the state. */
static void walk_state(struct walk *walk, uint32_t slot)
{
    const uint64_t offset = meta_offset(walk, slot);
    walk_table(walk, TABLE_MAIN);
    for (int table = TABLE_ROWS; table < TABLE_COUNT; table++) {
        if (!walk->found_table[table])
            found(walk, offset, "the table '%s' is missing", table_names[table]);
    }
    if (walk->found_table[TABLE_STATE])
        walk_table(walk, TABLE_STATE);
    if (!walk->has_state)
        found(walk, offset, "the state is missing");
    else if (walk->state.txn_id != walk->meta.txn_id)
        found(walk, offset + offsetof(struct metapage_meta, txn_id),
              "the meta page names another transaction than its state does");
}

static void walk_rows(struct walk *walk, uint32_t slot)
{
    const uint64_t offset = meta_offset(walk, slot);
    if (walk->found_table[TABLE_ROWS])
        walk_table(walk, TABLE_ROWS);
    if (walk->found_table[TABLE_QUEUES])
        walk_table(walk, TABLE_QUEUES);
    if (!walk->damaged && walk->digest != walk->state.digest)
        found(walk, offset, "rows are missing, or older than they should be");
}

/* Every page is used or free. */
static void check_all_seen(struct walk *walk)
{
    for (uint64_t n = METAPAGE_FIRST; n <= walk->meta.last_page && !walk->damaged; n++) {
        if (!is_seen(walk, n))
            found(walk, n * walk->image.page_size, "the page is neither used nor free");
    }
}

static void walk_all(struct walk *walk, uint32_t slot)
{
    walk_state(walk, slot);
    walk_rows(walk, slot);
    walk_table(walk, TABLE_FREE);
    check_all_seen(walk);
}

/* --- meta pages ---------------------------------------------------------------------------- */

/* Says what is wrong with a meta page by itself, or NULL. */
static const char *meta_fault(const struct image *image, uint32_t slot)
{
    if (image->size < (slot + 1) * image->page_size)
        return "the file is cut off: a meta page is missing";
    struct metapage_meta meta;
    memcpy(&meta, image->bytes + slot * image->page_size, sizeof meta);
    if (meta.magic != METAPAGE_MAGIC || meta.header.flags != METAPAGE_META ||
        meta.header.number != slot)
        return "not a meta page of LMDB";
    if (meta.format != METAPAGE_FORMAT)
        return "a meta page of another format";
    if (meta.free.page_size != image->page_size)
        return "the meta page names another page size than this machine's";
    if (meta.free.flags != METAPAGE_FREE_FLAGS || meta.address != 0)
        return "the meta page asks for what is never used";
    if (meta.map_size != METADB_MAP_SIZE || meta.last_page < 1 || meta.last_page > UINT32_MAX ||
        meta.last_page * image->page_size >= METADB_MAP_SIZE)
        return "the meta page's bounds are wrong";
    return NULL;
}

static uint64_t meta_txn(const struct image *image, uint32_t slot)
{
    struct metapage_meta meta;
    memcpy(&meta, image->bytes + slot * image->page_size, sizeof meta);
    return meta.txn_id;
}

static uint32_t newest_slot(const struct image *image)
{
    return meta_txn(image, 1) > meta_txn(image, 0) ? 1 : 0;
}

/* Before its first transaction a database is empty, and has no state. */
static bool is_blank(const struct metapage_meta *meta)
{
    return meta->txn_id == 0 && meta->main.root == METAPAGE_NONE && meta->last_page == 1;
}

static int verify_older(const struct image *image, const struct metawalk_events *events,
                        uint32_t slot, bool *damaged)
{
    struct walk walk;
    const int err = walk_begin(&walk, image, events, slot);
    if (err < 0)
        return err;
    if (!(is_blank(&walk.meta) && meta_txn(image, 1 - slot) == 1))
        walk_state(&walk, slot);
    *damaged |= walk.damaged;
    walk_end(&walk);
    return 0;
}

static int verify_newer(const struct image *image, const struct metawalk_events *events,
                        uint32_t slot, bool *damaged, struct metawalk_summary *ret_summary)
{
    struct walk walk;
    const int err = walk_begin(&walk, image, events, slot);
    if (err < 0)
        return err;
    walk_all(&walk, slot);
    *damaged |= walk.damaged;
    *ret_summary = (struct metawalk_summary){.row_count = walk.trees[TABLE_ROWS].entries,
                                             .applied = walk.state.applied,
                                             .trimmed = walk.state.trimmed};
    memcpy(ret_summary->row_counts, walk.row_counts, sizeof walk.row_counts);
    walk_end(&walk);
    return 0;
}

static int verify(const struct image *image, const struct metawalk_events *events,
                  struct metawalk_summary *ret_summary)
{
    bool damaged = false;
    for (uint32_t slot = 0; slot < METAPAGE_FIRST; slot++) {
        const char *what = meta_fault(image, slot);
        if (what) {
            events->found(events->data, MIN(slot * image->page_size, image->size), what);
            damaged = true;
        }
    }
    if (damaged)
        return ERR_CORRUPT;
    const uint32_t newest = newest_slot(image);
    int err = verify_newer(image, events, newest, &damaged, ret_summary);
    if (err == 0)
        err = verify_older(image, events, 1 - newest, &damaged);
    if (err == 0 && damaged)
        err = ERR_CORRUPT;
    return err;
}

/* --- the file ------------------------------------------------------------------------------ */

static int image_open(int fd, struct image *ret_image)
{
    struct image image = {.page_size = (uint64_t)sysconf(_SC_PAGESIZE)};
    const int err = file_size(fd, &image.size);
    if (err < 0)
        return err;
    if (image.size > 0) {
        void *map = mmap(NULL, image.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            const int why = -errno;
            return why < 0 ? why : ERR_NOMEM;
        }
        image.bytes = map;
    }
    *ret_image = image;
    return 0;
}

static void image_close(const struct image *image)
{
    if (image->bytes)
        (void)munmap((void *)(uintptr_t)image->bytes, image->size);
}

int metawalk_verify(int fd, const struct metawalk_events *events,
                    struct metawalk_summary *ret_summary, struct errmsg *reterr)
{
    struct image image;
    int err = image_open(fd, &image);
    if (err == 0) {
        err = verify(&image, events, ret_summary);
        image_close(&image);
    }
    if (err < 0 && err != ERR_CORRUPT)
        errmsg_wrap(reterr, "could not verify the metadata: %s", err_text(err));
    return err;
}

/* --- what can be saved --------------------------------------------------------------------- */

/* Rows of a leaf that nothing refers to. */
static void salvage_leaf(struct walk *walk, uint64_t number)
{
    const struct metapage_header header = page_header(walk, number);
    for (uint32_t n = 0; n < node_count(&header); n++) {
        struct node node;
        struct slice value;
        if (!node_get(walk, number, n, &node) || node.flags != 0 || node.size > UINT32_MAX)
            continue;
        const struct slice stored = slice_of(node.value, (uint32_t)node.size);
        enum metarow_table kind = METAROW_ROWS;
        if (!metarow_open(kind, node.key, stored, &value)) {
            kind = METAROW_QUEUES;
            if (!metarow_open(kind, node.key, stored, &value))
                continue;
        }
        walk->row_count++;
        walk->events->row(walk->events->data, kind, node.key, value);
    }
}

static void salvage_orphans(struct walk *walk)
{
    const uint64_t present = walk->image.size / walk->image.page_size;
    for (uint64_t n = METAPAGE_FIRST; n <= walk->meta.last_page && n < present; n++) {
        const struct metapage_header header = page_header(walk, n);
        const bool leaf = header.number == n && header.flags == METAPAGE_LEAF &&
                          header.lower >= sizeof header && header.lower <= header.upper &&
                          header.upper <= walk->image.page_size;
        if (leaf && !is_seen(walk, n))
            salvage_leaf(walk, n);
    }
}

static void salvage(struct walk *walk, uint32_t slot, struct metawalk_salvage *ret)
{
    walk_state(walk, slot);
    walk_rows(walk, slot);
    const bool rows_damaged = walk->damaged;
    walk->damaged = false;
    walk_table(walk, TABLE_FREE);
    const bool free_sound = !walk->damaged;
    if (rows_damaged && free_sound)
        salvage_orphans(walk);
    if (!rows_damaged && free_sound)
        check_all_seen(walk);
    ret->usable = walk->has_state && walk->state.txn_id == walk->meta.txn_id;
    ret->sound = !rows_damaged && free_sound && !walk->damaged;
    ret->state = walk->state;
    ret->row_count = walk->row_count;
    for (int table = TABLE_ROWS; table <= TABLE_QUEUES; table++) {
        if (walk->found_table[table])
            ret->rows_expected += walk->trees[table].entries;
    }
}

int metawalk_salvage(int fd, int which, const struct metawalk_events *events,
                     struct metawalk_salvage *ret_salvage)
{
    struct image image;
    struct metawalk_salvage result = {0};
    int err = image_open(fd, &image);
    if (err < 0)
        return err;
    const bool sound[] = {!meta_fault(&image, 0), !meta_fault(&image, 1)};
    uint32_t slot = sound[0] ? 0 : 1;
    if (sound[0] && sound[1])
        slot = newest_slot(&image);
    if (which > 0)
        slot = 1 - slot;
    struct walk walk;
    if (sound[slot]) {
        err = walk_begin(&walk, &image, events, slot);
        if (err == 0) {
            salvage(&walk, slot, &result);
            walk_end(&walk);
        }
    }
    image_close(&image);
    if (err == 0)
        *ret_salvage = result;
    return err;
}
