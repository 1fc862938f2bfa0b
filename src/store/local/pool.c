#include "store/local/pool.h"

#include "base/mem.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    POOL_COUNT_MAX = 64,
    ZEROS_SIZE =
        64 * 1024,   /* written again and again, so that they stay in the processor's cache */
    ZEROS_COUNT = 4, /* in one write */
};

struct pool {
    int dir_fd;
    uint64_t segment_size;
    uint32_t count_max;
    int fill_fd; /* the file being written, -1: none */
    uint64_t fill_id, fill_at;
    pthread_mutex_t lock; /* of the rest */
    uint64_t next_id;
    uint32_t count;
    uint64_t ids[POOL_COUNT_MAX];
};

static void file_name(uint64_t id, char ret_name[SEGMENT_NAME_SIZE])
{
    (void)snprintf(ret_name, SEGMENT_NAME_SIZE, "free-%" PRIu64 ".seg", id);
}

struct pool *pool_new(int dir_fd, uint64_t segment_size, uint32_t count_max)
{
    struct pool *pool = mem_new(sizeof *pool);
    pool->dir_fd = dir_fd;
    pool->fill_fd = -1;
    pool->segment_size = segment_size;
    pool->count_max = MIN(count_max, POOL_COUNT_MAX);
    const int err = pthread_mutex_init(&pool->lock, NULL);
    ASSERT(err == 0);
    return pool;
}

static uint64_t take_id(struct pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    const uint64_t id = pool->next_id++;
    (void)pthread_mutex_unlock(&pool->lock);
    return id;
}

/* Returns false when the pool is full. */
static bool push(struct pool *pool, uint64_t id)
{
    (void)pthread_mutex_lock(&pool->lock);
    const bool room = pool->count < pool->count_max;
    if (room)
        pool->ids[pool->count++] = id;
    (void)pthread_mutex_unlock(&pool->lock);
    return room;
}

/* Closes the file being written; it stays when it is whole and there is room. */
static void end_fill(struct pool *pool, bool whole)
{
    char name[SEGMENT_NAME_SIZE];
    file_name(pool->fill_id, name);
    (void)close(pool->fill_fd);
    pool->fill_fd = -1;
    if (!whole || !push(pool, pool->fill_id))
        (void)!file_unlinkat(pool->dir_fd, name);
}

struct pool *pool_free(struct pool *pool)
{
    if (pool) {
        if (pool->fill_fd >= 0)
            end_fill(pool, false);
        (void)pthread_mutex_destroy(&pool->lock);
        mem_free(pool);
    }
    return NULL;
}

static uint64_t size_of(const struct pool *pool, const char *name)
{
    uint64_t size = 0;
    const int fd = file_openat(pool->dir_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return 0;
    if (file_size(fd, &size) < 0)
        size = 0;
    (void)close(fd);
    return size;
}

bool pool_adopt(struct pool *pool, const char *name)
{
    if (strncmp(name, "free-", 5) != 0)
        return false;
    char *end = NULL;
    const uint64_t id = strtoull(name + 5, &end, 10);
    if (strcmp(end, ".seg") != 0)
        return false;
    pool->next_id = MAX(pool->next_id, id + 1);
    if (size_of(pool, name) != pool->segment_size || !push(pool, id))
        (void)!file_unlinkat(pool->dir_fd, name);
    return true;
}

uint32_t pool_count(struct pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    const uint32_t count = pool->count;
    (void)pthread_mutex_unlock(&pool->lock);
    return count;
}

/* In small steps, each synced: a large amount of dirty pages would make the log's own syncs wait.
 */
static int begin_fill(struct pool *pool)
{
    char name[SEGMENT_NAME_SIZE];
    pool->fill_id = take_id(pool);
    pool->fill_at = 0;
    file_name(pool->fill_id, name);
    pool->fill_fd = file_openat(pool->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0640);
    return MIN(pool->fill_fd, 0);
}

static int write_zeros(struct pool *pool)
{
    void *zeros = mem_new(ZEROS_SIZE);
    const uint64_t end = MIN(pool->segment_size, pool->fill_at + POOL_FILL_SIZE);
    int err = 0;
    while (pool->fill_at < end && err == 0) {
        struct iovec iov[ZEROS_COUNT];
        int count = 0;
        uint64_t at = pool->fill_at;
        for (; count < ZEROS_COUNT && at < end; count++) {
            iov[count].iov_base = zeros;
            iov[count].iov_len = MIN(end - at, (uint64_t)ZEROS_SIZE);
            at += iov[count].iov_len;
        }
        err = file_pwritev_all(pool->fill_fd, iov, count, pool->fill_at);
        pool->fill_at = at;
    }
    mem_free(zeros);
    return err;
}

uint64_t pool_filled(const struct pool *pool)
{
    return pool->fill_fd < 0 ? 0 : pool->fill_at;
}

int pool_fill(struct pool *pool)
{
    int err = pool->fill_fd < 0 ? begin_fill(pool) : 0;
    if (err < 0)
        return err;
    err = write_zeros(pool);
    if (err == 0) /* little at a time, or the log's own syncs would wait behind all of it */
        err = file_fdatasync(pool->fill_fd);
    if (err == 0 && pool->fill_at < pool->segment_size)
        return 1;
    end_fill(pool, err == 0);
    return err;
}

/* Takes the blocks of the whole file now, where the file system can do that: on a disk that is full
 * it fails here, and not with the messages of the next moments. */
static int make_room(int fd, uint64_t size)
{
    if (ftruncate(fd, (off_t)size) < 0)
        return -errno;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) < 0 && errno != EOPNOTSUPP)
        return -errno;
    return 0;
}

int pool_take(struct pool *pool, char ret_name[SEGMENT_NAME_SIZE])
{
    (void)pthread_mutex_lock(&pool->lock);
    const bool ready = pool->count > 0;
    const uint64_t id = ready ? pool->ids[--pool->count] : pool->next_id++;
    (void)pthread_mutex_unlock(&pool->lock);
    file_name(id, ret_name);
    if (ready)
        return file_openat(pool->dir_fd, ret_name, O_RDWR, 0);
    const int fd = file_openat(pool->dir_fd, ret_name, O_RDWR | O_CREAT | O_EXCL, 0640);
    const int err = fd < 0 ? 0 : make_room(fd, pool->segment_size);
    if (err < 0) {
        (void)close(fd);
        (void)!file_unlinkat(pool->dir_fd, ret_name);
        return err;
    }
    return fd;
}

int pool_recycle(struct pool *pool, const char *name)
{
    if (size_of(pool, name) != pool->segment_size)
        return file_unlinkat(pool->dir_fd, name);
    char free_name[SEGMENT_NAME_SIZE];
    const uint64_t id = take_id(pool);
    file_name(id, free_name);
    int err = file_renameat(pool->dir_fd, name, free_name);
#ifndef MUTATION_NO_DIR_FSYNC
    /* Its next header is synced sooner than its next name: a crash between must not find that
     * header under the old name. */
    if (err == 0)
        err = file_fsync(pool->dir_fd);
#endif
    if (err < 0)
        return err;
    return push(pool, id) ? 0 : file_unlinkat(pool->dir_fd, free_name);
}
