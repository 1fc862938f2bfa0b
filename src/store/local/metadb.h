/* Metadata as of the last checkpoint, in LMDB: the owner's rows, what the engine must know about
 * queues, and up to which log position all of it has been applied.
 *
 * One transaction at a time, each synced by LMDB itself (never NOSYNC, never WRITEMAP). LMDB keys
 * are short: a longer key is stored under its first METADB_KEY_MAX bytes and a 128-bit hash, keyed
 * with a secret of the database, with the whole key in front of the value. Every value ends with a
 * checksum, and the state has the sum of all of them (metarow.h). The file is verified before LMDB
 * sees it (metawalk.h), because LMDB trusts what it reads.
 *
 * Thread: any, one at a time.
 */
#pragma once

#include "store/local/overlay.h"
#include "store/meta.h"

#define METADB_KEY_MAX   480u
#define METADB_MAP_SIZE  (UINT64_C(64) << 30)
#define METADB_FILE_NAME "data.mdb"

struct metadb;

struct metadb_state {
    uint64_t applied; /* log position: rows hold everything below it */
    uint64_t trimmed; /* log position: everything below it is given up */
};

/* Opens the database in directory `path`, or creates it when the directory has none. Returns 0;
 * ERR_CORRUPT: damage, file and offset in reterr; ERR_INVALID: of another version; -errno. */
MUST_CHECK int metadb_open(const char *path, bool read_only, struct metadb **ret_db,
                           struct metadb_state *ret_state, struct errmsg *reterr);
struct metadb *metadb_close(struct metadb *db); /* NULL is fine */
struct meta *metadb_meta(struct metadb *db);    /* lives as long as the database */
uint64_t metadb_size(struct metadb *db);        /* bytes of the file, as LMDB counts them */

/* Writes rows in one synced transaction, together with `applied`. Returns 0; -ENOSPC: the map or
 * the disk is full; ERR_CORRUPT; -errno. After an error nothing has changed. */
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
