/* `store repair`: it says what it will do, does nothing unless told to, and afterwards everything
 * is there that was not damaged, under numbers that make no cursor skip it. */
#include "store/local/local_fixture.h"

#include "store/local/segment.h"

#include <errno.h>

enum { TEXT_MAX = 8000, HIT = 5, QUIET = 7, OTHER = 9 };

struct bed {
    struct fixture *fixture;
    char text[TEXT_MAX];
    bool go;
    struct errmsg why;
};

static int set_up(void **state)
{
    struct bed *bed = mem_new(sizeof *bed);
    bed->fixture = fixture_new();
    *state = bed;
    return 0;
}

/* Removes what repairs have set aside; there must be something. */
static void remove_kept(struct bed *bed)
{
    const int fd = open(bed->fixture->dir, O_RDONLY | O_DIRECTORY);
    char **names = NULL;
    uint32_t count = 0, kept = 0;
    assert_int_equal(scan_names(fd, &names, &count), 0);
    for (uint32_t i = 0; i < count; i++) {
        if (strncmp(names[i], "damaged-", 8) == 0) {
            fixture_remove_dir(fd, names[i]);
            kept++;
        }
    }
    scan_names_free(names, count);
    (void)close(fd);
    assert_true(kept > 0);
}

static int tear_down(void **state)
{
    struct bed *bed = *state;
    fixture_free(bed->fixture);
    mem_free(bed);
    return 0;
}

static void on_line(void *data, const char *line)
{
    struct bed *bed = data;
    const size_t size = strlen(bed->text);
    (void)snprintf(bed->text + size, TEXT_MAX - size, "%s\n", line);
}

static bool on_go(void *data)
{
    return ((struct bed *)data)->go;
}

static int repair(struct bed *bed, bool go)
{
    const struct local_repair how = {
        .dir = bed->fixture->dir, .report = on_line, .go = on_go, .data = bed};
    bed->text[0] = '\0';
    bed->go = go;
    bed->why = (struct errmsg){0};
    return local_repair(&how, &bed->why);
}

static int check(struct bed *bed)
{
    bed->text[0] = '\0';
    return local_check(bed->fixture->dir, on_line, bed, &bed->why);
}

static int open_file(const struct bed *bed, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", bed->fixture->dir, name);
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static void flip(const struct bed *bed, const char *name, uint64_t offset)
{
    const int fd = open_file(bed, name);
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    (void)close(fd);
}

/* A crash; the copy that stands for the disk has no lock file. */
static void crash(struct bed *bed)
{
    char path[160];
    fixture_crash(bed->fixture);
    (void)snprintf(path, sizeof path, "%s/lock", bed->fixture->dir);
    (void)close(open(path, O_RDWR | O_CREAT, 0640));
}

/* Declines, agrees, checks. */
static void mend(struct bed *bed)
{
    assert_int_equal(check(bed), ERR_CORRUPT);
    assert_int_equal(repair(bed, false), ERR_CORRUPT);
    assert_int_equal(check(bed), ERR_CORRUPT);
    const int err = repair(bed, true);
    if (err < 0)
        print_error("%s%s\n", bed->text, bed->why.text);
    assert_int_equal(err, 0);
    remove_kept(bed);
    assert_int_equal(check(bed), 0);
}

/* Reads all of a queue from `from` on; numbers and payloads go to `seen`, "6:m6 7:m7 ". */
static void read_all(struct bed *bed, uint32_t queue_id, uint64_t from, char seen[TEXT_MAX])
{
    uint64_t first = 0, next = 0;
    store_queue_bounds(bed->fixture->store, queue_id, &first, &next);
    size_t size = 0;
    seen[0] = '\0';
    while (from < next) {
        struct fixture_read read = {.req = {.queue_id = queue_id, .from_seq = from}};
        assert_int_equal(fixture_read(bed->fixture, &read), 0);
        const uint64_t before = from;
        for (uint16_t i = 0; i < read.req.entry_count; i++) {
            const struct store_entry *entry = &read.req.entries[i];
            assert_true(entry->seq >= from);
            from = entry->seq + 1;
            size += (size_t)snprintf(
                seen + size, TEXT_MAX - size, "%llu:%.*s ", (unsigned long long)entry->seq,
                (int)entry->message.payload.size, (const char *)entry->message.payload.bytes);
        }
        from = MAX(from, read.req.lost_until);
        store_release(bed->fixture->store, &read.req);
        assert_true(from > before); /* or a reader would wait for ever */
    }
    assert_int_equal(from, next);
}

/* Three queues: 20 messages in turn to two of them, 3 to one that then stays quiet. */
static void fill(struct bed *bed, uint64_t positions[20])
{
    char payload[16];
    for (int i = 0; i < 3; i++)
        assert_int_equal(fixture_append(bed->fixture, "q", "quiet", 1, QUIET, NULL), 0);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(payload, sizeof payload, "m%d", i);
        const uint32_t queue_id = i % 2 ? OTHER : HIT;
        assert_int_equal(fixture_append(bed->fixture, "t/a", payload, 1, queue_id, &positions[i]),
                         0);
    }
}

static void what_is_sound_is_left_alone(void **state)
{
    struct bed *bed = *state;
    fixture_open(bed->fixture);
    assert_true(repair(bed, true) < 0);
    assert_non_null(strstr(bed->why.text, "stop the server first"));
    fixture_append_many(bed->fixture, HIT, "m", 0, 5);
    fixture_close(bed->fixture);
    assert_int_equal(repair(bed, true), 0);
    assert_non_null(strstr(bed->text, "nothing to repair"));
    const struct local_repair how = {
        .dir = "/nonexistent", .report = on_line, .go = on_go, .data = bed};
    assert_int_equal(local_repair(&how, &bed->why), -ENOENT);
}

static void a_record_that_the_index_covers_is_counted(void **state)
{
    struct bed *bed = *state;
    bed->fixture->config.seal_entries = 10;
    fixture_open(bed->fixture);
    fixture_append_many(bed->fixture, HIT, "m", 0, 50);
    fixture_wait_metric(bed->fixture, &bed->fixture->metrics->store_seals, 2);
    struct fixture_read read = {.req = {.queue_id = HIT, .from_seq = 4}};
    assert_int_equal(fixture_read(bed->fixture, &read), 0);
    const uint64_t position = read.req.entries[0].message.position;
    store_release(bed->fixture->store, &read.req);
    fixture_close(bed->fixture);
    flip(bed, "log/00000000000000000001.log", position + 80);
    mend(bed);
    fixture_open(bed->fixture);
    char seen[TEXT_MAX];
    read_all(bed, HIT, 0, seen);
    assert_non_null(strstr(seen, "3:m3 5:m5 "));
    assert_non_null(strstr(seen, "49:m49"));
    assert_null(strstr(seen, "m4 "));
    read_all(bed, HIT, 4, seen);
    assert_memory_equal(seen, "5:m5 ", 5);
    struct fixture_read one = {.req = {.position = position}};
    assert_int_equal(fixture_read(bed->fixture, &one), ERR_TRIMMED);
}

/* The index does not cover it: every queue leaves out one number, and keeps that. */
static void a_record_of_unknown_queues_makes_no_cursor_skip(void **state)
{
    struct bed *bed = *state;
    uint64_t positions[20];
    fixture_open(bed->fixture);
    fill(bed, positions);
    crash(bed);
    flip(bed, "log/00000000000000000001.log", positions[8] + 75); /* the fifth of its queue */
    mend(bed);
    char seen[TEXT_MAX];
    for (int round = 0; round < 3; round++) {
        fixture_open(bed->fixture);
        read_all(bed, HIT, 0, seen);
        assert_string_equal(seen, "0:m0 1:m2 2:m4 3:m6 5:m10 6:m12 7:m14 8:m16 9:m18 ");
        read_all(bed, OTHER, 0, seen);
        assert_string_equal(seen, "0:m1 1:m3 2:m5 3:m7 5:m9 6:m11 7:m13 8:m15 9:m17 10:m19 ");
        uint64_t first = 0, next = 0;
        store_queue_bounds(bed->fixture->store, QUIET, &first, &next);
        assert_int_equal(next, 4);
        read_all(bed, QUIET, 3, seen);
        assert_string_equal(seen, "");
        fixture_crash(bed->fixture);
    }
    fixture_open(bed->fixture);
    assert_int_equal(fixture_append(bed->fixture, "q", "new", 1, QUIET, NULL), 0);
    assert_int_equal(fixture_append(bed->fixture, "q", "new", 1, 77, NULL), 0);
    fixture_crash(bed->fixture);
    fixture_open(bed->fixture);
    read_all(bed, QUIET, 3, seen);
    assert_string_equal(seen, "4:new ");
    read_all(bed, 77, 0, seen);
    assert_string_equal(seen, "0:new ");
}

/* Several starts, so several segments. */
static void fill_segments(struct bed *bed)
{
    for (uint64_t i = 0; i < 3; i++) {
        fixture_open(bed->fixture);
        fixture_append_many(bed->fixture, HIT, "m", i * 5, i * 5 + 5);
        assert_int_equal(fixture_put_row(bed->fixture, META_PUT, i % 2 ? "b" : "a", "value"), 0);
        fixture_crash(bed->fixture);
    }
    fixture_open(bed->fixture);
    fixture_close(bed->fixture);
}

static void a_header_is_learnt_from_the_records(void **state)
{
    struct bed *bed = *state;
    fill_segments(bed);
    flip(bed, "log/00000000000000000002.log", 20);
    mend(bed);
    fixture_open(bed->fixture);
    fixture_check_rows(bed->fixture, "", "a=value;b=value;");
    fixture_check_queue(bed->fixture, HIT, "m", 0, 15);
}

static void files_that_changed_places_are_put_back(void **state)
{
    struct bed *bed = *state;
    fill_segments(bed);
    const char *names[] = {"/log/00000000000000000001.log", "/log/x",
                           "/log/00000000000000000002.log"};
    char paths[3][160];
    for (int i = 0; i < 3; i++)
        (void)snprintf(paths[i], sizeof paths[i], "%s%s", bed->fixture->dir, names[i]);
    assert_int_equal(rename(paths[0], paths[1]), 0);
    assert_int_equal(rename(paths[2], paths[0]), 0);
    assert_int_equal(rename(paths[1], paths[2]), 0);
    mend(bed);
    fixture_open(bed->fixture);
    fixture_check_queue(bed->fixture, HIT, "m", 0, 15);
}

static void a_missing_segment_takes_its_messages_only(void **state)
{
    struct bed *bed = *state;
    fill_segments(bed);
    char path[160], seen[TEXT_MAX];
    (void)snprintf(path, sizeof path, "%s/log/00000000000000000002.log", bed->fixture->dir);
    assert_int_equal(unlink(path), 0);
    mend(bed);
    fixture_open(bed->fixture);
    read_all(bed, HIT, 0, seen);
    assert_non_null(strstr(seen, "4:m4 "));
    assert_non_null(strstr(seen, ":m10 "));
    assert_null(strstr(seen, ":m7 "));
    fixture_close(bed->fixture);
    (void)snprintf(path, sizeof path, "%s/log/00000000000000000003.log", bed->fixture->dir);
    fixture_open(bed->fixture);
    fixture_append_many(bed->fixture, HIT, "m", 15, 18);
    fixture_close(bed->fixture);
    assert_int_equal(check(bed), 0);
}

/* The newest checkpoint is damaged, in every page of it, one at a time. */
static void rows_come_from_the_log_or_the_checkpoint_before(void **state)
{
    struct bed *bed = *state;
    fill_segments(bed);
    char path[160], copy[64], kept[64];
    (void)snprintf(path, sizeof path, "%s/meta/data.mdb", bed->fixture->dir);
    (void)snprintf(kept, sizeof kept, "%s", bed->fixture->dir);
    (void)snprintf(copy, sizeof copy, "%.50s-page", kept);
    const int fd = open(path, O_RDONLY);
    const off_t size = lseek(fd, 0, SEEK_END);
    (void)close(fd);
    uint32_t mended = 0;
    for (off_t at = 0; at < size; at += 4096) {
        fixture_copy_dir(kept, copy);
        (void)snprintf(bed->fixture->dir, sizeof bed->fixture->dir, "%s", copy);
        (void)close(open_file(bed, "log/00000000000000000001.log"));
        const char zeros[4096] = "";
        const int data = open_file(bed, "meta/data.mdb");
        assert_int_equal(pwrite(data, zeros, sizeof zeros, at), sizeof zeros);
        (void)close(data);
        (void)snprintf(path, sizeof path, "%s/lock", copy);
        (void)close(open(path, O_RDWR | O_CREAT, 0640));
        if (check(bed) == ERR_CORRUPT) {
            mend(bed);
            mended++;
        }
        fixture_open(bed->fixture);
        fixture_check_rows(bed->fixture, "", "a=value;b=value;");
        fixture_check_queue(bed->fixture, HIT, "m", 0, 15);
        fixture_close(bed->fixture);
        fixture_remove_dir(AT_FDCWD, copy);
    }
    (void)snprintf(bed->fixture->dir, sizeof bed->fixture->dir, "%s", kept);
    assert_true(mended >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_sound_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_the_index_covers_is_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_record_of_unknown_queues_makes_no_cursor_skip, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_header_is_learnt_from_the_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_changed_places_are_put_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_segment_takes_its_messages_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(rows_come_from_the_log_or_the_checkpoint_before, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
