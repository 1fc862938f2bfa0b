/* `store repair`, for its own files only:
 *
 *   repair.c       the order of things: look, say, ask, do, check again
 *   repair_log.c   segments: records that are lost, headers and files that are missing
 *   repair_meta.c  rows: what can be read of the database, and where the log must begin to be read
 *
 * Thread: any; blocking.
 */
#pragma once

#include "store/local/engine_priv.h"
#include "store/local/metawalk.h"

#define REPAIR_TMP_NAME "repair.tmp"

/* Records that cannot be read, [start, end) of the log. */
struct hole {
    uint64_t start, end;
    uint32_t count_max;            /* records it can have been */
    uint64_t before_ms, behind_ms; /* times of the messages around it, 0: none known */
    char topic[64];                /* as the damaged bytes have it; "": unreadable */
    struct hole *next;
};

/* A segment as it will be. */
struct part {
    char name[SEGMENT_NAME_SIZE];   /* as it should be */
    char source[SEGMENT_NAME_SIZE]; /* as it is */
    struct segment *segment; /* base, epoch and numbers are right; fd -1: the file is missing */
    uint64_t end;            /* log position of its end */
    bool header_lost;
    struct hole *holes;
};

struct repair {
    const struct local_repair *how;
    int dir_fd, lock_fd, log_fd, index_fd, aside_fd;
    char aside[64]; /* name of the folder that originals are moved to */
    struct errmsg *reterr;

    struct part *parts;
    uint32_t part_count, part_room;
    char (*strays)[SEGMENT_NAME_SIZE]; /* files that are no segments, whatever they are called */
    uint32_t stray_count;
    uint64_t log_end;

    char (*indexes)[SEALED_NAME_SIZE]; /* to be rebuilt */
    uint32_t index_count;
    uint64_t sealed_end; /* of those that are kept */
    uint64_t *borders;   /* where index files or rows end: the log may be read from there */
    uint32_t border_count;

    bool meta_damaged, meta_missing;
    int snapshot; /* rows come from: 0 the newer, 1 the older */
    struct metawalk_salvage salvage;
    struct metadb_state state; /* what the rows will be complete to; 0: nothing is known of it */
    bool rows_lost;            /* some rows may be, and what the log has must be read again */
    uint32_t plan_lines;       /* what there is to do */
};

void repair_say(const struct repair *repair, const char *fmt, ...) PRINTF(2, 3);
/* The same, for what will be done. */
void repair_plan(struct repair *repair, const char *fmt, ...) PRINTF(2, 3);
void repair_add_border(struct repair *repair, uint64_t position);
/* Links `name` of `dir_fd` into the folder `sub` of what is set aside. */
MUST_CHECK int repair_keep(struct repair *repair, int dir_fd, const char *sub, const char *name);

/* --- repair_log.c --------------------------------------------------------------------------- */
MUST_CHECK int repair_log_look(struct repair *repair);
/* The log must begin and end where rows and index say. To be called when those are known. */
MUST_CHECK int repair_log_bounds(struct repair *repair);
void repair_log_tell(struct repair *repair);
MUST_CHECK int repair_log_do(struct repair *repair);
void repair_log_done(struct repair *repair);
uint64_t repair_log_first(const struct repair *repair); /* position; 0: there is no log */

/* --- repair_meta.c -------------------------------------------------------------------------- */
MUST_CHECK int repair_meta_look(struct repair *repair);
void repair_meta_tell(struct repair *repair);
MUST_CHECK int repair_meta_do(struct repair *repair);
