/* The pool: segment files written in full before they are needed.
 *
 * A file that exists in its full length and has been written once takes appends without touching
 * the file system's own records: syncs are cheaper, and a full disk shows here and not under an
 * append. Freed segments come back into the pool. Files are called free-<n>.seg, beside the
 * segments; one that is shorter than a segment was interrupted and is removed at the start.
 *
 * Thread: any, except new and free.
 */
#pragma once

#include "store/local/segment.h"

enum { POOL_FILL_SIZE = 8 * 1024 * 1024 }; /* most that pool_fill writes */

struct pool;

/* dir_fd: the log's directory, borrowed. segment_size: of the file, header included. */
struct pool *pool_new(int dir_fd, uint64_t segment_size, uint32_t count_max);
struct pool *pool_free(struct pool *pool); /* keeps the finished files; NULL is fine */

/* Takes in a file found in the directory, or removes it when it is no use. Returns false when
 * `name` is not a pool file's. */
bool pool_adopt(struct pool *pool, const char *name);

/* Files ready for use. */
uint32_t pool_count(struct pool *pool);

/* Writes part of one more file: so much that others who wait for the same worker need not wait
 * long. Returns 1: to be called again; 0: the file is in the pool; -errno: nothing is left behind.
 * Blocking. Thread: any, one at a time. */
MUST_CHECK int pool_fill(struct pool *pool);

/* Bytes of the file that pool_fill has begun and not ended; 0: there is none. Not beside pool_fill.
 */
uint64_t pool_filled(const struct pool *pool);

/* Takes a file out of the pool, or makes an empty one of the full length when there is none.
 * Returns its open descriptor and name, or -errno. */
MUST_CHECK int pool_take(struct pool *pool, char ret_name[SEGMENT_NAME_SIZE]);

/* Takes back the file of a freed segment: into the pool when it has its length and there is room,
 * else it is removed. Its new name is durable before it can be taken. Returns 0 or -errno. */
MUST_CHECK int pool_recycle(struct pool *pool, const char *name);
