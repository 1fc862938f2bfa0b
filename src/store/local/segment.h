/* Segments: the files of the log, log/<number>.log, and the set of them that readers use.
 *
 * A segment is a header of one page and then records, back to back. Its header says at which log
 * position it begins; that is where its predecessor ends, so a segment may end anywhere and no
 * position is ever skipped. The header is durable, and so is the file's name, before the first
 * record is written: a file that is called a segment has a sound header, or is damaged.
 *
 * Thread: a segment's fd is set by the log thread before the loop publishes the segment; from then
 * on it only changes in count. Sets are immutable.
 */
#pragma once

#include "base/base.h"

#include <stdatomic.h>

#define SEGMENT_HEADER_SIZE 4096u
#define SEGMENT_SIZE_MIN    (1024u * 1024)
#define SEGMENT_SIZE_MAX    (1024u * 1024 * 1024)
#define SEGMENT_NAME_SIZE   32

struct segment {
    _Atomic uint32_t ref_count;
    int fd;          /* -1 until the log thread has prepared it */
    uint64_t number; /* from 1, never used again */
    uint64_t prev_number;
    uint64_t base; /* log position of its first record = end of the predecessor */
    uint64_t size; /* of the file, header included */
    uint64_t created_ms;
    uint32_t epoch;
    struct segment *next; /* the loop's, while it waits to be published */
};

/* New segment, one reference, without a file. */
struct segment *segment_new(uint64_t number, uint64_t base, uint64_t size, uint32_t epoch);
struct segment *segment_ref(struct segment *segment);
struct segment *segment_unref(struct segment *segment); /* closes the fd with the last one */

/* Bytes of records that fit. */
static inline uint64_t segment_capacity(uint64_t file_size)
{
    return file_size - SEGMENT_HEADER_SIZE;
}

/* Where a position lies in the segment's file. */
static inline uint64_t segment_offset(const struct segment *segment, uint64_t position)
{
    ASSERT(position >= segment->base);
    return SEGMENT_HEADER_SIZE + (position - segment->base);
}

void segment_name(uint64_t number, char ret_name[SEGMENT_NAME_SIZE]);

/* The number in a segment's file name, 0 when it is not one. */
uint64_t segment_number(const char *name);

/* Writes the header of `segment` to its fd. Returns 0 or -errno. */
MUST_CHECK int segment_write_header(const struct segment *segment);

/* Opens a segment file and checks its header. Returns 0; ERR_CORRUPT; ERR_NOMEM; -errno. */
MUST_CHECK int segment_open(int dir_fd, const char *name, int flags, struct segment **ret_segment,
                            struct errmsg *reterr);

/* The same for a file that need not have the name its header asks for. */
MUST_CHECK int segment_open_any(int dir_fd, const char *name, int flags,
                                struct segment **ret_segment, struct errmsg *reterr);

/* Segments in order of position, for readers on any thread. */
struct segment_set {
    _Atomic uint32_t ref_count;
    uint32_t count;
    struct segment *items[];
};

/* A set of the `count` items, each referenced; one reference. */
struct segment_set *segment_set_new(struct segment *const *items, uint32_t count);
struct segment_set *segment_set_ref(struct segment_set *set);
struct segment_set *segment_set_unref(struct segment_set *set);

/* The segment in which `position` lies, borrowed from the set; NULL when it lies before the first.
 */
struct segment *segment_set_find(const struct segment_set *set, uint64_t position);
