/* The commit log's writer: one thread that writes and syncs what the loop has laid out.
 *
 * The loop hands over ranges of memory, each a run of whole records at its log position. The thread
 * takes all that is there, checksums the records, writes them with as few calls as possible and,
 * when asked to, syncs once; what came meanwhile goes the next time (natural group commit). Results
 * come back as one mail, however many ranges it covers.
 *
 * After a failed write or sync the state of the file is unknown: the thread drops everything until
 * clog_reopen names a fresh segment, which continues at the last synced position.
 */
#pragma once

#include "base/metrics.h"
#include "io/mailbox.h"
#include "store/local/pool.h"

struct clog;

struct clog_range {
    uint8_t *bytes; /* stays in place until the result covers it, or says failed */
    uint32_t size;
    uint64_t position;
    struct segment *segment; /* borrowed likewise */
};

struct clog_result {
    uint64_t written_end;  /* everything below has been written */
    uint64_t synced_end;   /* everything below is durable */
    int err;               /* 0, or why the log takes no more writes until clog_reopen */
    uint32_t reopen_count; /* calls of clog_reopen carried out, with or without success */
    char reason[128];      /* with err */
};

/* Called on the loop. */
typedef void clog_result_fn(void *data, const struct clog_result *result);

/* What the log thread works with; all borrowed until clog_free. */
struct clog_setup {
    int dir_fd; /* the log's directory */
    struct pool *pool;
    struct mailbox *mailbox;
    struct metrics *metrics;
    uint64_t end; /* where the log ends */
    clog_result_fn *on_result;
    void *data;
};

/* Starts the thread. Returns 0 or -errno. */
MUST_CHECK int clog_new(const struct clog_setup *setup, struct clog **ret_clog,
                        struct errmsg *reterr);

/* Writes out what was handed over, joins the thread. The last result may still lie in the mailbox:
 * deliver it before clog_free. */
void clog_stop(struct clog *clog);
struct clog *clog_free(struct clog *clog);

/* Hands over ranges, in order of position; sync: they, and all before, are to become durable. No
 * ranges and sync: only that. Returns 0 or ERR_NOMEM: nothing was taken. Thread: owner loop. */
MUST_CHECK int clog_submit(struct clog *clog, const struct clog_range *ranges, uint32_t count,
                           bool sync);

/* After a failure: makes `segment`, whose base is the last synced end, the current one, and writes
 * the ranges (what had been written there without being synced) to it. Returns as clog_submit. */
MUST_CHECK int clog_reopen(struct clog *clog, struct segment *segment,
                           const struct clog_range *ranges, uint32_t count);
