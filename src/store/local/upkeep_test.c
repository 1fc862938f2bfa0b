#include "store/local/local_fixture.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

/* Turns the loop until the oldest position kept is above `position`. */
static void wait_trimmed(struct fixture *fixture, uint64_t position)
{
    fixture_until(fixture, fixture_stats(fixture).first_position > position);
}

/* Appends `count` messages of 100 kB to queue 5; their first bytes are their number. */
static void append_big(struct fixture *fixture, uint64_t from, uint64_t count)
{
    static char payload[100000];
    const uint32_t queue_id = 5;
    const struct message message = {
        .topic = slice_str("t"), .payload = slice_of(payload, sizeof payload), .topic_id = 1};
    for (uint64_t i = from; i < from + count; i++) {
        memcpy(payload, &i, sizeof i);
        struct fixture_append append = {0};
        assert_int_equal(fixture_submit(fixture, &append, &message, &queue_id, 1), 0);
        fixture_wait(fixture, &append.done);
        assert_int_equal(append.err, 0);
        assert_int_equal(append.seqs[0], i);
    }
}

/* Reads queue 5 from `from` to its end and checks the numbers. */
static void check_big(struct fixture *fixture, uint64_t from)
{
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    for (uint64_t seq = from; seq < next;) {
        struct fixture_read read = {.req = {.queue_id = 5, .from_seq = seq}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_true(read.req.entry_count > 0);
        store_queue_bounds(fixture->store, 5, &first, &next); /* retention goes on meanwhile */
        assert_true(read.req.entries[0].seq >= seq);
        assert_true(read.req.entries[0].seq <= MAX(seq, first));
        seq = read.req.entries[0].seq;
        for (uint16_t i = 0; i < read.req.entry_count; i++, seq++) {
            uint64_t number = 0;
            memcpy(&number, read.req.entries[i].message.payload.bytes, sizeof number);
            assert_int_equal(read.req.entries[i].seq, seq);
            assert_int_equal(number, seq);
        }
        store_release(fixture->store, &read.req);
    }
}

static void checkpoint_holds_the_rows(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 10;
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", "1"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "b", "2"), 0);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, 1);
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "a", ""), 0);
    /* On a busy machine each row may have had a checkpoint of its own before. */
    struct store_stats stats = fixture_stats(fixture);
    while (stats.applied_position != stats.head_position) {
        const int64_t seen = metric_get(&fixture->metrics->store_checkpoints);
        stats = fixture_stats(fixture);
        if (stats.applied_position != stats.head_position)
            fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, seen + 1);
        stats = fixture_stats(fixture);
    }
    fixture_check_rows(fixture, "", "b=2;");
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_rows(fixture, "", "b=2;");
}

static void lazy_rows_are_synced_before_their_checkpoint(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 10;
    fixture_open(fixture);
    const struct meta_op op = {.kind = META_PUT, .key = slice_str("k"), .value = slice_str("v")};
    struct store_append append = {.ops = &op, .op_count = 1, .level = STORE_LAZY};
    assert_int_equal(store_append(fixture->store, &append), 0);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, 1);
    assert_true(metric_get(&fixture->metrics->store_syncs) >= 1);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_rows(fixture, "", "k=v;");
}

static int count_row(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    ++*(uint32_t *)data;
    return 0;
}

static int take_position(void *data, struct slice key, struct slice value)
{
    (void)key;
    assert_int_equal(value.size, sizeof(uint64_t) + 1);
    assert_int_equal(value.bytes[sizeof(uint64_t)], 'x');
    memcpy(data, value.bytes, sizeof(uint64_t));
    return 0;
}

static void put_at_holds_the_position(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct fixture_append append = {0};
    const struct message message = {.topic = slice_str("t"), .topic_id = 1};
    const struct meta_op op = {.kind = META_PUT_AT, .key = slice_str("r"), .value = slice_str("x")};
    append.req.ops = &op;
    append.req.op_count = 1;
    assert_int_equal(fixture_submit(fixture, &append, &message, NULL, 0), 0);
    fixture_wait(fixture, &append.done);
    fixture_crash(fixture);
    fixture_open(fixture);
    uint64_t position = 0;
    assert_int_equal(meta_scan(fixture->meta, slice_str("r"), take_position, &position), 0);
    assert_int_equal(position, append.position);
}

static void sealed_entries_are_read_back(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.seal_entries = 100;
    fixture->config.tail_bytes = 1;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 300);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 2);
    fixture_append_many(fixture, 6, "n", 0, 200);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 3);
    fixture_check_queue(fixture, 5, "m", 0, 300);
    fixture_check_queue(fixture, 6, "n", 0, 200);
    fixture_crash(fixture);
    fixture_open(fixture);
    assert_true(fixture_stats(fixture).index_file_count > 0);
    fixture_check_queue(fixture, 5, "m", 0, 300);
    fixture_append_many(fixture, 5, "m", 300, 400);
    fixture_check_queue(fixture, 5, "m", 0, 400);
    fixture_check_queue(fixture, 6, "n", 0, 200);
}

static void many_index_files_become_few(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.seal_entries = 10;
    fixture_open(fixture);
    uint64_t count = 0;
    for (; metric_get(&fixture->metrics->store_seals) < 20; count += 10) {
        fixture_append_many(fixture, 5, "m", count, count + 10);
        assert_int_equal(loop_turn(fixture->loop, 1), 0);
        assert_true(count < 100000);
    }
    fixture_until(fixture, fixture_stats(fixture).index_file_count < 8);
    fixture_check_queue(fixture, 5, "m", 0, count);
    fixture_crash(fixture);
    fixture_open(fixture);
    assert_true(fixture_stats(fixture).index_file_count < 8);
    fixture_check_queue(fixture, 5, "m", 0, count);
    fixture_check_queue(fixture, 1, "m", 0, count);
}

/* Flips a bit in the middle of each file of a directory in turn. */
static void damage_files(const char *dir, const char *sub, const char *suffix)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, sub);
    const int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char **names = NULL;
    uint32_t count = 0;
    assert_int_equal(scan_names(dir_fd, &names, &count), 0);
    uint32_t damaged = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!strstr(names[i], suffix))
            continue;
        const int fd = openat(dir_fd, names[i], O_RDWR | O_CLOEXEC);
        uint8_t byte = 0;
        assert_int_equal(pread(fd, &byte, 1, 4100), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, 4100), 1);
        (void)close(fd);
        damaged++;
    }
    assert_true(damaged > 0);
    scan_names_free(names, count);
    (void)close(dir_fd);
}

static void a_damaged_index_is_rebuilt(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.seal_entries = 100;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 200);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 1);
    fixture_crash(fixture);
    damage_files(fixture->dir, "index", ".idx");
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 200);
    fixture_append_many(fixture, 5, "m", 200, 210);
    fixture_check_queue(fixture, 5, "m", 0, 210);
}

/* A rebuilt index is sealed as it grows, and merged files are as good as their parts. */
static void a_lost_index_is_rebuilt_in_files(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    append_big(fixture, 0, 40);
    fixture_close(fixture);
    fixture->config.seal_entries = 10;
    fixture_open(fixture);
    assert_true(fixture_stats(fixture).index_file_count >= 5);
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(next, 40);
    check_big(fixture, 0);
    append_big(fixture, 40, 2);
    fixture_crash(fixture);
    fixture_open(fixture);
    check_big(fixture, 0);
}

static void retention_frees_the_oldest(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.retention_bytes = 4 * 1024 * 1024;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    append_big(fixture, 0, 60);
    wait_trimmed(fixture, 4096);
    append_big(fixture, 60, 20);
    fixture_until(fixture, fixture_stats(fixture).segment_count <= 4);
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_true(first > 0 && first < 80);
    assert_int_equal(next, 80);
    check_big(fixture, 0);
    fixture_crash(fixture);
    fixture_open(fixture);
    uint64_t first_again = 0;
    store_queue_bounds(fixture->store, 5, &first_again, &next);
    assert_true(first_again >= first);
    assert_int_equal(next, 80);
    check_big(fixture, 0);
    struct fixture_read read = {.req = {.position = 4096}};
    assert_int_equal(fixture_read(fixture, &read), ERR_TRIMMED);
}

struct owner {
    uint32_t asked;
    uint64_t position;
};

static void on_trim(void *data, uint64_t position)
{
    struct owner *owner = data;
    owner->asked++;
    owner->position = position;
}

static void nothing_is_freed_before_the_owner_agrees(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.retention_bytes = 3 * 1024 * 1024;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    struct owner owner = {0};
    const struct store_watcher watcher = {.on_trim = on_trim, .data = &owner};
    fixture->store->ops->watch(fixture->store, &watcher);
    append_big(fixture, 0, 50);
    fixture_until(fixture, owner.asked > 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_turn(fixture->loop, 5), 0);
    assert_int_equal(owner.asked, 1);
    assert_true(fixture_stats(fixture).first_position < owner.position);
    const uint64_t position = owner.position;
    store_trim_go(fixture->store);
    wait_trimmed(fixture, position - 1);
    check_big(fixture, 0);
    fixture_close(fixture); /* the store asks its owner once more if it likes */
}

enum { QUEUES = 12000, QUEUES_IN_RECORD = 4000, QUEUE_FIRST = 100 };

static void check_all_gone(struct fixture *fixture)
{
    for (uint32_t id = QUEUE_FIRST; id < QUEUE_FIRST + QUEUES; id++) {
        uint64_t first = 0, next = 0;
        store_queue_bounds(fixture->store, id, &first, &next);
        assert_int_equal(first, 1);
        assert_int_equal(next, 1);
    }
}

/* More queues than are dealt with in one turn: all of them begin behind the trim, and go on. */
static void a_trim_moves_where_all_queues_begin(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.retention_bytes = 4 * 1024 * 1024;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    const struct message message = {.topic = slice_str("t"), .topic_id = 1};
    uint32_t ids[QUEUES_IN_RECORD];
    for (uint32_t from = 0; from < QUEUES; from += QUEUES_IN_RECORD) {
        for (uint32_t i = 0; i < QUEUES_IN_RECORD; i++)
            ids[i] = QUEUE_FIRST + from + i;
        struct fixture_append append = {0};
        assert_int_equal(fixture_submit(fixture, &append, &message, ids, QUEUES_IN_RECORD), 0);
        fixture_wait(fixture, &append.done);
        assert_int_equal(append.err, 0);
    }
    append_big(fixture, 0, 60);
    wait_trimmed(fixture, 4096);
    check_all_gone(fixture);
    struct fixture_append append = {0};
    assert_int_equal(fixture_submit(fixture, &append, &message, ids, QUEUES_IN_RECORD), 0);
    fixture_wait(fixture, &append.done);
    assert_int_equal(append.seqs[0], 1);
    fixture_crash(fixture);
    fixture->config.retention_bytes = 1024 * 1024 * 1024;
    fixture_open(fixture);
    for (uint32_t i = 0; i < QUEUES_IN_RECORD; i++) {
        uint64_t first = 0, next = 0;
        store_queue_bounds(fixture->store, ids[i], &first, &next);
        assert_int_equal(first, 1);
        assert_int_equal(next, 2);
    }
}

struct waiting_owner {
    uint64_t position; /* told by on_trim */
    uint32_t drained_count;
};

static void note_trim(void *data, uint64_t position)
{
    ((struct waiting_owner *)data)->position = position;
}

static void note_drained(void *data)
{
    ((struct waiting_owner *)data)->drained_count++;
}

/* The owner takes its time over what must live on: publishers are told to wait before the log is
 * larger than it may be, and to go on when old segments are free. */
static void publishers_wait_for_a_slow_trim(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t bytes_max = 8 * 1024 * 1024;
    fixture->config.retention_bytes = bytes_max;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    struct waiting_owner owner = {0};
    const struct store_watcher watcher = {
        .on_trim = note_trim, .on_drained = note_drained, .data = &owner};
    fixture->store->ops->watch(fixture->store, &watcher);
    uint64_t count = 0;
    for (; count < 200 && !store_pressure(fixture->store); count++)
        append_big(fixture, count, 1);
    assert_true(count > 40 && count < 200);
    assert_true(owner.position > 0);
    assert_true(fixture_stats(fixture).disk_bytes <= bytes_max);
    assert_int_equal(owner.drained_count, 0);
    store_trim_go(fixture->store);
    fixture_until(fixture, owner.drained_count > 0);
    assert_false(store_pressure(fixture->store));
    assert_true(fixture_stats(fixture).first_position >= owner.position);
    append_big(fixture, count, 5);
    check_big(fixture, 0);
}

/* A crash between giving segments up and freeing them: the next start frees them. */
static void a_trim_cut_short_is_finished(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    append_big(fixture, 0, 60);
    fixture_close(fixture);
    fixture->config.retention_bytes = 3 * 1024 * 1024;
    fixture_open(fixture);
    file_fail_at(FILE_OP_RENAME, 2, EIO, true); /* the first is the index file's */
    wait_trimmed(fixture, 4096);
    fixture_crash(fixture);
    file_fail_at(FILE_OP_RENAME, 0, 0, false);
    fixture->config.retention_bytes = 1024 * 1024 * 1024;
    fixture_open(fixture);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/log/%020d.log", fixture->dir, 1);
    assert_int_equal(access(path, F_OK), -1);
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_true(first > 0 && first < 60);
    assert_int_equal(next, 60);
    check_big(fixture, 0);
    append_big(fixture, 60, 5);
    check_big(fixture, 0);
}

static void ignore_line(void *data, const char *line)
{
    (void)data;
    (void)line;
}

/* The same, when the directory kept the freeing of a segment and lost that of an older one. */
static void segments_given_up_may_have_gaps(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    append_big(fixture, 0, 60);
    fixture_close(fixture);
    char before[64], name[128], kept[128];
    (void)snprintf(before, sizeof before, "%.50s-before", fixture->dir);
    fixture_copy_dir(fixture->dir, before);
    fixture->config.retention_bytes = 3 * 1024 * 1024;
    fixture_open(fixture);
    (void)snprintf(name, sizeof name, "%s/log/%020d.log", fixture->dir, 3);
    fixture_until(fixture, access(name, F_OK) != 0);
    fixture_close(fixture);
    (void)snprintf(name, sizeof name, "%s/log/%020d.log", fixture->dir, 1);
    (void)snprintf(kept, sizeof kept, "%s/log/%020d.log", before, 1);
    assert_int_equal(rename(kept, name), 0);
    fixture_remove_dir(AT_FDCWD, before);
    struct errmsg why = {0};
    assert_int_equal(local_check(fixture->dir, ignore_line, NULL, &why), 0);
    fixture_open(fixture);
    assert_int_equal(access(name, F_OK), -1);
    check_big(fixture, 0);
}

/* Each start ends the segment of the one before. A power cut that undoes it leaves a file with room
 * that holds nothing; the next start ends it again. */
static void room_of_ended_segments_is_given_back_again(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 3);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 3, 6);
    fixture_crash(fixture);
    char name[128];
    (void)snprintf(name, sizeof name, "%s/log/%020d.log", fixture->dir, 1);
    struct stat ended, again;
    assert_int_equal(stat(name, &ended), 0);
    assert_true(ended.st_size < (off_t)fixture->config.segment_size);
    assert_int_equal(truncate(name, (off_t)fixture->config.segment_size), 0);
    fixture_open(fixture);
    assert_int_equal(stat(name, &again), 0);
    assert_int_equal(again.st_size, ended.st_size);
    fixture_check_queue(fixture, 5, "m", 0, 6);
}

struct outlook {
    bool writable;
    char reason[128];
};

static void on_writable(void *data, bool writable, const char *reason)
{
    struct outlook *outlook = data;
    outlook->writable = writable;
    (void)snprintf(outlook->reason, sizeof outlook->reason, "%s", reason);
}

static void limit_files(rlim_t size)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* LMDB's file cannot grow: appends are refused with the reason, reads go on, and when it can grow
 * again the checkpoint is made up for. */
static void a_failed_checkpoint_stops_appends_for_a_while(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 20;
    fixture_open(fixture);
    struct outlook outlook = {.writable = true};
    const struct store_watcher watcher = {.on_writable = on_writable, .data = &outlook};
    fixture->store->ops->watch(fixture->store, &watcher);
    fixture_append_many(fixture, 5, "m", 0, 3);
    static char value[700001];
    memset(value, 'v', sizeof value - 1);
    (void)signal(SIGXFSZ, SIG_IGN);
    limit_files(1024 * 1024);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", value), 0);
    const int err = fixture_put_row(fixture, META_PUT, "b", value);
    assert_true(err == 0 || err == ERR_UNAVAILABLE);
    fixture_until(fixture, !outlook.writable);
    assert_non_null(strstr(outlook.reason, "checkpoint"));
    assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, NULL), ERR_UNAVAILABLE);
    assert_string_equal(fixture_stats(fixture).reason, outlook.reason);
    fixture_check_queue(fixture, 5, "m", 0, 3);
    limit_files(RLIM_INFINITY);
    fixture_until(fixture, outlook.writable);
    fixture_append_many(fixture, 5, "m", 3, 4);
    fixture_until(fixture,
                  fixture_stats(fixture).applied_position > fixture_stats(fixture).first_position);
    fixture_crash(fixture);
    fixture_open(fixture);
    uint32_t rows = 0;
    assert_int_equal(meta_scan(fixture->meta, slice_str("a"), count_row, &rows), 0);
    assert_int_equal(rows, 1);
    fixture_check_queue(fixture, 5, "m", 0, 4);
}

/* Writes 64 MiB of log, all of it changes of one row. */
static void put_large_rows(struct fixture *fixture)
{
    static char value[900001];
    memset(value, 'v', sizeof value - 1);
    for (int i = 0; i < 75; i++)
        assert_int_equal(fixture_put_row(fixture, META_PUT, "a", value), 0);
}

/* What has hardly a message in it is sealed early, so that no start reads it again. */
static void a_log_of_rows_is_sealed(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 3);
    put_large_rows(fixture);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 1);
    fixture_append_many(fixture, 5, "m", 3, 5);
    fixture_crash(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_stats(fixture).index_file_count, 1);
    fixture_check_queue(fixture, 5, "m", 0, 5);
}

static void a_log_with_messages_is_not_sealed_early(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 300);
    put_large_rows(fixture);
    fixture_append_many(fixture, 5, "m", 300, 301);
    assert_int_equal(metric_get(&fixture->metrics->store_seals), 0);
}

static void old_messages_go_by_time(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.retention_ms = 200;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 10);
    uint64_t deadline_ms = 0, first = 0, next = 0;
    while (first < 10) {
        assert_int_equal(fixture_append(fixture, "t/b", "later", 1, 0, NULL), 0);
        assert_true(fixture_turn(fixture, &deadline_ms));
        store_queue_bounds(fixture->store, 5, &first, &next);
    }
    fixture_check_queue(fixture, 5, "m", 10, 10);
    fixture_append_many(fixture, 5, "m", 10, 12);
    fixture_crash(fixture);
    fixture->config.retention_ms = 1000000;
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 10, 12);
}

static void a_dropped_queue_stays_away(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.seal_entries = 50;
    fixture->config.checkpoint_ms = 10;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 100);
    fixture_append_many(fixture, 6, "n", 0, 10);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 1);
    store_queue_drop(fixture->store, 5);
    uint64_t first = 1, next = 1;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(first + next, 0);
    fixture_append_many(fixture, 6, "n", 10, 20);
    fixture_crash(fixture);
    fixture_open(fixture);
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(first + next, 0);
    fixture_close(fixture);
    fixture_open(fixture);
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(first + next, 0);
    fixture_check_queue(fixture, 6, "n", 0, 20);
}

/* 1 MiB each, written in one step: due when four fifths of the segment are used. */
static void the_pool_is_filled_as_the_log_grows(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.pool_segments = 2;
    fixture_open(fixture);
    const struct local *local = CONTAINER_OF(fixture->store, struct local, store);
    fixture_until(fixture, pool_count(local->pool) == 2);
    for (uint64_t i = 0; i < 7; i++) {
        append_big(fixture, i, 1);
        assert_int_equal(pool_count(local->pool), 1);
        assert_false(local->filling);
    }
    append_big(fixture, 7, 2);
    fixture_until(fixture, pool_count(local->pool) == 2);
    assert_int_equal(metric_get(&fixture->metrics->store_segments), 1);
    check_big(fixture, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(checkpoint_holds_the_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lazy_rows_are_synced_before_their_checkpoint, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(put_at_holds_the_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sealed_entries_are_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_index_files_become_few, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_index_is_rebuilt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_index_is_rebuilt_in_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retention_frees_the_oldest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_freed_before_the_owner_agrees, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_trim_moves_where_all_queues_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(publishers_wait_for_a_slow_trim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trim_cut_short_is_finished, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_given_up_may_have_gaps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(room_of_ended_segments_is_given_back_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_failed_checkpoint_stops_appends_for_a_while, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_log_of_rows_is_sealed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_log_with_messages_is_not_sealed_early, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_messages_go_by_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dropped_queue_stays_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_pool_is_filled_as_the_log_grows, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
