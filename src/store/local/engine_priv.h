/* The engine's one struct, and what its files call of each other.
 *
 *   append.c    submit, completion, failure and return of the log
 *   read.c      reads from the tail and, through workers, from disk
 *   upkeep.c    sealing, merging, the pool, and what comes when
 *   checkpoint.c writing rows to LMDB
 *   latest.c    reading the rows when the server starts
 *   retention.c freeing old segments
 *   recovery.c  from files to a running engine
 *   local.c     opening, closing, the store interface
 *
 * Log positions, in order: first_position <= (sealed_end, applied_end) <= synced_end <= done_end
 * <= head. Below done_end all is written, indexed and acknowledged; [synced_end, done_end) holds
 * lazy records only, and stays in the tail until it is synced.
 *
 * Thread: all of it is the loop's, except what is handed to the log thread (clog.h) and to workers
 * (frozen overlay and index generation, immutable sets).
 */
#pragma once

#include "io/loop.h"
#include "store/local/clog.h"
#include "store/local/local.h"
#include "store/local/metadb.h"
#include "store/local/overlay.h"
#include "store/local/pool.h"
#include "store/local/qindex.h"
#include "store/local/sealed.h"
#include "store/local/segment.h"
#include "store/local/tail.h"

#define LOG_START           4096u /* position of the very first record: never 0 */
#define LOCAL_LAZY_MS       100u
#define LOCAL_REOPEN_MS_MIN 50u
#define LOCAL_REOPEN_MS_MAX 1000u
#define LOCAL_LOG_DIR       "log"
#define LOCAL_INDEX_DIR     "index"
#define LOCAL_META_DIR      "meta"
#define LOCAL_META_NEW_DIR  "meta.new" /* while the database is being made */
#define LOCAL_LOCK_NAME     "lock"

struct read_state;

enum trim_state {
    TRIM_IDLE,
    TRIM_ASKED, /* the owner was told and has not answered */
    TRIM_READY, /* waits for seal and checkpoint, or is being carried out */
};

/* The one background job: input and result. A worker has it while it is busy. */
struct job {
    struct work work;
    bool busy;
    int err;
    struct errmsg why;
    uint64_t position;
    struct segment_set *segments;
    struct sealed_set *files;
    uint32_t at;              /* index in files */
    struct sealed_file *file; /* result */
    struct metadb_base *bases;
    uint64_t base_count, base_room;
    uint64_t base_done; /* of them, in force in memory */
};

/* The checkpoint being made, or the last. While a step of it is the background job, the worker has
 * the first block. */
struct checkpoint {
    struct overlay frozen;
    struct overlay_row **rows; /* of `frozen`, in order; NULL: not sorted yet */
    uint64_t count, at;        /* rows below `at` are written */
    uint64_t step_ms;          /* what the last step took */
    bool done;                 /* it was the last of this checkpoint */

    uint64_t end;    /* log position that `frozen` is complete to; above applied_end: unfinished */
    uint64_t due_ms; /* the next step, or the next checkpoint */
    uint64_t pauses_ms; /* for pauses, left of what this checkpoint may take */
    struct timer pause;
    bool failed;
    struct errmsg why;
};

struct local {
    struct store store; /* first: the interface's functions get the engine from it */
    struct meta meta;
    struct loop *loop;
    struct worker_pool *workers;
    struct mailbox *mailbox;
    struct log *log;
    struct metrics *metrics;
    struct local_config config;
    struct store_watcher watcher;
    int dir_fd, lock_fd, log_fd, index_fd; /* directories; lock_fd: the locked file */
    uint32_t epoch;
    uint32_t work_count; /* submitted to workers and not yet done */
    bool closing;

    /* The log. */
    struct clog *clog;
    struct pool *pool;
    struct tail tail;
    struct segment_set *segments; /* published */
    struct segment *segment;      /* appends go here: the last of `opening`, or of `segments`;
                                     borrowed; NULL: begin a new one */
    struct segment *opening_first, *opening_last; /* handed out, nothing in them acknowledged yet */
    uint64_t last_number;                         /* of the youngest segment */
    uint64_t head, done_end, synced_end, first_position;
    struct store_append *pending_first, *pending_last; /* those with a done */
    struct deferred flush;
    struct timer lazy_timer;
    bool sync_wanted;
    bool pressed; /* store_pressure has said true since the last on_drained */
    uint64_t seqs[STORE_QUEUES_MAX];

    /* Failure. */
    bool log_works, views_work; /* both: appends are taken */
    bool told_writable;         /* what the owner knows */
    bool reopening;
    uint32_t reopen_count; /* attempts made */
    struct segment *reopen_segment;
    struct timer reopen_timer;
    uint32_t reopen_delay_ms;
    char reason[128];

    /* Views of the log. */
    struct qindex index;
    struct sealed_set *files;
    struct overlay overlay;
    bool overlay_lost;           /* it lacks changes: no checkpoint may be made of it */
    struct overlay_row **latest; /* of the overlay, in order, while it has not changed; or NULL */
    uint64_t latest_counts[UINT8_MAX + 1]; /* of its rows at the opening, by the first byte */
    struct metadb *db;
    uint64_t sealed_end, applied_end;

    /* Upkeep. */
    struct timer tick;
    struct job job;
    struct checkpoint checkpoint;
    int seal_err; /* why sealing failed last */
    uint64_t seal_retry_ms, fill_retry_ms;
    struct timer release_timer;  /* the next slice of a sealed index's memory to be freed */
    uint64_t merge_failed_below; /* index files that start lower are left as they are */
    enum trim_state trim;
    uint64_t trim_position;
    uint64_t trim_since_ms;
    uint64_t log_size;         /* bytes of segments and index files */
    uint32_t segments_judged;  /* so many there were when retention last looked */
    struct timer forget_timer; /* the next slice of queues that begin later now */
    struct work fill_work;
    bool filling;
    int fill_result;
};

/* --- append.c ------------------------------------------------------------------------------- */
void append_init(struct local *local);
int append_submit(struct store *store, struct store_append *req);
void append_drop(struct local *local, uint32_t queue_id); /* logs that a queue is forgotten */
void append_on_result(void *data, const struct clog_result *result);
/* Hands everything laid out to the log thread, with a sync. */
void append_flush(struct local *local);
/* Ends what is still pending with `err`. */
void append_fail_all(struct local *local, int err);
bool append_allowed(const struct local *local);
/* Tells waiting publishers to go on when they may. */
void append_check_pressure(struct local *local);
/* Whether the views of the log can be written; if not, why. Appends are refused meanwhile. */
void append_set_views(struct local *local, bool work, const char *reason);
/* Lets go of segments never published. The log thread has ended. */
void append_forget(struct local *local);
/* Takes a record into the index and the overlay; seqs of its queues go to local->seqs. */
void append_apply(struct local *local, const struct record *record, bool to_index, bool to_overlay);
/* Makes `segment` the youngest published one; `replaces`: instead of the one that was. */
void append_publish(struct local *local, struct segment *segment, bool replaces);

/* --- read.c --------------------------------------------------------------------------------- */
int read_submit(struct store *store, struct store_read *req);
void read_release(struct store *store, struct store_read *req);

/* --- upkeep.c ------------------------------------------------------------------------------- */
/* Starts the timer and the filling of the pool. */
void upkeep_start(struct local *local);
void upkeep_stop(struct local *local);
/* To be called when the log has advanced. */
void upkeep_on_progress(struct local *local);
/* The index in memory, up to log position `end`, is large enough to be sealed. */
bool upkeep_seal_full(const struct local *local, uint64_t end);
/* Judges whether the log may go on growing. */
void upkeep_judge_views(struct local *local);
void upkeep_start_job(struct local *local, work_fn *run, work_fn *done);
struct local *upkeep_end_job(struct work *work);
/* The last checkpoint, with nothing else running. Blocking. */
void upkeep_finish(struct local *local);

/* --- checkpoint.c --------------------------------------------------------------------------- */
void checkpoint_init(struct local *local);
void checkpoint_done(struct local *local);
bool checkpoint_due(const struct local *local);
/* true when one was begun and is not finished. */
bool checkpoint_frozen(const struct local *local);
/* Begins one, or goes on with it: starts the background job. */
void checkpoint_step(struct local *local);
/* Writes everything. The log is synced and nothing else running. Blocking. */
MUST_CHECK int checkpoint_finish(struct local *local, struct errmsg *reterr);

/* --- retention.c ---------------------------------------------------------------------------- */
void retention_count(struct local *local); /* segments or index files have changed */
/* The disk is as full as it may be, and what is to be given up is not free yet: publishers wait. */
bool retention_behind(const struct local *local);
void retention_check(struct local *local);    /* asks for a trim when one is due */
void retention_go(struct local *local);       /* the owner has answered */
bool retention_continue(struct local *local); /* starts the next step if it can */
void retention_stop(struct local *local);     /* nothing is with a worker any more */

/* --- latest.c ------------------------------------------------------------------------------- */
/* Prepares the reading of the rows. Returns 0 or ERR_NOMEM. */
MUST_CHECK int latest_open(struct local *local);
/* To be called before the overlay changes. */
void latest_forget(struct local *local);

/* --- recovery.c ----------------------------------------------------------------------------- */
MUST_CHECK int recovery_run(struct local *local, const struct metadb_state *state,
                            struct errmsg *reterr);
