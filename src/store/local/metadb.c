#include "store/local/metadb.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/metawalk.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { LONG_KEY_SIZE = METADB_KEY_MAX + 16 };

static const char state_key[] = METAROW_STATE_KEY;

static const struct slice lost_key = {.bytes = (const uint8_t *)METAROW_LOST_KEY,
                                      .size = sizeof METAROW_LOST_KEY - 1};

struct metadb {
    struct meta meta; /* first: scan gets the database from it */
    MDB_env *env;     /* NULL: it could not be opened again */
    MDB_dbi rows, queues, states;
    struct metarow_state state; /* as committed */
    struct metadb_lost *lost;
    uint32_t lost_count;
    char *path;
    _Atomic uint64_t size;              /* of the file; read by other threads */
    uint64_t row_counts[UINT8_MAX + 1]; /* of the owner's rows at the opening, by the first byte */
    uintptr_t lowest; /* address of what was seen in LMDB's map, UINTPTR_MAX: nothing yet */
};

/* LMDB's codes as ours. */
static int convert(int code)
{
    if (code == MDB_MAP_FULL)
        return -ENOSPC;
    if (code == ENOMEM)
        return ERR_NOMEM;
    return code > 0 ? -code : code == 0 ? 0 : ERR_CORRUPT;
}

static int report(int code, const char *what, struct errmsg *reterr)
{
    if (code)
        errmsg_wrap(reterr, "could not %s the metadata: %s", what, mdb_strerror(code));
    return convert(code);
}

/* --- pages of the map ----------------------------------------------------------------------- */

static void note_page(struct metadb *db, MDB_val seen)
{
    db->lowest = MIN(db->lowest, (uintptr_t)seen.mv_data);
}

/* Lets go of LMDB's map from the lowest address seen on. Its pages stay in the kernel's cache; read
 * once at the start, or touched by one checkpoint, they should not count as the server's memory for
 * ever. What lies behind the file's end is mapped too, and empty. */
static void forget_pages(struct metadb *db)
{
    if (db->lowest == UINTPTR_MAX)
        return;
    const uintptr_t begin = db->lowest & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    (void)madvise((void *)begin, metadb_size(db), MADV_DONTNEED);
}

/* --- keys ---------------------------------------------------------------------------------- */

/* The LMDB key for `key`; `room` holds it when it is not the key itself. */
static MDB_val short_key(const struct metadb *db, struct slice key, uint8_t room[LONG_KEY_SIZE])
{
    if (key.size <= METADB_KEY_MAX)
        return (MDB_val){.mv_size = key.size, .mv_data = (void *)(uintptr_t)key.bytes};
    const XXH128_hash_t hash = XXH3_128bits_withSeed(key.bytes, key.size, db->state.secret);
    memcpy(room, key.bytes, METADB_KEY_MAX);
    memcpy(room + METADB_KEY_MAX, &hash.low64, sizeof hash.low64);
    memcpy(room + METADB_KEY_MAX + sizeof hash.low64, &hash.high64, sizeof hash.high64);
    return (MDB_val){.mv_size = LONG_KEY_SIZE, .mv_data = room};
}

struct stored_row {
    struct slice key, value;
};

static struct slice slice_of_val(MDB_val val)
{
    return slice_of(val.mv_data, val.mv_size);
}

/* Takes a stored row apart. Returns false when it cannot be one. */
static bool parse_row(MDB_val key, MDB_val stored, struct stored_row *ret_row)
{
    struct slice opened;
    if (!metarow_open(METAROW_ROWS, slice_of_val(key), slice_of_val(stored), &opened))
        return false;
    const MDB_val value = {.mv_size = opened.size, .mv_data = (void *)(uintptr_t)opened.bytes};
    if (key.mv_size <= METADB_KEY_MAX) {
        ret_row->key = slice_of(key.mv_data, key.mv_size);
        ret_row->value = slice_of(value.mv_data, value.mv_size);
        return true;
    }
    uint32_t size = 0;
    if (key.mv_size != LONG_KEY_SIZE || value.mv_size < sizeof size)
        return false;
    memcpy(&size, value.mv_data, sizeof size);
    if (size <= METADB_KEY_MAX || size > value.mv_size - sizeof size)
        return false;
    const uint8_t *bytes = (const uint8_t *)value.mv_data + sizeof size;
    ret_row->key = slice_of(bytes, size);
    ret_row->value = slice_of(bytes + size, value.mv_size - sizeof size - size);
    return memcmp(bytes, key.mv_data, METADB_KEY_MAX) == 0;
}

/* --- reading ------------------------------------------------------------------------------- */

static int begin_read(struct metadb *db, MDB_txn **ret_txn)
{
    return db->env ? mdb_txn_begin(db->env, NULL, MDB_RDONLY, ret_txn) : MDB_PANIC;
}

static int compare_keys(const void *a, const void *b)
{
    return slice_order(((const struct stored_row *)a)->key, ((const struct stored_row *)b)->key);
}

struct scan {
    struct slice prefix;
    meta_scan_fn *each;
    void *data;
    struct stored_row *group; /* rows with long keys that share their first bytes */
    size_t group_count, group_room;
    struct metadb *db;
};

static int hand_out(struct scan *scan, const struct stored_row *row)
{
    return slice_begins_with(row->key, scan->prefix) ? scan->each(scan->data, row->key, row->value)
                                                     : 0;
}

/* LMDB has the rows of a group in the order of their hashes. */
static int end_group(struct scan *scan)
{
    int result = 0;
    if (scan->group_count)
        qsort(scan->group, scan->group_count, sizeof *scan->group, compare_keys);
    for (size_t i = 0; i < scan->group_count && result == 0; i++)
        result = hand_out(scan, &scan->group[i]);
    scan->group_count = 0;
    return result;
}

static int add_to_group(struct scan *scan, const struct stored_row *row)
{
    if (scan->group_count &&
        memcmp(scan->group[0].key.bytes, row->key.bytes, METADB_KEY_MAX) != 0) {
        const int result = end_group(scan);
        if (result != 0)
            return result;
    }
    if (scan->group_count == scan->group_room) {
        const size_t room = MAX(16u, scan->group_room * 2);
        void *grown = mem_try_realloc(scan->group, room * sizeof *row);
        if (!grown)
            return ERR_NOMEM;
        scan->group = grown;
        scan->group_room = room;
    }
    scan->group[scan->group_count++] = *row;
    return 0;
}

static int scan_row(struct scan *scan, MDB_val key, MDB_val value)
{
    struct stored_row row;
    note_page(scan->db, key);
    if (!parse_row(key, value, &row))
        return ERR_CORRUPT;
    if (key.mv_size > METADB_KEY_MAX)
        return add_to_group(scan, &row);
    const int result = end_group(scan);
    return result ? result : hand_out(scan, &row);
}

static int scan_rows(struct scan *scan, MDB_cursor *cursor)
{
    const struct slice start = {.bytes = scan->prefix.bytes,
                                .size = MIN(scan->prefix.size, METADB_KEY_MAX)};
    MDB_val key = {.mv_size = start.size, .mv_data = (void *)(uintptr_t)start.bytes};
    MDB_val value;
    int result = 0;
    int code = mdb_cursor_get(cursor, &key, &value, start.size ? MDB_SET_RANGE : MDB_FIRST);
    while (code == 0 && result == 0 &&
           slice_begins_with(slice_of(key.mv_data, key.mv_size), start)) {
        result = scan_row(scan, key, value);
        if (result == 0)
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (result == 0)
        result = end_group(scan);
    return result == 0 && code != MDB_NOTFOUND ? convert(code) : result;
}

static int on_scan(struct meta *meta, struct slice prefix, meta_scan_fn *each, void *data)
{
    struct metadb *db = CONTAINER_OF(meta, struct metadb, meta);
    struct scan scan = {.prefix = prefix, .each = each, .data = data, .db = db};
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int code = begin_read(db, &txn);
    if (code)
        return convert(code);
    code = mdb_cursor_open(txn, db->rows, &cursor);
    const int result = code ? convert(code) : scan_rows(&scan, cursor);
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mem_free(scan.group);
    forget_pages(db);
    return result;
}

static uint64_t on_count(struct meta *meta, uint8_t first)
{
    return CONTAINER_OF(meta, struct metadb, meta)->row_counts[first];
}

static const struct meta_ops meta_ops = {.name = "lmdb", .scan = on_scan, .count = on_count};

static bool parse_queue(MDB_val key, MDB_val stored, struct overlay_queue *ret_queue)
{
    struct slice value;
    if (!metarow_open(METAROW_QUEUES, slice_of_val(key), slice_of_val(stored), &value) ||
        value.size != sizeof *ret_queue)
        return false;
    memcpy(ret_queue, value.bytes, sizeof *ret_queue);
    return true;
}

int metadb_queues(struct metadb *db, metadb_queue_fn *each, void *data)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int code = begin_read(db, &txn);
    if (code)
        return convert(code);
    code = mdb_cursor_open(txn, db->queues, &cursor);
    MDB_val key, value;
    while (code == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint32_t queue_id = 0;
        struct overlay_queue queue;
        if (key.mv_size != sizeof queue_id || !parse_queue(key, value, &queue)) {
            code = MDB_CORRUPTED;
            break;
        }
        memcpy(&queue_id, key.mv_data, sizeof queue_id);
        each(data, ntohl(queue_id), &queue);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return code == MDB_NOTFOUND ? 0 : convert(code);
}

/* --- writing ------------------------------------------------------------------------------- */

static int put_state(struct metadb *db, MDB_txn *txn, struct metarow_state *state)
{
    MDB_val key = {.mv_size = sizeof state_key - 1, .mv_data = (void *)(uintptr_t)state_key};
    MDB_val value = {.mv_size = sizeof *state, .mv_data = state};
    state->txn_id = mdb_txn_id(txn);
    metarow_seal_state(state);
    return mdb_put(txn, db->states, &key, &value, 0);
}

/* A write transaction, with the state it will end in. */
struct change {
    struct metadb *db;
    MDB_txn *txn;
    struct metarow_state state;
};

static enum metarow_table table_kind(const struct metadb *db, MDB_dbi table)
{
    return table == db->rows ? METAROW_ROWS : METAROW_QUEUES;
}

/* Takes the row, if it is there, out of the sum of checksums. Returns LMDB's code. */
static int forget_row(struct change *change, MDB_dbi table, MDB_val *key)
{
    MDB_val stored = {0};
    const int code = mdb_get(change->txn, table, key, &stored);
    if (code == 0)
        change->state.digest -= metarow_stored_check(slice_of_val(stored));
    return code;
}

static int delete_row(struct change *change, MDB_dbi table, MDB_val *key)
{
    int code = forget_row(change, table, key);
    if (code == 0)
        code = mdb_del(change->txn, table, key, NULL);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* Stores `head` and `tail` as the row's value, with their checksum. */
static int store_row(struct change *change, MDB_dbi table, MDB_val *key, struct slice head,
                     struct slice tail)
{
    int code = forget_row(change, table, key);
    if (code != 0 && code != MDB_NOTFOUND)
        return code;
    const size_t size = (size_t)head.size + tail.size;
    MDB_val stored = {.mv_size = size + METAROW_CHECK_SIZE};
    code = mdb_put(change->txn, table, key, &stored, MDB_RESERVE);
    if (code)
        return code;
    uint8_t *bytes = stored.mv_data;
    if (head.size)
        memcpy(bytes, head.bytes, head.size);
    if (tail.size)
        memcpy(bytes + head.size, tail.bytes, tail.size);
    const uint64_t check =
        metarow_check(table_kind(change->db, table), slice_of_val(*key), slice_of(bytes, size));
    memcpy(bytes + size, &check, sizeof check);
    change->state.digest += check;
    return 0;
}

static int put_row(struct change *change, const struct overlay_row *row)
{
    uint8_t room[LONG_KEY_SIZE];
    const struct metadb *db = change->db;
    const MDB_dbi table = row->table == OVERLAY_ROWS ? db->rows : db->queues;
    MDB_val key = short_key(db, overlay_key(row), room);
    if (row->deleted)
        return delete_row(change, table, &key);
    const uint32_t size = row->key_size;
    if (size <= METADB_KEY_MAX)
        return store_row(change, table, &key, slice_of("", 0), overlay_value(row));
    /* A long key's row has the whole key in front of its value. */
    return store_row(change, table, &key, slice_of(&size, sizeof size),
                     slice_of(row->bytes, (size_t)size + row->value_size));
}

/* --- opening ------------------------------------------------------------------------------- */

static int read_state(struct metadb *db, MDB_txn *txn)
{
    MDB_val key = {.mv_size = sizeof state_key - 1, .mv_data = (void *)(uintptr_t)state_key};
    MDB_val value;
    const int code = mdb_get(txn, db->states, &key, &value);
    if (code)
        return code;
    if (value.mv_size != sizeof db->state)
        return MDB_CORRUPTED;
    memcpy(&db->state, value.mv_data, sizeof db->state);
    return metarow_state_sound(&db->state) ? 0 : MDB_CORRUPTED;
}

static int read_lost(struct metadb *db, MDB_txn *txn)
{
    MDB_val key = {.mv_size = lost_key.size, .mv_data = (void *)(uintptr_t)lost_key.bytes};
    MDB_val stored;
    struct slice value;
    const int code = mdb_get(txn, db->states, &key, &stored);
    if (code)
        return code == MDB_NOTFOUND ? 0 : code;
    if (!metarow_open(METAROW_LOST, lost_key, slice_of_val(stored), &value))
        return MDB_CORRUPTED;
    db->lost_count = value.size / (uint32_t)sizeof *db->lost;
    db->lost = (struct metadb_lost *)(void *)mem_try_copy(value.bytes, value.size);
    return db->lost ? 0 : ENOMEM;
}

static int open_tables(struct metadb *db)
{
    MDB_txn *txn = NULL;
    int code = mdb_txn_begin(db->env, NULL, 0, &txn);
    if (code)
        return code;
    code = mdb_dbi_open(txn, "rows", MDB_CREATE, &db->rows);
    if (code == 0)
        code = mdb_dbi_open(txn, "queues", MDB_CREATE, &db->queues);
    if (code == 0)
        code = mdb_dbi_open(txn, "state", MDB_CREATE, &db->states);
    if (code == 0)
        code = read_state(db, txn);
    if (code == 0)
        code = read_lost(db, txn);
    if (code == MDB_NOTFOUND) {
        db->state = (struct metarow_state){.version = METAROW_VERSION};
        code = getrandom(&db->state.secret, sizeof db->state.secret, 0) < 0 ? errno : 0;
        if (code == 0)
            code = put_state(db, txn, &db->state);
    }
    if (code) {
        mdb_txn_abort(txn);
        return code;
    }
    return mdb_txn_commit(txn);
}

static void measure(struct metadb *db)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(db->env, &info) == 0 && mdb_env_stat(db->env, &stat) == 0)
        atomic_store_explicit(&db->size, (info.me_last_pgno + 1) * stat.ms_psize,
                              memory_order_relaxed);
}

static void close_env(struct metadb *db)
{
    if (db->env)
        mdb_env_close(db->env);
    db->env = NULL;
    mem_free(db->lost);
    db->lost = NULL;
    db->lost_count = 0;
    db->lowest = UINTPTR_MAX;
}

static int open_env(struct metadb *db)
{
    int code = mdb_env_create(&db->env);
    if (code == 0)
        code = mdb_env_set_maxdbs(db->env, 4);
    if (code == 0)
        code = mdb_env_set_mapsize(db->env, METADB_MAP_SIZE);
    if (code == 0)
        code = mdb_env_open(db->env, db->path, MDB_NOTLS, 0640);
    if (code == 0)
        code = open_tables(db);
    if (code == 0)
        measure(db);
    else
        close_env(db);
    return code;
}

/* --- committing ---------------------------------------------------------------------------- */

/* After a failure to write its first pages LMDB refuses everything until it is opened again. What
 * it finds then is the transaction before, or that one whole. */
static int begin(struct metadb *db, struct change *ret_change)
{
    *ret_change = (struct change){.db = db};
    int code = db->env ? mdb_txn_begin(db->env, NULL, 0, &ret_change->txn) : MDB_PANIC;
    if (code == MDB_PANIC) {
        close_env(db);
        code = open_env(db);
        if (code == 0)
            code = mdb_txn_begin(db->env, NULL, 0, &ret_change->txn);
    }
    ret_change->state = db->state;
    return code;
}

/* A new database has been written to and not read: finds out where its map is. */
static void look_at_ends(struct metadb *db)
{
    static const MDB_cursor_op ends[] = {MDB_FIRST, MDB_LAST};
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    if (begin_read(db, &txn))
        return;
    if (mdb_cursor_open(txn, db->rows, &cursor) == 0) {
        for (size_t i = 0; i < ARRAY_COUNT(ends); i++) {
            MDB_val key, value;
            if (mdb_cursor_get(cursor, &key, &value, ends[i]) == 0)
                note_page(db, key);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
}

/* Ends a write transaction: with the state when all went well, else without a trace. */
static int finish(struct change *change, int code, struct errmsg *reterr)
{
    struct metadb *db = change->db;
    if (code == 0)
        code = put_state(db, change->txn, &change->state);
    if (code)
        mdb_txn_abort(change->txn);
    else
        code = mdb_txn_commit(change->txn);
    if (code == 0) {
        db->state = change->state;
        measure(db);
    }
    look_at_ends(db);
    forget_pages(db);
    return report(code, "write", reterr);
}

int metadb_commit(struct metadb *db, struct overlay_row *const *rows, uint64_t count,
                  uint64_t applied, struct errmsg *reterr)
{
    ASSERT(applied >= db->state.applied);
    struct change change;
    int code = begin(db, &change);
    if (code)
        return report(code, "write", reterr);
    change.state.applied = applied;
#ifdef MUTATION_KILL_DROP_ROW
    count -= count > 1;
#endif
    for (uint64_t i = 0; i < count && code == 0; i++)
        code = put_row(&change, rows[i]);
    return finish(&change, code, reterr);
}

int metadb_prepare(struct metadb *db, struct overlay_row *const *rows, uint64_t count,
                   struct errmsg *reterr)
{
    return metadb_commit(db, rows, count, db->state.applied, reterr);
}

static bool is_dropped(MDB_val value)
{
    struct overlay_queue queue = {0};
    memcpy(&queue, value.mv_data, MIN(sizeof queue, value.mv_size));
    return queue.dropped_at != 0;
}

/* What a repair said of a queue's numbers stays true. */
static void keep_number(MDB_val stored, struct overlay_queue *queue)
{
    struct overlay_queue before = {0};
    memcpy(&before, stored.mv_data, MIN(sizeof before, stored.mv_size));
    queue->next_seq = before.next_seq;
    queue->numbered_to = before.numbered_to;
}

/* Removes what is remembered of queues that were dropped before `forget`. */
static int forget_drops(struct change *change, uint64_t forget)
{
    MDB_cursor *cursor = NULL;
    int code = mdb_cursor_open(change->txn, change->db->queues, &cursor);
    if (code)
        return code;
    MDB_val key, value;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct overlay_queue queue = {0};
        memcpy(&queue, value.mv_data, MIN(sizeof queue, value.mv_size));
        if (queue.dropped_at && queue.dropped_at < forget) {
            change->state.digest -= metarow_stored_check(slice_of_val(value));
            code = mdb_cursor_del(cursor, 0);
        }
        if (code)
            break;
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

int metadb_trim(struct metadb *db, const struct metadb_base *bases, uint64_t count,
                uint64_t trimmed, uint64_t forget, struct errmsg *reterr)
{
    ASSERT(trimmed >= db->state.trimmed);
    struct change change;
    int code = begin(db, &change);
    if (code)
        return report(code, "write", reterr);
    change.state.trimmed = trimmed;
    for (uint64_t i = 0; i < count && code == 0; i++) {
        uint32_t id = htonl(bases[i].queue_id);
        struct overlay_queue queue = {.first_seq = bases[i].first_seq};
        MDB_val key = {.mv_size = sizeof id, .mv_data = &id};
        MDB_val value = {0};
        code = mdb_get(change.txn, db->queues, &key, &value);
        if (code == 0 && is_dropped(value))
            continue;
        if (code == 0)
            keep_number(value, &queue);
        if (code == 0 || code == MDB_NOTFOUND)
            code = store_row(&change, db->queues, &key, slice_of("", 0),
                             slice_of(&queue, sizeof queue));
    }
    if (code == 0)
        code = forget_drops(&change, forget);
    return finish(&change, code, reterr);
}

/* --- after a repair ------------------------------------------------------------------------ */

const struct metadb_lost *metadb_lost(const struct metadb *db, uint32_t *ret_count)
{
    *ret_count = db->lost_count;
    return db->lost;
}

static int compare_lost(const void *a, const void *b)
{
    const struct metadb_lost *left = a, *right = b;
    return (left->start > right->start) - (left->start < right->start);
}

int metadb_lose(struct metadb *db, const struct metadb_lost *ranges, uint32_t count,
                struct errmsg *reterr)
{
    struct change change;
    const uint32_t total = db->lost_count + count;
    struct metadb_lost *all = mem_new(total * sizeof *all + METAROW_CHECK_SIZE);
    if (db->lost_count)
        memcpy(all, db->lost, db->lost_count * sizeof *all);
    memcpy(all + db->lost_count, ranges, count * sizeof *all);
    qsort(all, total, sizeof *all, compare_lost);
    int code = begin(db, &change);
    if (code) {
        mem_free(all);
        return report(code, "write", reterr);
    }
    const size_t size = total * sizeof *all;
    const uint64_t check = metarow_check(METAROW_LOST, lost_key, slice_of(all, size));
    memcpy((uint8_t *)all + size, &check, sizeof check);
    MDB_val key = {.mv_size = lost_key.size, .mv_data = (void *)(uintptr_t)lost_key.bytes};
    MDB_val value = {.mv_size = size + sizeof check, .mv_data = all};
    code = mdb_put(change.txn, db->states, &key, &value, 0);
    const int err = finish(&change, code, reterr);
    if (err < 0) {
        mem_free(all);
        return err;
    }
    mem_free(db->lost);
    db->lost = all;
    db->lost_count = total;
    return 0;
}

int metadb_number(struct metadb *db, const struct metadb_base *numbers, uint64_t count,
                  uint64_t numbered_to, struct errmsg *reterr)
{
    struct change change;
    int code = begin(db, &change);
    if (code)
        return report(code, "write", reterr);
    for (uint64_t i = 0; i < count && code == 0; i++) {
        uint32_t id = htonl(numbers[i].queue_id);
        MDB_val key = {.mv_size = sizeof id, .mv_data = &id};
        MDB_val stored = {0};
        struct overlay_queue queue = {0};
        code = mdb_get(change.txn, db->queues, &key, &stored);
        if (code == 0)
            memcpy(&queue, stored.mv_data, MIN(sizeof queue, stored.mv_size));
        queue.next_seq = numbers[i].first_seq;
        queue.numbered_to = numbered_to;
        if (code == 0 || code == MDB_NOTFOUND)
            code = store_row(&change, db->queues, &key, slice_of("", 0),
                             slice_of(&queue, sizeof queue));
    }
    return finish(&change, code, reterr);
}

struct metadb_restore {
    struct change change;
    int code; /* LMDB's, of the first that failed */
};

int metadb_restore_begin(struct metadb *db, struct metadb_restore **ret_restore,
                         struct errmsg *reterr)
{
    struct metadb_restore *restore = mem_new(sizeof *restore);
    const int code = begin(db, &restore->change);
    if (code) {
        mem_free(restore);
        return report(code, "write", reterr);
    }
    *ret_restore = restore;
    return 0;
}

void metadb_restore_put(struct metadb_restore *restore, enum metarow_table table, struct slice key,
                        struct slice value)
{
    struct change *change = &restore->change;
    struct metadb *db = change->db;
    const MDB_dbi dbi = table == METAROW_ROWS ? db->rows : db->queues;
    uint8_t room[LONG_KEY_SIZE];
    MDB_val stored_key = {.mv_size = key.size, .mv_data = (void *)(uintptr_t)key.bytes};
    MDB_val there;
    uint32_t size = 0;
    if (table == METAROW_ROWS && key.size > METADB_KEY_MAX && value.size > sizeof size) {
        memcpy(&size, value.bytes, sizeof size); /* this database's hashes are others */
        if (size > METADB_KEY_MAX && size <= value.size - sizeof size)
            stored_key = short_key(db, slice_of(value.bytes + sizeof size, size), room);
    }
    if (restore->code == 0)
        restore->code = mdb_get(change->txn, dbi, &stored_key, &there);
    if (restore->code == MDB_NOTFOUND)
        restore->code = store_row(change, dbi, &stored_key, slice_of("", 0), value);
}

int metadb_restore_end(struct metadb_restore *restore, const struct metadb_state *state,
                       struct errmsg *reterr)
{
    restore->change.state.applied = state->applied;
    restore->change.state.trimmed = state->trimmed;
    const int err = finish(&restore->change, restore->code, reterr);
    mem_free(restore);
    return err;
}

/* --- the database -------------------------------------------------------------------------- */

static void on_found(void *data, uint64_t offset, const char *what)
{
    struct errmsg *first = data;
    if (!first->text[0])
        errmsg_wrap(first, "metadata '%s' at offset %" PRIu64 ": %s", METADB_FILE_NAME, offset,
                    what);
}

/* Verifies the file in the directory, if there is one, before LMDB maps it. ret_summary: left alone
 * when there is none. */
static int verify(const char *path, struct metawalk_summary *ret_summary, struct errmsg *reterr)
{
    const int dir_fd = file_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    const int fd = dir_fd < 0 ? dir_fd : file_openat(dir_fd, METADB_FILE_NAME, O_RDONLY, 0);
    struct errmsg first = {0};
    const struct metawalk_events events = {.found = on_found, .data = &first};
    int err = fd == -ENOENT ? 0 : MIN(fd, 0);
    if (fd >= 0)
        err = metawalk_verify(fd, &events, ret_summary, &first);
    else if (err < 0)
        errmsg_wrap(&first, "could not open the metadata: %s", err_text(err));
    if (fd >= 0)
        (void)close(fd);
    if (dir_fd >= 0)
        (void)close(dir_fd);
    if (err < 0)
        *reterr = first;
    return err;
}

int metadb_open(const char *path, struct metadb **ret_db, struct metadb_state *ret_state,
                struct errmsg *reterr)
{
    struct metawalk_summary summary = {0};
    const int err = verify(path, &summary, reterr);
    if (err < 0)
        return err;
    struct metadb *db = mem_new(sizeof *db);
    memcpy(db->row_counts, summary.row_counts, sizeof db->row_counts);
    db->meta.ops = &meta_ops;
    db->path = mem_strdup(path);
    const int code = open_env(db);
    if (code) {
        (void)metadb_close(db);
        return report(code, "open", reterr);
    }
    ret_state->applied = db->state.applied;
    ret_state->trimmed = db->state.trimmed;
    *ret_db = db;
    return 0;
}

struct metadb *metadb_close(struct metadb *db)
{
    if (db) {
        close_env(db);
        mem_free(db->path);
        mem_free(db);
    }
    return NULL;
}

struct meta *metadb_meta(struct metadb *db)
{
    return &db->meta;
}

uint64_t metadb_size(struct metadb *db)
{
    return atomic_load_explicit(&db->size, memory_order_relaxed);
}
