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

#include "store/local/metarow.h"
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
 * ERR_CORRUPT: damage, or another version's format, file and offset in reterr; -errno. */
MUST_CHECK int metadb_open(const char *path, struct metadb **ret_db, struct metadb_state *ret_state,
                           struct errmsg *reterr);
struct metadb *metadb_close(struct metadb *db); /* NULL is fine */
struct meta *metadb_meta(struct metadb *db);    /* lives as long as the database */
uint64_t metadb_size(struct metadb *db);        /* bytes of the file, as LMDB counts them */

/* Writes rows in a synced transaction of their own, ahead of the metadb_commit that says up to
 * where they are complete: what a crash leaves of a checkpoint is written again from the log, which
 * still has all of it. As metadb_commit. */
MUST_CHECK int metadb_prepare(struct metadb *db, struct overlay_row *const *rows, uint64_t count,
                              struct errmsg *reterr);

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

/* What `store repair` gave up: readers pass over it, and the numbers of queues keep their distance.
 */
struct metadb_lost {
    uint64_t start, end; /* log positions; equal: only where queues begin is not known */
    uint64_t count;      /* queues not known are numbered from here; for start == end only */
    uint64_t until;      /* end of the log at that time */
};

/* All of them, in order of start; lives until the next metadb_lose or metadb_close. */
const struct metadb_lost *metadb_lost(const struct metadb *db, uint32_t *ret_count);

/* Adds ranges, in one synced transaction. As metadb_commit. */
MUST_CHECK int metadb_lose(struct metadb *db, const struct metadb_lost *ranges, uint32_t count,
                           struct errmsg *reterr);

/* Writes the number that each queue's next entry has at log position `numbered_to`, in one synced
 * transaction. numbers: first_seq is that number. As metadb_commit. */
MUST_CHECK int metadb_number(struct metadb *db, const struct metadb_base *numbers, uint64_t count,
                             uint64_t numbered_to, struct errmsg *reterr);

/* Fills a new database with rows saved from another one: begin, put each, end. Rows as the other
 * database stored them; of rows with the same key the first is kept. */
struct metadb_restore;
MUST_CHECK int metadb_restore_begin(struct metadb *db, struct metadb_restore **ret_restore,
                                    struct errmsg *reterr);
void metadb_restore_put(struct metadb_restore *restore, enum metarow_table table, struct slice key,
                        struct slice value);
/* Ends it, with the state given, and frees `restore`. Returns 0; or why it could not be written. */
MUST_CHECK int metadb_restore_end(struct metadb_restore *restore, const struct metadb_state *state,
                                  struct errmsg *reterr);

/* Calls `each` for every queue known. Returns 0, ERR_CORRUPT or -errno. */
typedef void metadb_queue_fn(void *data, uint32_t queue_id, const struct overlay_queue *queue);
MUST_CHECK int metadb_queues(struct metadb *db, metadb_queue_fn *each, void *data);
