#include "store/local/metadb.h"

#include "base/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAP_SIZE (UINT64_C(64) << 30)

enum { PAGE_SIZE = 4096 };

/* Of pages in memory during a commit, unless told otherwise. */
#define DIRTY_DEFAULT (UINT64_C(64) << 20)

enum { STATE_VERSION = 1, LONG_KEY_SIZE = METADB_KEY_MAX + 16 };

static const char state_key[] = "state";

/* The one row of the table "state". */
struct state_row {
    uint64_t version;
    uint64_t secret; /* keys the hashes of long keys */
    uint64_t applied;
    uint64_t trimmed;
};

struct metadb {
    struct meta meta; /* first: scan gets the database from it */
    MDB_env *env;     /* NULL: it could not be opened again */
    MDB_dbi rows, queues, states;
    struct state_row state; /* as committed */
    uint64_t dirty_max;
    char *path;
    _Atomic uint64_t size; /* of the file; read by other threads */
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

/* Takes a stored row apart. Returns false when it cannot be one. */
static bool parse_row(MDB_val key, MDB_val value, struct stored_row *ret_row)
{
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

static int compare_keys(const void *a, const void *b)
{
    const struct slice left = ((const struct stored_row *)a)->key;
    const struct slice right = ((const struct stored_row *)b)->key;
    const int order = memcmp(left.bytes, right.bytes, MIN(left.size, right.size));
    return order ? order : (left.size > right.size) - (left.size < right.size);
}

struct scan {
    struct slice prefix;
    meta_scan_fn *each;
    void *data;
    struct stored_row *group; /* rows with long keys that share their first bytes */
    size_t group_count, group_room;
};

static bool starts_with(struct slice key, struct slice prefix)
{
    return key.size >= prefix.size &&
           (prefix.size == 0 || memcmp(key.bytes, prefix.bytes, prefix.size) == 0);
}

static int hand_out(struct scan *scan, const struct stored_row *row)
{
    return starts_with(row->key, scan->prefix) ? scan->each(scan->data, row->key, row->value) : 0;
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
    while (code == 0 && result == 0 && starts_with(slice_of(key.mv_data, key.mv_size), start)) {
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
    struct scan scan = {.prefix = prefix, .each = each, .data = data};
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int code = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return convert(code);
    code = mdb_cursor_open(txn, db->rows, &cursor);
    const int result = code ? convert(code) : scan_rows(&scan, cursor);
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mem_free(scan.group);
    return result;
}

static const struct meta_ops meta_ops = {.name = "local", .scan = on_scan};

int metadb_queues(struct metadb *db, metadb_queue_fn *each, void *data)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    int code = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    if (code)
        return convert(code);
    code = mdb_cursor_open(txn, db->queues, &cursor);
    MDB_val key, value;
    while (code == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint32_t queue_id = 0;
        struct overlay_queue queue;
        if (key.mv_size != sizeof queue_id || value.mv_size != sizeof queue) {
            code = MDB_CORRUPTED;
            break;
        }
        memcpy(&queue_id, key.mv_data, sizeof queue_id);
        memcpy(&queue, value.mv_data, sizeof queue);
        each(data, ntohl(queue_id), &queue);
    }
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return code == MDB_NOTFOUND ? 0 : convert(code);
}

static int count_row(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    ++*(uint64_t *)data;
    return 0;
}

int metadb_check(struct metadb *db, uint64_t *ret_count, struct errmsg *reterr)
{
    uint64_t count = 0;
    const int err = meta_scan(&db->meta, slice_of("", 0), count_row, &count);
    if (err < 0) {
        errmsg_wrap(reterr, "metadata: unreadable after %llu rows: %s", (unsigned long long)count,
                    err_text(err));
        return err;
    }
    *ret_count = count;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------- */

static int put_state(struct metadb *db, MDB_txn *txn, struct state_row *state)
{
    MDB_val key = {.mv_size = sizeof state_key - 1, .mv_data = (void *)(uintptr_t)state_key};
    MDB_val value = {.mv_size = sizeof *state, .mv_data = state};
    return mdb_put(txn, db->states, &key, &value, 0);
}

/* A long key's row has the whole key in front of its value. */
static int put_long(struct metadb *db, MDB_txn *txn, MDB_val *key, const struct overlay_row *row)
{
    const uint32_t size = row->key_size;
    MDB_val value = {.mv_size = sizeof size + (size_t)size + row->value_size};
    const int code = mdb_put(txn, db->rows, key, &value, MDB_RESERVE);
    if (code)
        return code;
    memcpy(value.mv_data, &size, sizeof size);
    memcpy((uint8_t *)value.mv_data + sizeof size, row->bytes, (size_t)size + row->value_size);
    return 0;
}

static int put_row(struct metadb *db, MDB_txn *txn, const struct overlay_row *row)
{
    uint8_t room[LONG_KEY_SIZE];
    const bool of_owner = row->table == OVERLAY_ROWS;
    const MDB_dbi table = of_owner ? db->rows : db->queues;
    MDB_val key = short_key(db, overlay_key(row), room);
    if (row->deleted) {
        const int code = mdb_del(txn, table, &key, NULL);
        return code == MDB_NOTFOUND ? 0 : code;
    }
    if (row->key_size > METADB_KEY_MAX)
        return put_long(db, txn, &key, row);
    const struct slice bytes = overlay_value(row);
    MDB_val value = {.mv_size = bytes.size, .mv_data = (void *)(uintptr_t)bytes.bytes};
    return mdb_put(txn, table, &key, &value, 0);
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
    return db->state.version == STATE_VERSION ? 0 : MDB_VERSION_MISMATCH;
}

static int open_tables(struct metadb *db, bool read_only)
{
    MDB_txn *txn = NULL;
    const unsigned create = read_only ? 0 : MDB_CREATE;
    int code = mdb_txn_begin(db->env, NULL, read_only ? MDB_RDONLY : 0, &txn);
    if (code)
        return code;
    code = mdb_dbi_open(txn, "rows", create, &db->rows);
    if (code == 0)
        code = mdb_dbi_open(txn, "queues", create, &db->queues);
    if (code == 0)
        code = mdb_dbi_open(txn, "state", create, &db->states);
    if (code == 0)
        code = read_state(db, txn);
    if (code == MDB_NOTFOUND && !read_only) {
        db->state = (struct state_row){.version = STATE_VERSION};
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

static int open_env(struct metadb *db, bool read_only)
{
    int code = mdb_env_create(&db->env);
    if (code == 0)
        code = mdb_env_set_maxdbs(db->env, 4);
    if (code == 0)
        code = mdb_env_set_mapsize(db->env, MAP_SIZE);
    const unsigned flags = MDB_NOTLS | (read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
    if (code == 0)
        code = mdb_env_open(db->env, db->path, flags, 0640);
    if (code == 0)
        code = open_tables(db, read_only);
    if (code == 0) {
        measure(db);
    } else if (db->env) {
        mdb_env_close(db->env);
        db->env = NULL;
    }
    return code;
}

/* After a failure to write its first pages LMDB refuses everything until it is opened again. What
 * it finds then is the transaction before, or that one whole. */
static int begin(struct metadb *db, MDB_txn **ret_txn)
{
    int code = db->env ? mdb_txn_begin(db->env, NULL, 0, ret_txn) : MDB_PANIC;
    if (code != MDB_PANIC)
        return code;
    if (db->env)
        mdb_env_close(db->env);
    db->env = NULL;
    code = open_env(db, false);
    return code ? code : mdb_txn_begin(db->env, NULL, 0, ret_txn);
}

/* --- committing ---------------------------------------------------------------------------- */

/* Ends a write transaction: with the state when all went well, else without a trace. */
static int finish(struct metadb *db, MDB_txn *txn, int code, struct state_row *state,
                  struct errmsg *reterr)
{
    if (code == 0)
        code = put_state(db, txn, state);
    if (code)
        mdb_txn_abort(txn);
    else
        code = mdb_txn_commit(txn);
    if (code == 0) {
        db->state = *state;
        measure(db);
    }
    return report(code, "write", reterr);
}

/* Bytes of pages that a transaction holds in memory for a row at worst: a page of its own, or those
 * of a long value. */
static uint64_t dirty_bytes(const struct overlay_row *row)
{
    const uint64_t size = (uint64_t)row->key_size + row->value_size;
    return (size / PAGE_SIZE + 1) * PAGE_SIZE;
}

/* How many of the rows go into the next transaction. */
static uint64_t part_size(const struct metadb *db, struct overlay_row *const *rows, uint64_t count)
{
    uint64_t part = 0, bytes = 0;
    while (part < count && (part == 0 || bytes + dirty_bytes(rows[part]) <= db->dirty_max))
        bytes += dirty_bytes(rows[part++]);
    return part;
}

void metadb_set_dirty_max(struct metadb *db, uint64_t bytes)
{
    db->dirty_max = bytes;
}

int metadb_commit(struct metadb *db, struct overlay_row *const *rows, uint64_t count,
                  uint64_t applied, struct errmsg *reterr)
{
    ASSERT(applied >= db->state.applied);
    uint64_t done = 0;
    int err = 0;
    do {
        const uint64_t part = part_size(db, rows + done, count - done);
        MDB_txn *txn = NULL;
        int code = begin(db, &txn);
        if (code)
            return report(code, "write", reterr);
        struct state_row state = db->state;
        if (done + part == count)
            state.applied = applied;
        for (uint64_t i = 0; i < part && code == 0; i++)
            code = put_row(db, txn, rows[done + i]);
        err = finish(db, txn, code, &state, reterr);
        done += part;
    } while (err == 0 && done < count);
    return err;
}

static bool is_dropped(MDB_val value)
{
    struct overlay_queue queue = {0};
    memcpy(&queue, value.mv_data, MIN(sizeof queue, value.mv_size));
    return queue.dropped_at != 0;
}

/* Removes what is remembered of queues that were dropped before `forget`. */
static int forget_drops(struct metadb *db, MDB_txn *txn, uint64_t forget)
{
    MDB_cursor *cursor = NULL;
    int code = mdb_cursor_open(txn, db->queues, &cursor);
    if (code)
        return code;
    MDB_val key, value;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct overlay_queue queue = {0};
        memcpy(&queue, value.mv_data, MIN(sizeof queue, value.mv_size));
        if (queue.dropped_at && queue.dropped_at < forget)
            code = mdb_cursor_del(cursor, 0);
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
    MDB_txn *txn = NULL;
    int code = begin(db, &txn);
    if (code)
        return report(code, "write", reterr);
    struct state_row state = db->state;
    state.trimmed = trimmed;
    for (uint64_t i = 0; i < count && code == 0; i++) {
        uint32_t id = htonl(bases[i].queue_id);
        struct overlay_queue queue = {.first_seq = bases[i].first_seq};
        MDB_val key = {.mv_size = sizeof id, .mv_data = &id};
        MDB_val value = {0};
        code = mdb_get(txn, db->queues, &key, &value);
        if (code == 0 && is_dropped(value))
            continue;
        value = (MDB_val){.mv_size = sizeof queue, .mv_data = &queue};
        if (code == 0 || code == MDB_NOTFOUND)
            code = mdb_put(txn, db->queues, &key, &value, 0);
    }
    if (code == 0)
        code = forget_drops(db, txn, forget);
    return finish(db, txn, code, &state, reterr);
}

/* --- the database -------------------------------------------------------------------------- */

int metadb_open(const char *path, bool read_only, struct metadb **ret_db,
                struct metadb_state *ret_state, struct errmsg *reterr)
{
    struct metadb *db = mem_new(sizeof *db);
    db->dirty_max = DIRTY_DEFAULT;
    db->meta.ops = &meta_ops;
    db->path = mem_strdup(path);
    const int code = open_env(db, read_only);
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
        if (db->env)
            mdb_env_close(db->env);
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
