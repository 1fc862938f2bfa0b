/* Damage on disk, bit by bit and cut by cut: it is told from the torn end of a crash, and what is
 * served is never wrong.
 */
#include "store/local/local_fixture.h"

#include "store/local/record.h"

enum { MESSAGES = 8 };

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

static int open_log(struct fixture *fixture, uint64_t number)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/log/%020" PRIu64 ".log", fixture->dir, number);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Fills segment 1 and leaves it as a crash would; returns the position behind each message. */
static void fill(struct fixture *fixture, uint64_t ends[MESSAGES])
{
    fixture_open(fixture);
    for (uint64_t i = 0; i < MESSAGES; i++) {
        char payload[16];
        (void)snprintf(payload, sizeof payload, "m%" PRIu64, i);
        assert_int_equal(fixture_append(fixture, "t", payload, 1, 5, NULL), 0);
        ends[i] = fixture_stats(fixture).head_position;
    }
    fixture_crash(fixture);
}

static uint64_t count_messages(struct fixture *fixture)
{
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    return next - first;
}

/* The log cut anywhere behind the header comes back with what is whole in front of the cut. */
static void a_torn_end_is_cut_off_at_every_byte(void **state)
{
    struct fixture *fixture = *state;
    uint64_t ends[MESSAGES];
    fill(fixture, ends);
    char kept[64], work[64];
    (void)snprintf(kept, sizeof kept, "%s", fixture->dir);
    (void)snprintf(work, sizeof work, "%.50s-cut", fixture->dir);
    for (uint64_t cut = ends[MESSAGES - 2]; cut <= ends[MESSAGES - 1]; cut++) {
        fixture_copy_dir(kept, work);
        (void)snprintf(fixture->dir, sizeof fixture->dir, "%s", work);
        const int fd = open_log(fixture, 1);
        assert_int_equal(ftruncate(fd, (off_t)cut), 0); /* the first position is the offset too */
        (void)close(fd);
        fixture_open(fixture);
        const uint64_t whole = cut == ends[MESSAGES - 1] ? MESSAGES : MESSAGES - 1;
        fixture_check_queue(fixture, 5, "m", 0, whole);
        fixture_close(fixture);
        fixture_remove_dir(AT_FDCWD, work);
    }
    (void)snprintf(fixture->dir, sizeof fixture->dir, "%s", kept);
}

static void flip(struct fixture *fixture, uint64_t number, uint64_t offset, int bit)
{
    const int fd = open_log(fixture, number);
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    (void)close(fd);
}

/* A bit flipped in front of records that were written after a sync refuses the start; in the last
 * record it looks like a torn write. */
static void a_flipped_bit_is_damage_or_a_torn_end(void **state)
{
    struct fixture *fixture = *state;
    uint64_t ends[MESSAGES];
    fill(fixture, ends);
    for (uint64_t offset = 4096; offset < ends[MESSAGES - 1]; offset += 3) {
        flip(fixture, 1, offset, (int)(offset % 8));
        char copy[64], kept[64];
        (void)snprintf(kept, sizeof kept, "%s", fixture->dir);
        (void)snprintf(copy, sizeof copy, "%.50s-bit", fixture->dir);
        fixture_copy_dir(fixture->dir, copy);
        (void)snprintf(fixture->dir, sizeof fixture->dir, "%s", copy);
        const int err = fixture_try_open(fixture);
        if (offset < ends[MESSAGES - 2]) {
            assert_int_equal(err, ERR_CORRUPT);
            assert_non_null(strstr(fixture->why.text, "tidemq store check"));
            assert_non_null(strstr(fixture->why.text, "00000000000000000001.log' at offset"));
            fixture->store = NULL;
        } else {
            assert_int_equal(err, 0);
            assert_int_equal(count_messages(fixture), MESSAGES - 1);
            fixture_check_queue(fixture, 5, "m", 0, MESSAGES - 1);
        }
        fixture_close(fixture);
        fixture_remove_dir(AT_FDCWD, copy);
        (void)snprintf(fixture->dir, sizeof fixture->dir, "%s", kept);
        flip(fixture, 1, offset, (int)(offset % 8));
    }
}

/* After an orderly stop even the last record is known to have been durable. */
static void damage_at_the_end_shows_after_an_orderly_stop(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 3);
    const uint64_t end = fixture_stats(fixture).head_position;
    fixture_close(fixture);
    const int fd = open_log(fixture, 1);
    assert_int_equal(ftruncate(fd, (off_t)(end - 8)), 0);
    (void)close(fd);
    assert_int_equal(fixture_try_open(fixture), ERR_CORRUPT);
    fixture->store = NULL;
}

/* A record damaged while the server runs is never served. */
static void a_damaged_record_is_not_served(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    uint64_t position = 0;
    assert_int_equal(fixture_append(fixture, "t", "first", 1, 5, NULL), 0);
    assert_int_equal(fixture_append(fixture, "t", "second", 1, 5, &position), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    flip(fixture, 1, position + 90, 3);
    struct fixture_read read = {.req = {.queue_id = 5}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 1);
    store_release(fixture->store, &read.req);
    read = (struct fixture_read){.req = {.queue_id = 5, .from_seq = 1}};
    assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
    read = (struct fixture_read){.req = {.position = position}};
    assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
}

static void a_missing_segment_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    for (int i = 0; i < 3; i++) {
        fixture_append_many(fixture, 5, "m", (uint64_t)i, (uint64_t)i + 1);
        fixture_crash(fixture); /* each start begins a new segment */
        fixture_open(fixture);
    }
    fixture_close(fixture);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/log/%020d.log", fixture->dir, 2);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fixture_try_open(fixture), ERR_CORRUPT);
    assert_non_null(strstr(fixture->why.text, "missing"));
    fixture->store = NULL;
}

/* What a crash left of records that nobody acknowledged must not come back once their segment's
 * file is used again, at the same positions, and lengths happen to agree. */
static void unacknowledged_records_of_a_start_before_stay_dead(void **state)
{
    struct fixture *fixture = *state;
    /* The record fills two pages, so that what lies behind it is not written over. */
    static char payload[8192 - sizeof(struct record_header) - 4 - 3 - 6 + 1];
    memset(payload, 'x', sizeof payload - 1);
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 1);
    fixture_crash(fixture);
    fixture_open(fixture);
    const uint64_t base = fixture_stats(fixture).head_position;
    assert_int_equal(fixture_append(fixture, "t/a", payload, 1, 5, NULL), 0);
    const uint64_t second = fixture_stats(fixture).head_position;
    assert_int_equal(fixture_append(fixture, "t/a", payload, 1, 5, NULL), 0);
    fixture_crash(fixture);
    /* As if both had been under way together: the first torn, the second whole and not durable. */
    const int fd = open_log(fixture, 2);
    static uint8_t record[8192] __attribute__((aligned(8)));
    const uint64_t offset = 4096 + (second - base);
    assert_int_equal(pread(fd, record, sizeof record, (off_t)offset), sizeof record);
    record_seal(record, base);
    assert_int_equal(pwrite(fd, record, sizeof record, (off_t)offset), sizeof record);
    assert_int_equal(pwrite(fd, "torn", 4, 4096 + 80), 4);
    (void)close(fd);
    fixture->config.pool_segments = 1;
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 1);
    assert_int_equal(fixture_append(fixture, "t/a", payload, 1, 5, NULL), 0);
    fixture_crash(fixture);
    fixture_open(fixture);
    assert_int_equal(count_messages(fixture), 2);
}

/* --- store check --------------------------------------------------------------------------- */

static void collect_line(void *data, const char *line)
{
    char *text = data;
    const size_t size = strlen(text);
    (void)snprintf(text + size, 2000 - size, "%s\n", line);
}

static int check(struct fixture *fixture, char text[2000])
{
    struct errmsg why = {0};
    text[0] = '\0';
    return local_check(fixture->dir, collect_line, text, &why);
}

static void check_tells_sound_from_damaged(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.seal_entries = 10;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 50);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "k", "v"), 0);
    fixture_wait_metric(fixture, &fixture->metrics->store_seals, 1);
    char text[2000];
    assert_true(check(fixture, text) < 0); /* in use */
    fixture_close(fixture);
    assert_int_equal(check(fixture, text), 0);
    assert_non_null(strstr(text, "51 records"));
    assert_non_null(strstr(text, "1 rows"));
    assert_non_null(strstr(text, "all is sound"));
    flip(fixture, 1, 4096 + 500, 1);
    assert_int_equal(check(fixture, text), ERR_CORRUPT);
    assert_non_null(strstr(text, "00000000000000000001.log' at offset"));
    flip(fixture, 1, 4096 + 500, 1);
    assert_int_equal(check(fixture, text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_torn_end_is_cut_off_at_every_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_damage_or_a_torn_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_at_the_end_shows_after_an_orderly_stop, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_record_is_not_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_segment_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unacknowledged_records_of_a_start_before_stay_dead, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(check_tells_sound_from_damaged, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
