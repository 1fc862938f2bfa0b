#include "store/local/local.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define RETENTION_NONE (UINT64_MAX / 4) /* so large that sums with it do not overflow */

void local_config_default(struct local_config *config)
{
    const uint64_t mib = 1024 * 1024;
    *config = (struct local_config){
        .segment_size = 256 * mib,
        .retention_bytes = 16 * 1024 * mib,
        .retention_ms = UINT64_C(3) * 24 * 3600 * 1000,
        .tail_bytes = 64 * mib,
        .checkpoint_ms = 30 * 1000,
        .seal_entries = 4 * 1000 * 1000,
        .pool_segments = 2,
        .overlay_bytes = 64 * mib,
        .pressure_bytes = 32 * mib,
    };
}

static struct local *of_store(struct store *store)
{
    return CONTAINER_OF(store, struct local, store);
}

/* --- the interface ------------------------------------------------------------------------- */

static void on_watch(struct store *store, const struct store_watcher *watcher)
{
    of_store(store)->watcher = *watcher;
}

static void on_queue_bounds(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                            uint64_t *ret_next)
{
    const struct queue *queue = qindex_find(&of_store(store)->index, queue_id);
    *ret_first = queue ? queue->first_seq : 0;
    *ret_next = queue ? queue->next_seq : 0;
}

/* The record in the log repeats the drop when records of the queue are still under way, and after a
 * restart. When the log takes no writes the queue comes back with the next start, unused. */
static void on_queue_drop(struct store *store, uint32_t queue_id)
{
    struct local *local = of_store(store);
    qindex_drop(&local->index, queue_id);
    append_drop(local, queue_id);
}

static void on_trim_go(struct store *store)
{
    retention_go(of_store(store));
}

static bool on_pressure(struct store *store)
{
    struct local *local = of_store(store);
    const bool high =
        local->head - local->done_end > local->config.pressure_bytes || retention_behind(local);
    local->pressed |= high;
    return high;
}

static void on_stats(struct store *store, struct store_stats *ret_stats)
{
    const struct local *local = of_store(store);
    struct store_stats stats = {
        .log_bytes = local->done_end - local->first_position,
        .disk_bytes = pool_count(local->pool) * local->config.segment_size,
        .head_position = local->done_end,
        .first_position = local->first_position,
        .applied_position = local->applied_end,
        .segment_count = local->segments->count,
        .index_file_count = local->files->count,
        .writable = append_allowed(local),
    };
    for (uint32_t i = 0; i < local->segments->count; i++)
        stats.disk_bytes += local->segments->items[i]->size;
    for (uint32_t i = 0; i < local->files->count; i++)
        stats.disk_bytes += local->files->items[i]->size;
    stats.disk_bytes += metadb_size(local->db);
    (void)snprintf(stats.reason, sizeof stats.reason, "%s", local->reason);
    *ret_stats = stats;
}

/* --- opening and closing ------------------------------------------------------------------- */

static struct local *local_free(struct local *local)
{
    (void)mailbox_free(local->mailbox);
    (void)clog_free(local->clog);
    latest_forget(local);
    overlay_clear(&local->overlay);
    checkpoint_done(local);
    qindex_done(&local->index);
    tail_done(&local->tail);
    (void)segment_set_unref(local->segments);
    (void)sealed_set_unref(local->files);
    (void)pool_free(local->pool);
    (void)metadb_close(local->db);
    const int fds[] = {local->log_fd, local->index_fd, local->dir_fd, local->lock_fd};
    for (uint32_t i = 0; i < ARRAY_COUNT(fds); i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    mem_free(local);
    return NULL;
}

static struct store *on_close(struct store *store)
{
    struct local *local = of_store(store);
    local->closing = true;
    upkeep_stop(local);
    timer_stop(loop_timers(local->loop), &local->lazy_timer);
    timer_stop(loop_timers(local->loop), &local->reopen_timer);
    append_flush(local);
    deferred_cancel(&local->flush);
    while (local->work_count > 0)
        mailbox_wait(local->mailbox);
    timer_stop(loop_timers(local->loop), &local->release_timer); /* a seal may just have ended */
    retention_stop(local);
    clog_stop(local->clog);
    local->mailbox = mailbox_free(local->mailbox);
    local->log_works = false;
    append_fail_all(local, -ECANCELED);
    upkeep_finish(local);
    append_forget(local);
    (void)local_free(local);
    return NULL;
}

static const struct store_ops local_ops = {
    .abi = STORE_ABI,
    .name = "local",
    .watch = on_watch,
    .append = append_submit,
    .read = read_submit,
    .release = read_release,
    .queue_bounds = on_queue_bounds,
    .queue_drop = on_queue_drop,
    .trim_go = on_trim_go,
    .pressure = on_pressure,
    .stats = on_stats,
    .close = on_close,
};

static int check_config(const struct local_config *config, struct errmsg *reterr)
{
    const char *wrong = NULL;
    if (config->segment_size < SEGMENT_SIZE_MIN || config->segment_size > SEGMENT_SIZE_MAX ||
        config->segment_size % SEGMENT_HEADER_SIZE != 0)
        wrong = "the segment size must be 1 MiB to 1 GiB and a multiple of 4096";
    else if (config->seal_entries == 0 || config->checkpoint_ms == 0)
        wrong = "seal entries and checkpoint interval must not be 0";
    if (!wrong)
        return 0;
    errmsg_wrap(reterr, "%s", wrong);
    return ERR_INVALID;
}

/* Opens a directory under `dir_fd`, made when missing. */
static int open_dir(int dir_fd, const char *name, int *ret_fd)
{
    int err = file_mkdirat(dir_fd, name, 0750);
    if (err < 0)
        return err;
    err = file_openat(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (err < 0)
        return err;
    *ret_fd = err;
    return 0;
}

static int sync_dir(int dir_fd, const char *name)
{
    const int fd = file_openat(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    const int err = file_fsync(fd);
    (void)close(fd);
    return err;
}

static int lock_dir(struct local *local)
{
    local->lock_fd = file_openat(local->dir_fd, LOCAL_LOCK_NAME, O_RDWR | O_CREAT, 0640);
    if (local->lock_fd < 0)
        return local->lock_fd;
    return flock(local->lock_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int open_dirs(struct local *local, struct errmsg *reterr)
{
    const char *dir = local->config.dir;
    int err = open_dir(AT_FDCWD, dir, &local->dir_fd);
    if (err == 0)
        err = lock_dir(local);
    if (err == -EWOULDBLOCK) {
        errmsg_wrap(reterr, "'%s' is in use by another process", dir);
        return err;
    }
    if (err == 0)
        err = open_dir(local->dir_fd, LOCAL_LOG_DIR, &local->log_fd);
    if (err == 0)
        err = open_dir(local->dir_fd, LOCAL_INDEX_DIR, &local->index_fd);
    if (err == 0)
        err = sync_dir(local->dir_fd, ".");
    if (err == 0)
        err = sync_dir(local->dir_fd, "..");
    if (err < 0)
        errmsg_wrap(reterr, "could not open directory '%s': %s", dir, err_text(err));
    return err;
}

static int open_metadb_in(struct local *local, const char *name, struct metadb_state *ret_state,
                          struct errmsg *reterr)
{
    char path[4096];
    const int size = snprintf(path, sizeof path, "%s/%s", local->config.dir, name);
    if (size < 0 || (size_t)size >= sizeof path)
        return -ENAMETOOLONG;
    const int err = metadb_open(path, &local->db, ret_state, reterr);
    if (err == ERR_CORRUPT)
        errmsg_wrap(reterr, "the store is damaged, run \"tidemq store check %s\"",
                    local->config.dir);
    return err;
}

/* LMDB cannot open what a power cut leaves of a file it was making: the database is made under
 * another name and gets its own once it is durable. */
static int make_metadb(struct local *local, struct errmsg *reterr)
{
    struct metadb_state state;
    int fd = -1;
    int err = open_dir(local->dir_fd, LOCAL_META_NEW_DIR, &fd);
    if (err == 0) {
        (void)!file_unlinkat(fd, "data.mdb"); /* of an attempt before */
        (void)!file_unlinkat(fd, "lock.mdb");
        err = open_metadb_in(local, LOCAL_META_NEW_DIR, &state, reterr);
        local->db = metadb_close(local->db);
        if (err == 0)
            err = file_fsync(fd);
        (void)close(fd);
    }
    if (err == 0)
        err = file_renameat(local->dir_fd, LOCAL_META_NEW_DIR, LOCAL_META_DIR);
    if (err == 0)
        err = file_fsync(local->dir_fd);
    if (err < 0)
        errmsg_wrap(reterr, "could not make the metadata's database: %s", err_text(err));
    return err;
}

static int open_metadb(struct local *local, struct metadb_state *ret_state, struct errmsg *reterr)
{
    const int fd = file_openat(local->dir_fd, LOCAL_META_DIR, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT) {
        const int made = make_metadb(local, reterr);
        return made < 0 ? made : open_metadb_in(local, LOCAL_META_DIR, ret_state, reterr);
    }
    if (fd < 0) {
        errmsg_wrap(reterr, "could not open the metadata: %s", err_text(fd));
        return fd;
    }
    const bool there = faccessat(fd, METADB_FILE_NAME, F_OK, 0) == 0;
    (void)close(fd);
    const int err = there ? 0 : ERR_CORRUPT; /* it got its folder's name with the file in it */
    if (err < 0)
        errmsg_wrap(
            reterr,
            "the store is damaged, run \"tidemq store check %s\": metadata '%s/%s' is missing",
            local->config.dir, LOCAL_META_DIR, METADB_FILE_NAME);
    return err < 0 ? err : open_metadb_in(local, LOCAL_META_DIR, ret_state, reterr);
}

static int open_all(struct local *local, struct errmsg *reterr)
{
    struct metadb_state state;
    int err = check_config(&local->config, reterr);
    if (err == 0)
        err = open_dirs(local, reterr);
    if (err == 0)
        err = open_metadb(local, &state, reterr);
    if (err < 0)
        return err;
    local->pool = pool_new(local->log_fd, local->config.segment_size, local->config.pool_segments);
    err = recovery_run(local, &state, reterr);
    if (err == 0)
        err = latest_open(local);
    if (err == 0)
        err = mailbox_new(local->loop, &local->mailbox, reterr);
    if (err < 0)
        return err;
    const struct clog_setup setup = {
        .dir_fd = local->log_fd,
        .pool = local->pool,
        .mailbox = local->mailbox,
        .metrics = local->metrics,
        .end = local->done_end,
        .on_result = append_on_result,
        .data = local,
    };
    return clog_new(&setup, &local->clog, reterr);
}

/* The pool counts among the log's files: not more than a quarter of what they may take. */
static uint32_t pool_share(const struct local_config *config)
{
    const uint64_t share = config->retention_bytes / 4 / MAX(config->segment_size, (uint64_t)1);
    return (uint32_t)MIN(share, (uint64_t)config->pool_segments);
}

/* NOLINTNEXTLINE(readability-function-size): what surrounds the engine, each a thing of its own. */
int local_open(const struct local_config *config, struct loop *loop, struct worker_pool *pool,
               struct log *log, struct metrics *metrics, struct store **ret_store,
               struct meta **ret_meta, struct errmsg *reterr)
{
    struct local *local = mem_new(sizeof *local);
    local->store.ops = &local_ops;
    local->loop = loop;
    local->workers = pool;
    local->log = log;
    local->metrics = metrics;
    local->config = *config;
    if (config->retention_bytes == 0)
        local->config.retention_bytes = RETENTION_NONE;
    if (config->retention_ms == 0)
        local->config.retention_ms = RETENTION_NONE;
    local->config.pool_segments = pool_share(&local->config);
    local->dir_fd = local->lock_fd = local->log_fd = local->index_fd = -1;
    overlay_init(&local->overlay);
    checkpoint_init(local);
    qindex_init(&local->index, LOG_START);
    tail_init(&local->tail, config->tail_bytes);
    append_init(local);
    const int err = open_all(local, reterr);
    if (err < 0) {
        errmsg_wrap(reterr, "could not open the store");
        (void)local_free(local);
        return err;
    }
    local->config.dir = NULL; /* borrowed for the open */
    local->log_works = local->views_work = local->told_writable = true;
    retention_count(local);
    metric_set(&metrics->store_writable, 1);
    metric_set(&metrics->store_segments, local->segments->count);
    metric_set(&metrics->store_index_files, local->files->count);
    upkeep_start(local);
    *ret_store = &local->store;
    *ret_meta = &local->meta;
    return 0;
}
