/* Reading the log as it lies on disk: for recovery and for `store check`.
 *
 * A segment with a successor must be sound up to where the successor begins. The youngest segment
 * ends at its first record that fails: that is a torn end, unless a sound record behind it says
 * that the log had been durable beyond that place; then it is damage.
 *
 * Thread: any; blocking.
 */
#pragma once

#include "store/local/record.h"
#include "store/local/segment.h"

/* Called for each record in order; returns 0, or < 0 to stop with that. */
typedef int scan_fn(void *data, const struct record *record);

/* Names in a directory, sorted; mem_free each and the array. Returns 0 or -errno. */
MUST_CHECK int scan_names(int dir_fd, char ***ret_names, uint32_t *ret_count);
void scan_names_free(char **names, uint32_t count);

struct scan {
    const struct segment *segment;
    uint64_t from; /* log position of the first record to read */
    uint64_t end;  /* where the successor begins; UINT64_MAX: there is none */
    scan_fn *each;
    void *data;
};

/* Reads the records of a segment. Returns 0 and in *ret_end where the sound records end;
 * ERR_CORRUPT with segment and offset in reterr; what `each` returned; ERR_NOMEM; -errno. */
MUST_CHECK int scan_segment(const struct scan *scan, uint64_t *ret_end, struct errmsg *reterr);

/* Looks for a sound record of the segment at or behind `from` (aligned), before `end`, byte for
 * byte. Returns 0 and its position, `end` when there is none; ERR_NOMEM; -errno. */
MUST_CHECK int scan_seek(const struct segment *segment, uint64_t from, uint64_t end,
                         uint64_t *ret_position);

/* Checks that `next` follows `segment`. Returns 0 or ERR_CORRUPT. */
MUST_CHECK int scan_chain(const struct segment *segment, const struct segment *next,
                          struct errmsg *reterr);
