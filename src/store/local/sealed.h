/* Sealed index files: the entries of all queues over one stretch of the log, never changed again.
 *
 * A file is a row of 4 KiB blocks, each with its own checksum, number and the file's first
 * position: block 0          header directory        one 24-byte record per queue, ordered by queue
 * id entries          8 bytes each, queue after queue in directory order It is written under a
 * temporary name, synced, renamed and the directory synced; a file with its final name is complete.
 * In memory a file costs four bytes per directory block.
 *
 * Thread: any; files and sets are immutable and counted.
 */
#pragma once

#include "store/local/qindex.h"

#include <stdatomic.h>

#define SEALED_BLOCK_SIZE 4096u
#define SEALED_NAME_SIZE  64
#define SEALED_SPAN_MAX   (UINT64_C(32) << 30) /* bytes of log one file can cover */

struct sealed_file {
    _Atomic uint32_t ref_count;
    int fd;
    uint32_t id;         /* of this process's making, from 1 */
    uint64_t start, end; /* log positions covered */
    uint64_t entry_count;
    uint32_t queue_count;
    uint32_t directory_blocks;
    uint32_t last_queue_id;
    uint64_t size;    /* of the file */
    uint32_t *fences; /* first queue id of each directory block */
};

struct sealed_queue {
    uint32_t queue_id;
    uint32_t count;
    uint64_t first_seq;
    uint64_t first_entry;
};

struct sealed_file *sealed_ref(struct sealed_file *file);
struct sealed_file *sealed_unref(struct sealed_file *file); /* NULL is fine */

void sealed_name(uint64_t start, uint64_t end, char ret_name[SEALED_NAME_SIZE]);
/* Takes an index file's name apart; false when it is not one. */
bool sealed_name_parse(const char *name, uint64_t *ret_start, uint64_t *ret_end);

/* Opens a file and checks its header and directory; `each` (may be NULL) is called for every queue.
 * Returns 0; ERR_CORRUPT; ERR_NOMEM; -errno. */
typedef void sealed_queue_fn(void *data, const struct sealed_queue *queue);
MUST_CHECK int sealed_open(int dir_fd, const char *name, sealed_queue_fn *each, void *data,
                           struct sealed_file **ret_file, struct errmsg *reterr);

/* Finds a queue in the file. Returns 1; 0: not there; ERR_CORRUPT; -errno. */
MUST_CHECK int sealed_find(const struct sealed_file *file, uint32_t queue_id,
                           struct sealed_queue *ret_queue);

/* Reads `count` entries of a queue, from its nth on (n + count <= queue->count).
 * Returns 0; ERR_CORRUPT; ERR_NOMEM; -errno. */
MUST_CHECK int sealed_read(const struct sealed_file *file, const struct sealed_queue *queue,
                           uint32_t n, uint32_t count, struct qplace *ret_places);

/* The block read last, for those who search queue after queue: most lie in the same one. */
struct sealed_cursor {
    uint32_t number; /* 0: none */
    uint8_t block[SEALED_BLOCK_SIZE];
};

/* The first entry of the queue at or behind `position`: its index, queue->count when there is none.
 * cursor: of this file only. Returns 0; ERR_CORRUPT; -errno. */
MUST_CHECK int sealed_search(const struct sealed_file *file, const struct sealed_queue *queue,
                             uint64_t position, struct sealed_cursor *cursor, uint32_t *ret_n);

/* Walks the directory. Returns 0, ERR_CORRUPT or -errno. */
MUST_CHECK int sealed_each(const struct sealed_file *file, sealed_queue_fn *each, void *data);

/* Checks every block. Returns 0; ERR_CORRUPT with the block in reterr; -errno. */
MUST_CHECK int sealed_check(const struct sealed_file *file, struct errmsg *reterr);

/* Writes a frozen generation to a file and opens it. Returns 0, ERR_NOMEM or -errno: then no file
 * is left. */
MUST_CHECK int sealed_write(int dir_fd, const struct qgen *gen, struct sealed_file **ret_file);

/* Writes the entries of several files that follow one another to one file. As sealed_write. */
MUST_CHECK int sealed_merge(int dir_fd, struct sealed_file *const *files, uint32_t count,
                            struct sealed_file **ret_file);

/* Files in order of position, for readers on any thread. */
struct sealed_set {
    _Atomic uint32_t ref_count;
    uint32_t count;
    struct sealed_file *items[];
};

struct sealed_set *sealed_set_new(struct sealed_file *const *items, uint32_t count);
struct sealed_set *sealed_set_ref(struct sealed_set *set);
struct sealed_set *sealed_set_unref(struct sealed_set *set);

/* The lowest number at or above `seq` that the queue has in any file. Returns 1; 0: there is none;
 * ERR_CORRUPT; -errno. */
MUST_CHECK int sealed_set_next(const struct sealed_set *set, uint32_t queue_id, uint64_t seq,
                               uint64_t *ret_seq);

/* Reads up to count_max places of a queue from seq on, out of the one file that has it. hint: id of
 * the file to try first, 0 = none; set to the file found.
 * Returns how many, at least 1; 0: no file has it; ERR_CORRUPT; ERR_NOMEM; -errno. */
MUST_CHECK int sealed_set_read(const struct sealed_set *set, uint32_t queue_id, uint64_t seq,
                               uint32_t *hint, struct qplace *ret_places, uint32_t count_max);
