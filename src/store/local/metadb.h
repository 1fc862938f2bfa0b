/* Metadata as of the last checkpoint, in LMDB: the owner's rows, what the engine must know about
 * queues, and up to which log position all of it has been applied.
 *
 * One transaction at a time, each synced by LMDB itself (never NOSYNC, never WRITEMAP). LMDB keys
 * are short: a longer key is stored under its first METADB_KEY_MAX bytes and a 128-bit hash, keyed
 * with a secret of the database, with the whole key in front of the value.
 *
 * Thread: any, one at a time.
 */
#pragma once

#include "store/local/overlay.h"
#include "store/meta.h"

#define METADB_KEY_MAX 480u

struct metadb;

struct metadb_state {
    uint64_t applied; /* log position: rows hold everything below it */
    uint64_t trimmed; /* log position: everything below it is given up */
};

/* Opens or creates the database in directory `path`. Returns 0; ERR_CORRUPT; -errno. */
MUST_CHECK int metadb_open(const char *path, bool read_only, struct metadb **ret_db,
                           struct metadb_state *ret_state, struct errmsg *reterr);
struct metadb *metadb_close(struct metadb *db); /* NULL is fine */
struct meta *metadb_meta(struct metadb *db);    /* lives as long as the database */
uint64_t metadb_size(struct metadb *db);        /* bytes of the file, as LMDB counts them */

/* Bounds the memory that a commit takes beyond its rows (64 MiB). */
void metadb_set_dirty_max(struct metadb *db, uint64_t bytes);
/* Writes rows, and with the last of them `applied`, in synced transactions of bounded size: LMDB
 * keeps every page that it changes in memory until its end. Rows may be newer than the position
 * that counts, then; what is replayed from there on changes all of those again. Returns 0; -ENOSPC:
 * the map or the disk is full; ERR_CORRUPT; -errno. After an error the position has not changed. */
MUST_CHECK int metadb_commit(struct metadb *db, struct overlay_row *const *rows, uint64_t count,
                             uint64_t applied, struct errmsg *reterr);

struct metadb_base {
    uint32_t queue_id;
    uint64_t first_seq; /* number of its first entry at or behind the trimmed position */
};

/* Writes where queues begin once the log is trimmed, and the position, in one synced transaction.
 * bases: ordered by queue id. Drops of queues older than `forget` are forgotten. As metadb_commit.
 */
MUST_CHECK int metadb_trim(struct metadb *db, const struct metadb_base *bases, uint64_t count,
                           uint64_t trimmed, uint64_t forget, struct errmsg *reterr);

/* Calls `each` for every queue known. Returns 0, ERR_CORRUPT or -errno. */
typedef void metadb_queue_fn(void *data, uint32_t queue_id, const struct overlay_queue *queue);
MUST_CHECK int metadb_queues(struct metadb *db, metadb_queue_fn *each, void *data);

/* Reads every row and checks that it can be decoded. Returns 0 and how many there are; ERR_CORRUPT;
 * -errno. */
MUST_CHECK int metadb_check(struct metadb *db, uint64_t *ret_count, struct errmsg *reterr);
