/* The embedded engine: commit log, queue index and LMDB checkpoints under one directory. */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "io/worker.h"
#include "store/store.h"

struct local_config {
    const char *dir;          /* created when missing; borrowed for the open */
    uint64_t segment_size;    /* bytes, 1 MiB to 1 GiB; a record (message, ids, rows and about 100
                               * bytes) takes at most this less 4 KiB, else store_append refuses it */
    uint64_t retention_bytes; /* bound on log and index, pool included; 0: none */
    uint64_t retention_ms;    /* messages older than this are freed, up to an eighth of it later, as
                               * soon as something newer is written; 0: never */
    uint64_t tail_bytes;      /* of recent log kept in memory */
    uint64_t checkpoint_ms;   /* at most this long between checkpoints while there are changes */
    uint64_t seal_entries;    /* index entries in memory before they are sealed into a file */
    uint64_t overlay_bytes;   /* changed rows in memory before a checkpoint is made of them */
    uint32_t pool_segments;   /* pre-written segments kept ahead */
    uint64_t pressure_bytes;  /* waiting for the disk: above it store_pressure says true */
};

/* Fills in the defaults (256 MiB segments, 3 days, 16 GiB, 64 MiB tail, 30 s, 4 M entries, 64
 * MiB of rows, 2, 32 MiB). */
void local_config_default(struct local_config *config);

/* Opens the directory, recovers, and starts the log thread. Blocking.
 * loop, pool, log, metrics: borrowed until store_close.
 * Returns 0; -EWOULDBLOCK: another process has the directory; ERR_CORRUPT: damage inside what was
 * synced (reterr says where and what to run); -errno. */
MUST_CHECK int local_open(const struct local_config *config, struct loop *loop,
                          struct worker_pool *pool, struct log *log, struct metrics *metrics,
                          struct store **ret_store, struct meta **ret_meta, struct errmsg *reterr);

/* What `store check` found; text lines go to `report`. Read-only; the server must not run.
 * Returns 0 when all is sound, ERR_CORRUPT when damage was reported, -errno when it cannot be read.
 */
typedef void local_report_fn(void *data, const char *line);
MUST_CHECK int local_check(const char *dir, local_report_fn *report, void *data,
                           struct errmsg *reterr);

/* Mends what local_check finds; the server must not run. Lines to `report` say first what is
 * damaged, and what will be dropped, rebuilt and set aside; then `go` is asked. Nothing is
 * destroyed: the originals are moved to "damaged-<time>" in the directory.
 * Returns 0: all is sound, or is now; ERR_CORRUPT: there is damage and `go` said no; ERR_INVALID,
 * ERR_NOMEM, -errno: it could not be mended (reterr). */
typedef bool local_go_fn(void *data);
struct local_repair {
    const char *dir;
    local_report_fn *report;
    local_go_fn *go;
    void *data;
};
MUST_CHECK int local_repair(const struct local_repair *how, struct errmsg *reterr);
