/* For the tests of this folder: an engine in a directory of its own, driven step by step. */
#pragma once

#include "base/unit.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"
#include "store/local/scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[64];
    struct local_config config;
    struct loop *loop;
    struct worker_pool *workers;
    struct metrics *metrics;
    struct store *store;
    struct meta *meta;
    struct errmsg why;
};

/* One append and its outcome. */
struct fixture_append {
    struct store_append req; /* first */
    bool done;
    int err;
    uint64_t position;
    uint64_t seqs[8];
};

/* Removes the files in a directory; what are directories stays. */
static inline void fixture_empty_dir(int fd)
{
    char **names = NULL;
    uint32_t count = 0;
    assert_int_equal(scan_names(fd, &names, &count), 0);
    for (uint32_t i = 0; i < count; i++)
        (void)unlinkat(fd, names[i], 0);
    scan_names_free(names, count);
}

static inline void fixture_remove_dir(int parent_fd, const char *name)
{
    static const char *const parts[] = {"log", "index", "meta"};
    const int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fixture_empty_dir(fd);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        const int part_fd = openat(fd, parts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (part_fd < 0)
            continue;
        fixture_empty_dir(part_fd);
        (void)close(part_fd);
        (void)unlinkat(fd, parts[i], AT_REMOVEDIR);
    }
    (void)close(fd);
    (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

static inline void fixture_copy_file(int from_dir, int to_dir, const char *name)
{
    const int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
    const int to = openat(to_dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    assert_true(from >= 0 && to >= 0);
    char bytes[65536];
    ssize_t size = 0;
    while ((size = read(from, bytes, sizeof bytes)) > 0)
        assert_int_equal(write(to, bytes, (size_t)size), size);
    (void)close(from);
    (void)close(to);
}

static inline void fixture_copy_dir(const char *from, const char *to)
{
    static const char *const parts[] = {"log", "index", "meta"};
    assert_int_equal(mkdir(to, 0750), 0);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", from, parts[i]);
        const int from_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)snprintf(path, sizeof path, "%s/%s", to, parts[i]);
        assert_int_equal(mkdir(path, 0750), 0);
        const int to_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char **names = NULL;
        uint32_t count = 0;
        assert_int_equal(scan_names(from_fd, &names, &count), 0);
        for (uint32_t n = 0; n < count; n++) {
            if (strcmp(names[n], "lock.mdb") != 0)
                fixture_copy_file(from_fd, to_fd, names[n]);
        }
        scan_names_free(names, count);
        (void)close(from_fd);
        (void)close(to_fd);
    }
}

static inline void fixture_new_dir(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/tidemq-local-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline int fixture_try_open(struct fixture *fixture)
{
    fixture->why = (struct errmsg){0};
    fixture->config.dir = fixture->dir;
    return local_open(&fixture->config, fixture->loop, fixture->workers, NULL, fixture->metrics,
                      &fixture->store, &fixture->meta, &fixture->why);
}

static inline void fixture_open(struct fixture *fixture)
{
    const int err = fixture_try_open(fixture);
    if (err < 0)
        print_error("open: %s: %s\n", err_text(err), fixture->why.text);
    assert_int_equal(err, 0);
}

static inline void fixture_close(struct fixture *fixture)
{
    fixture->store = store_close(fixture->store);
}

/* 1 MiB segments, no pool, nothing in the background unless a test asks for it. */
static inline struct fixture *fixture_new(void)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    fixture_new_dir(fixture->dir);
    local_config_default(&fixture->config);
    fixture->config.segment_size = 1024 * 1024;
    fixture->config.pool_segments = 0;
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    assert_int_equal(worker_pool_new(2, &fixture->workers, NULL), 0);
    fixture->metrics = metrics_new();
    return fixture;
}

static inline void fixture_free(struct fixture *fixture)
{
    fixture_close(fixture);
    (void)worker_pool_free(fixture->workers);
    (void)loop_free(fixture->loop);
    (void)metrics_free(fixture->metrics);
    fixture_remove_dir(AT_FDCWD, fixture->dir);
    mem_free(fixture);
}

static inline void fixture_on_append(struct store_append *req, int err)
{
    struct fixture_append *append = CONTAINER_OF(req, struct fixture_append, req);
    assert_false(append->done);
    append->done = true;
    append->err = err;
    if (err == 0) {
        append->position = req->stored.position;
        for (uint16_t i = 0; i < req->queue_count && i < ARRAY_COUNT(append->seqs); i++)
            append->seqs[i] = req->seqs[i];
    }
}

/* Turns the loop once; false when the time since *deadline_ms was set (0 before) has run out. */
static inline bool fixture_turn(struct fixture *fixture, uint64_t *deadline_ms)
{
    assert_int_equal(loop_turn(fixture->loop, 5), 0);
    if (*deadline_ms == 0)
        *deadline_ms = loop_now_ms(fixture->loop) + 60000;
    return loop_now_ms(fixture->loop) < *deadline_ms;
}

/* Turns the loop until the condition holds; fails the test when it does not come true. */
#define fixture_until(fixture, condition)                                                          \
    do {                                                                                           \
        uint64_t deadline_ms_ = 0;                                                                 \
        while (!(condition) && fixture_turn(fixture, &deadline_ms_))                               \
            continue;                                                                              \
        assert_true(condition);                                                                    \
    } while (0)

/* kill -9: what the kernel has stays, what the process had is gone. No worker writes while the
 * files are copied; the log thread may. */
static inline void fixture_crash(struct fixture *fixture)
{
    const struct local *local = CONTAINER_OF(fixture->store, struct local, store);
    fixture_until(fixture, local->work_count == 0);
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%.50s-copy", fixture->dir);
    fixture_copy_dir(fixture->dir, copy);
    fixture_close(fixture);
    fixture_remove_dir(AT_FDCWD, fixture->dir);
    assert_int_equal(rename(copy, fixture->dir), 0);
}

static inline void fixture_wait(struct fixture *fixture, const bool *flag)
{
    fixture_until(fixture, *flag);
}

/* Submits; `append` stays in place until done. */
static inline int fixture_submit(struct fixture *fixture, struct fixture_append *append,
                                 const struct message *message, const uint32_t *queue_ids,
                                 uint16_t queue_count)
{
    append->done = false;
    append->req.message = message;
    append->req.queue_ids = queue_ids;
    append->req.queue_count = queue_count;
    append->req.done = fixture_on_append;
    return store_append(fixture->store, &append->req);
}

/* Appends and waits; returns the append's outcome. */
static inline int fixture_append(struct fixture *fixture, const char *topic, const char *payload,
                                 uint32_t topic_id, uint32_t queue_id, uint64_t *ret_position)
{
    struct fixture_append append = {0};
    const struct message message = {.topic = slice_str(topic),
                                    .payload = slice_str(payload),
                                    .client_id = slice_str("client"),
                                    .publisher = 7,
                                    .time_ms = 1234567,
                                    .expiry_s = MESSAGE_NO_EXPIRY,
                                    .topic_id = topic_id,
                                    .qos = 1};
    const int err = fixture_submit(fixture, &append, &message, &queue_id, queue_id ? 1 : 0);
    if (err < 0)
        return err;
    fixture_wait(fixture, &append.done);
    if (ret_position)
        *ret_position = append.position;
    return append.err;
}

struct fixture_read {
    struct store_read req; /* first */
    bool done;
    int err;
};

static inline void fixture_on_read(struct store_read *req, int err)
{
    struct fixture_read *read = CONTAINER_OF(req, struct fixture_read, req);
    assert_false(read->done);
    read->done = true;
    read->err = err;
}

/* Reads and waits; entries stay until store_release. */
static inline int fixture_read(struct fixture *fixture, struct fixture_read *read)
{
    read->done = false;
    read->req.done = fixture_on_read;
    if (read->req.entries_max == 0)
        read->req.entries_max = STORE_READ_MAX;
    if (read->req.bytes_max == 0)
        read->req.bytes_max = 1024 * 1024;
    const int result = store_read(fixture->store, &read->req);
    if (result != 0)
        return result < 0 ? result : 0;
    fixture_wait(fixture, &read->done);
    return read->err;
}

/* Reads the whole queue and checks that entry n has the payload "<prefix><n>". */
static inline void fixture_check_queue(struct fixture *fixture, uint32_t queue_id,
                                       const char *prefix, uint64_t first, uint64_t next)
{
    uint64_t begin = 0, end = 0;
    store_queue_bounds(fixture->store, queue_id, &begin, &end);
    assert_int_equal(begin, first);
    assert_int_equal(end, next);
    uint64_t seq = first;
    while (seq < next) {
        struct fixture_read read = {.req = {.queue_id = queue_id, .from_seq = seq}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_true(read.req.entry_count > 0);
        for (uint16_t i = 0; i < read.req.entry_count; i++, seq++) {
            const struct store_entry *entry = &read.req.entries[i];
            char expected[64];
            (void)snprintf(expected, sizeof expected, "%s%" PRIu64, prefix, seq);
            assert_int_equal(entry->seq, seq);
            assert_true(slice_equal(entry->message.payload, slice_str(expected)));
        }
        store_release(fixture->store, &read.req);
    }
    struct fixture_read read = {.req = {.queue_id = queue_id, .from_seq = next}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 0);
}

static inline void fixture_append_many(struct fixture *fixture, uint32_t queue_id,
                                       const char *prefix, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        char payload[64];
        (void)snprintf(payload, sizeof payload, "%s%" PRIu64, prefix, i);
        assert_int_equal(fixture_append(fixture, "t/a", payload, 1, queue_id, NULL), 0);
    }
}

/* Turns the loop until the metric has reached `value`. */
static inline void fixture_wait_metric(struct fixture *fixture, const _Atomic int64_t *metric,
                                       int64_t value)
{
    fixture_until(fixture, metric_get(metric) >= value);
}

static inline struct store_stats fixture_stats(struct fixture *fixture)
{
    struct store_stats stats;
    fixture->store->ops->stats(fixture->store, &stats);
    return stats;
}

static inline int fixture_collect_row(void *data, struct slice key, struct slice value)
{
    char *text = data;
    const size_t size = strlen(text);
    (void)snprintf(text + size, 1000 - size, "%.*s=%.*s;", (int)key.size, (const char *)key.bytes,
                   (int)value.size, (const char *)value.bytes);
    return 0;
}

/* Appends one operation on a row and waits. */
static inline int fixture_put_row(struct fixture *fixture, enum meta_kind kind, const char *key,
                                  const char *value)
{
    struct fixture_append append = {0};
    const struct meta_op op = {.kind = kind, .key = slice_str(key), .value = slice_str(value)};
    append.req = (struct store_append){.ops = &op, .op_count = 1, .done = fixture_on_append};
    const int err = store_append(fixture->store, &append.req);
    if (err < 0)
        return err;
    fixture_wait(fixture, &append.done);
    return append.err;
}

/* All rows whose keys begin with `prefix` are `expected`, written "key=value;". */
static inline void fixture_check_rows(struct fixture *fixture, const char *prefix,
                                      const char *expected)
{
    char text[1000] = "";
    assert_int_equal(meta_scan(fixture->meta, slice_str(prefix), fixture_collect_row, text), 0);
    assert_string_equal(text, expected);
}
