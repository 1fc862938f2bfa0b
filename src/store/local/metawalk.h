/* LMDB's file read without LMDB: what lies in it is verified before LMDB maps it.
 *
 * LMDB trusts its pages. A page number out of range, a node that points out of its page or a free
 * list that names a page in use makes it crash, or overwrite what is alive. So the walker goes
 * through everything that the newest snapshot reaches, and believes nothing: each page lies in the
 * file, says its own number, is used once; nodes lie in their page and fill it; keys ascend and
 * keep to what branches say; counts and depth are what the tree's record says; every row carries
 * its checksum and all of them add up (metarow.h); every page is either used or free, never both.
 * Of the older snapshot, the meta page and what leads to its state row are verified, because the
 * two meta pages are told apart by the transactions they name.
 *
 * What it cannot see because nothing depends on it: free pages, the room between nodes, padding,
 * the end of a last overflow page, the first key of a branch page, a separator key that still
 * separates, and which transaction freed a page.
 *
 * Thread: any; blocking.
 */
#pragma once

#include "store/local/metarow.h"

#include "base/err.h"

/* A row with a sound checksum; key and value as stored, the value without its checksum. */
typedef void metawalk_row_fn(void *data, enum metarow_table table, struct slice key,
                             struct slice value);
/* Something is wrong at `offset` of the file. */
typedef void metawalk_found_fn(void *data, uint64_t offset, const char *what);

struct metawalk_events {
    metawalk_row_fn *row; /* may be NULL */
    metawalk_found_fn *found;
    void *data;
};

struct metawalk_summary {
    uint64_t row_count;                 /* in the owner's table */
    uint64_t row_counts[UINT8_MAX + 1]; /* of them, by the first byte of the key */
    uint64_t applied, trimmed;
};

/* Verifies all of a database. Returns 0; ERR_CORRUPT: `found` was called for each place;
 * ERR_NOMEM; -errno. */
MUST_CHECK int metawalk_verify(int fd, const struct metawalk_events *events,
                               struct metawalk_summary *ret_summary, struct errmsg *reterr);

/* What can be read of one snapshot. */
struct metawalk_salvage {
    bool usable; /* the state row was read: the rest is worth having */
    bool sound;  /* nothing is wrong with it */
    struct metarow_state state;
    uint64_t row_count;     /* rows handed out, of both tables */
    uint64_t rows_expected; /* as the trees' records say; 0 when they cannot be read */
};

/* Reads what is sound in the newer (which 0) or the older (which 1) snapshot, as the meta pages
 * have it. Rows of pages that nothing refers to any more, although they are not free, are handed
 * out too: a damaged branch page led to them. Returns 0; ERR_NOMEM; -errno. */
MUST_CHECK int metawalk_salvage(int fd, int which, const struct metawalk_events *events,
                                struct metawalk_salvage *ret_salvage);
