#include "store/local/clog.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/record.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { IOV_COUNT_MAX = 64, PAGE_SIZE = 4096 };

/* Lazy records may stay unsynced; not more of them than this. */
#define UNSYNCED_MAX (UINT64_C(2) * 1024 * 1024)

struct batch {
    struct clog_range *ranges;
    uint32_t count, capacity;
    bool sync;
    struct segment *reopen; /* begin again with this segment */
};

struct clog {
    struct mail mail;
    struct clog_setup setup;
    pthread_t thread;
    pthread_cond_t changed;

    pthread_mutex_t lock; /* of the next four */
    struct batch waiting;
    struct clog_result result;
    bool posted, stopping;

    /* The thread's own. */
    struct batch running;
    struct segment *segment; /* being written, referenced; NULL: none yet */
    uint64_t written_end, synced_end;
    int err; /* what the log has failed with, until it is reopened */
    char reason[128];
    uint32_t reopen_count;
};

static void fail(struct clog *clog, int err, const char *what)
{
    metric_add(&clog->setup.metrics->store_sync_errors, 1);
    clog->err = err;
    (void)snprintf(clog->reason, sizeof clog->reason, "could not %s the log: %s", what,
                   err_text(err));
}

/* Tells the loop how far we are. */
static void publish(struct clog *clog)
{
    (void)pthread_mutex_lock(&clog->lock);
    clog->result.written_end = clog->written_end;
    clog->result.synced_end = clog->synced_end;
    clog->result.err = clog->err;
    clog->result.reopen_count = clog->reopen_count;
    memcpy(clog->result.reason, clog->reason, sizeof clog->reason);
    const bool post = !clog->posted;
    clog->posted = true;
    (void)pthread_mutex_unlock(&clog->lock);
    if (post)
        mailbox_post(clog->setup.mailbox, &clog->mail);
}

static void deliver(struct mail *mail)
{
    struct clog *clog = CONTAINER_OF(mail, struct clog, mail);
    (void)pthread_mutex_lock(&clog->lock);
    const struct clog_result result = clog->result;
    clog->posted = false;
    (void)pthread_mutex_unlock(&clog->lock);
    clog->setup.on_result(clog->setup.data, &result);
}

static int sync_segment(struct clog *clog)
{
    if (clog->synced_end == clog->written_end)
        return 0;
#ifndef MUTATION_NO_FDATASYNC
    const int err = file_fdatasync(clog->segment->fd);
    if (err < 0) {
        fail(clog, err, "sync");
        return err;
    }
#endif
    metric_add(&clog->setup.metrics->store_syncs, 1);
    clog->synced_end = clog->written_end;
    return 0;
}

/* The file gets its header before its name, and both are durable before any record is. */
static int write_header(struct clog *clog, struct segment *segment, const char *name)
{
    char final_name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, final_name);
    int err = file_size(segment->fd, &segment->size);
    if (err == 0)
        err = segment_write_header(segment);
    if (err == 0)
        err = file_fdatasync(segment->fd);
    if (err == 0)
        err = file_renameat(clog->setup.dir_fd, name, final_name);
#ifndef MUTATION_NO_DIR_FSYNC
    if (err == 0)
        err = file_fsync(clog->setup.dir_fd);
#endif
    return err;
}

static int open_segment(struct clog *clog, struct segment *segment)
{
    ASSERT(segment->fd < 0);
    ASSERT(segment->base == clog->synced_end);
    char name[SEGMENT_NAME_SIZE];
    const int fd = pool_take(clog->setup.pool, name);
    if (fd < 0) {
        fail(clog, fd, "open a segment of");
        return fd;
    }
    segment->fd = fd;
    const int err = write_header(clog, segment, name);
    if (err < 0) {
        (void)!file_unlinkat(clog->setup.dir_fd, name);
        fail(clog, err, "begin a segment of");
        return err;
    }
    (void)segment_unref(clog->segment);
    clog->segment = segment_ref(segment);
    return 0;
}

static void seal_records(const struct clog *clog, const struct clog_range *range)
{
    uint32_t at = 0;
    while (at < range->size) {
        const struct record_header *header =
            (const struct record_header *)(const void *)(range->bytes + at);
        ASSERT(header->position == range->position + at);
        ASSERT(header->size <= range->size - at);
        record_seal(range->bytes + at, clog->synced_end);
        at += header->size;
    }
}

/* The page the records end in is written whole, zeros behind them: the kernel need not read from
 * the disk what the file of a freed segment held there. */
static struct iovec padding(uint64_t end_offset)
{
    static uint8_t zeros[PAGE_SIZE];
    return (struct iovec){.iov_base = zeros,
                          .iov_len = (PAGE_SIZE - end_offset % PAGE_SIZE) % PAGE_SIZE};
}

static int write_ranges(struct clog *clog, const struct clog_range *ranges, int count)
{
    struct iovec iov[IOV_COUNT_MAX + 1];
    uint64_t end = ranges[0].position;
    for (int i = 0; i < count; i++) {
        ASSERT(ranges[i].position == end);
        seal_records(clog, &ranges[i]);
        iov[i] = (struct iovec){.iov_base = ranges[i].bytes, .iov_len = ranges[i].size};
        end += ranges[i].size;
    }
    const uint64_t offset = segment_offset(clog->segment, ranges[0].position);
    iov[count] = padding(segment_offset(clog->segment, end));
    ASSERT(segment_offset(clog->segment, end) + iov[count].iov_len <= clog->segment->size);
    const int err = file_pwritev_all(clog->segment->fd, iov, count + 1, offset);
    if (err < 0) {
        fail(clog, err, "write");
        return err;
    }
    clog->written_end = end;
    return 0;
}

/* Runs of ranges of one segment go out together; a change of segment syncs the one before. */
static int write_batch(struct clog *clog, const struct batch *batch)
{
    uint32_t at = 0;
    while (at < batch->count) {
        const struct clog_range *first = &batch->ranges[at];
        if (first->segment != clog->segment) {
            int err = sync_segment(clog);
            if (err == 0)
                err = open_segment(clog, first->segment);
            if (err < 0)
                return err;
        }
        int count = 1;
        while (at + (uint32_t)count < batch->count && count < IOV_COUNT_MAX &&
               first[count].segment == first->segment)
            count++;
        const int err = write_ranges(clog, first, count);
        if (err < 0)
            return err;
        at += (uint32_t)count;
    }
    return 0;
}

#ifdef MUTATION_KILL_ACK_BEFORE_WRITE
/* Says that all is written and synced; writes a little later. */
static void claim(struct clog *clog, const struct batch *batch)
{
    if (batch->count == 0 || batch->ranges[0].segment != clog->segment)
        return;
    const struct clog_range *last = &batch->ranges[batch->count - 1];
    const uint64_t written = clog->written_end, synced = clog->synced_end;
    clog->written_end = clog->synced_end = last->position + last->size;
    publish(clog);
    clog->written_end = written;
    clog->synced_end = synced;
    (void)poll(NULL, 0, 5);
}
#endif

static void run_batch(struct clog *clog, struct batch *batch)
{
#ifdef MUTATION_KILL_ACK_BEFORE_WRITE
    claim(clog, batch);
#endif
    if (batch->reopen) {
        clog->err = 0;
        clog->written_end = clog->synced_end;
        clog->reopen_count++;
        (void)!open_segment(clog, batch->reopen);
    }
    if (clog->err == 0 && write_batch(clog, batch) == 0) {
#ifdef MUTATION_ACK_BEFORE_SYNC
        publish(clog);
        (void)poll(NULL, 0, 5); /* as long as a real disk takes */
#endif
        if (batch->sync || clog->written_end - clog->synced_end > UNSYNCED_MAX)
            (void)!sync_segment(clog);
    }
    publish(clog);
}

static void *clog_main(void *data)
{
    struct clog *clog = data;
    /* Everyone waits for this thread; where that is not allowed it runs like the others. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), -10);
    (void)pthread_mutex_lock(&clog->lock);
    for (;;) {
        struct batch *waiting = &clog->waiting;
        while (waiting->count == 0 && !waiting->sync && !waiting->reopen && !clog->stopping)
            (void)pthread_cond_wait(&clog->changed, &clog->lock);
        if (waiting->count == 0 && !waiting->sync && !waiting->reopen)
            break;
        const struct batch batch = *waiting;
        *waiting = clog->running;
        clog->running = batch;
        (void)pthread_mutex_unlock(&clog->lock);
        run_batch(clog, &clog->running);
        (void)segment_unref(clog->running.reopen);
        clog->running.reopen = NULL;
        clog->running.count = 0;
        clog->running.sync = false;
        (void)pthread_mutex_lock(&clog->lock);
    }
    (void)pthread_mutex_unlock(&clog->lock);
    return NULL;
}

int clog_new(const struct clog_setup *setup, struct clog **ret_clog, struct errmsg *reterr)
{
    struct clog *clog = mem_new(sizeof *clog);
    clog->mail.deliver = deliver;
    clog->setup = *setup;
    clog->written_end = clog->synced_end = setup->end;
    int err = pthread_mutex_init(&clog->lock, NULL);
    ASSERT(err == 0);
    err = pthread_cond_init(&clog->changed, NULL);
    ASSERT(err == 0);
    sigset_t all, before; /* signals belong to the loop's thread */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&clog->thread, NULL, clog_main, clog);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err < 0) {
        errmsg_wrap(reterr, "could not start the log thread: %s", err_text(err));
        (void)clog_free(clog);
        return err;
    }
    (void)pthread_setname_np(clog->thread, "log");
    *ret_clog = clog;
    return 0;
}

void clog_stop(struct clog *clog)
{
    (void)pthread_mutex_lock(&clog->lock);
    clog->stopping = true;
    (void)pthread_cond_signal(&clog->changed);
    (void)pthread_mutex_unlock(&clog->lock);
    (void)pthread_join(clog->thread, NULL);
}

struct clog *clog_free(struct clog *clog)
{
    if (!clog)
        return NULL;
    (void)segment_unref(clog->segment);
    (void)segment_unref(clog->waiting.reopen);
    mem_free(clog->waiting.ranges);
    mem_free(clog->running.ranges);
    (void)pthread_cond_destroy(&clog->changed);
    (void)pthread_mutex_destroy(&clog->lock);
    mem_free(clog);
    return NULL;
}

static int push_ranges(struct batch *batch, const struct clog_range *ranges, uint32_t count)
{
    if (batch->count + count > batch->capacity) {
        const uint32_t capacity = MAX(16u, (batch->count + count) * 2);
        void *grown = mem_try_realloc(batch->ranges, capacity * sizeof *ranges);
        if (!grown)
            return ERR_NOMEM;
        batch->ranges = grown;
        batch->capacity = capacity;
    }
    if (count)
        memcpy(batch->ranges + batch->count, ranges, count * sizeof *ranges);
    batch->count += count;
    return 0;
}

static int submit(struct clog *clog, const struct clog_range *ranges, uint32_t count, bool sync,
                  struct segment *reopen)
{
    (void)pthread_mutex_lock(&clog->lock);
    const int err = push_ranges(&clog->waiting, ranges, count);
    if (err == 0) {
        clog->waiting.sync |= sync;
        if (reopen) {
            ASSERT(!clog->waiting.reopen);
            clog->waiting.reopen = segment_ref(reopen);
        }
    }
    (void)pthread_mutex_unlock(&clog->lock);
    if (err == 0)
        (void)pthread_cond_signal(&clog->changed); /* it would wake only to wait for the lock */
    return err;
}

int clog_submit(struct clog *clog, const struct clog_range *ranges, uint32_t count, bool sync)
{
    ASSERT(count > 0 || sync);
    return submit(clog, ranges, count, sync, NULL);
}

int clog_reopen(struct clog *clog, struct segment *segment, const struct clog_range *ranges,
                uint32_t count)
{
    return submit(clog, ranges, count, true, segment);
}
