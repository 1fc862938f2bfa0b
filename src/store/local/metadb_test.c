#include "store/local/local_fixture.h"

#include "store/local/metadb.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

struct db {
    char dir[64];
    struct metadb *db;
    struct metadb_state state;
};

static void reopen(struct db *db)
{
    db->db = metadb_close(db->db);
    struct errmsg why = {0};
    assert_int_equal(metadb_open(db->dir, &db->db, &db->state, &why), 0);
}

static int set_up(void **state)
{
    struct db *db = mem_new(sizeof *db);
    fixture_new_dir(db->dir);
    reopen(db);
    *state = db;
    return 0;
}

static int tear_down(void **state)
{
    struct db *db = *state;
    (void)metadb_close(db->db);
    fixture_remove_dir(AT_FDCWD, db->dir);
    mem_free(db);
    return 0;
}

/* Gives one row to the overlay as the log would. */
static void change(struct overlay *overlay, enum meta_kind kind, struct slice key,
                   struct slice value)
{
    static uint8_t bytes[256 * 1024] __attribute__((aligned(8)));
    const struct meta_op op = {.kind = kind, .key = key, .value = value};
    const struct store_append req = {.ops = &op, .op_count = 1};
    assert_true(record_size(&req) <= sizeof bytes);
    record_write(bytes, &req, 4096, 1);
    const struct record record = record_view(bytes, NULL);
    assert_int_equal(overlay_apply(overlay, &record), 0);
}

static void commit(struct db *db, struct overlay *overlay, uint64_t applied)
{
    struct overlay_row **rows = overlay_sorted(overlay);
    struct errmsg why = {0};
    assert_int_equal(metadb_commit(db->db, rows, overlay->rows.count, applied, &why), 0);
    mem_free(rows);
    overlay_clear(overlay);
}

enum { KEY_COUNT = 40, KEY_SIZE = 700 };

/* Keys that share their first 480 bytes, some shorter, some longer than that. */
static struct slice long_key(uint8_t bytes[KEY_SIZE], uint32_t n)
{
    memset(bytes, 'k', KEY_SIZE);
    const uint32_t size = n < 4 ? 478 + n : 482 + n * 5;
    bytes[size - 1] = (uint8_t)('a' + (n * 7) % 20);
    return slice_of(bytes, size);
}

struct walk {
    uint8_t last[KEY_SIZE];
    uint32_t last_size, count;
};

static int in_order(void *data, struct slice key, struct slice value)
{
    struct walk *walk = data;
    const int order = memcmp(walk->last, key.bytes, MIN(walk->last_size, key.size));
    assert_true(walk->count == 0 || order < 0 || (order == 0 && walk->last_size < key.size));
    memcpy(walk->last, key.bytes, key.size);
    walk->last_size = key.size;
    assert_int_equal(value.size, sizeof(uint32_t));
    uint32_t n = 0;
    memcpy(&n, value.bytes, sizeof n);
    uint8_t bytes[KEY_SIZE];
    assert_true(slice_equal(key, long_key(bytes, n)));
    walk->count++;
    return 0;
}

static void long_keys_keep_their_order(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    uint8_t bytes[KEY_SIZE];
    for (uint32_t n = 0; n < KEY_COUNT; n++)
        change(&overlay, META_PUT, long_key(bytes, n), slice_of(&n, sizeof n));
    commit(db, &overlay, 5000);
    reopen(db);
    assert_int_equal(db->state.applied, 5000);
    struct walk walk = {0};
    struct meta *meta = metadb_meta(db->db);
    assert_int_equal(meta_scan(meta, slice_str(""), in_order, &walk), 0);
    assert_int_equal(walk.count, KEY_COUNT);
    for (uint32_t n = 0; n < KEY_COUNT; n += 2)
        change(&overlay, META_DELETE, long_key(bytes, n), slice_str(""));
    commit(db, &overlay, 6000);
    walk = (struct walk){0};
    assert_int_equal(meta_scan(meta, slice_of(bytes, 490), in_order, &walk), 0);
    assert_true(walk.count > 0 && walk.count <= KEY_COUNT / 2);
    walk = (struct walk){0};
    assert_int_equal(meta_scan(meta, slice_str("k"), in_order, &walk), 0);
    assert_int_equal(walk.count, KEY_COUNT / 2);
    walk = (struct walk){0};
    assert_int_equal(meta_scan(meta, slice_str("l"), in_order, &walk), 0);
    assert_int_equal(walk.count, 0);
    overlay_clear(&overlay);
}

/* The descriptor over which LMDB writes the pages that make a transaction count. */
static int state_fd(void)
{
    for (int fd = 3; fd < 256; fd++) {
        char link[32], name[256];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t size = readlink(link, name, sizeof name - 1);
        if (size > 8 && memcmp(name + size - 8, "data.mdb", 8) == 0 &&
            (fcntl(fd, F_GETFL) & O_DSYNC))
            return fd;
    }
    return -1;
}

static int count_rows(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    ++*(int *)data;
    return 0;
}

/* LMDB gives up a database whose first pages could not be written. With a disk that works again the
 * next commit does, too. */
static void a_commit_works_after_one_that_failed(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    const uint32_t key = 1, value = 7;
    change(&overlay, META_PUT, slice_of(&key, sizeof key), slice_of(&value, sizeof value));
    const int fd = state_fd();
    assert_true(fd >= 0);
    const int nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(dup2(nowhere, fd), fd);
    (void)close(nowhere);
    struct overlay_row **rows = overlay_sorted(&overlay);
    struct errmsg why = {0};
    assert_true(metadb_commit(db->db, rows, overlay.rows.count, 5000, &why) < 0);
    mem_free(rows);
    commit(db, &overlay, 5000);
    assert_true(metadb_size(db->db) > 0);
    reopen(db);
    assert_int_equal(db->state.applied, 5000);
    int count = 0;
    assert_int_equal(meta_scan(metadb_meta(db->db), slice_str(""), count_rows, &count), 0);
    assert_int_equal(count, 1);
    overlay_clear(&overlay);
}

static int stop(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    ++*(int *)data;
    return -7;
}

static void a_scan_stops_when_told(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    change(&overlay, META_PUT, slice_str("a"), slice_str("1"));
    change(&overlay, META_PUT, slice_str("b"), slice_str("2"));
    commit(db, &overlay, 1);
    int count = 0;
    assert_int_equal(meta_scan(metadb_meta(db->db), slice_str(""), stop, &count), -7);
    assert_int_equal(count, 1);
    overlay_clear(&overlay);
}

/* The largest key and a large value, and a value that shrinks and grows. */
static void large_rows_come_back(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    uint8_t *key = mem_new(META_KEY_MAX);
    uint8_t *value = mem_new(100000);
    memset(key, 'x', META_KEY_MAX);
    change(&overlay, META_PUT, slice_of(key, META_KEY_MAX), slice_of(value, 100000));
    change(&overlay, META_PUT, slice_of(key, META_KEY_MAX), slice_of(value, 10));
    change(&overlay, META_PUT, slice_of(key, META_KEY_MAX), slice_of(value, 90000));
    assert_int_equal(overlay.rows.count, 1);
    commit(db, &overlay, 1);
    int count = 0;
    assert_int_equal(meta_scan(metadb_meta(db->db), slice_str(""), count_rows, &count), 0);
    assert_int_equal(count, 1);
    mem_free(key);
    mem_free(value);
    overlay_clear(&overlay);
}

struct queues {
    struct overlay_queue of[10];
    uint32_t count;
};

static void collect_queue(void *data, uint32_t queue_id, const struct overlay_queue *queue)
{
    struct queues *queues = data;
    assert_true(queue_id < 10);
    queues->of[queue_id] = *queue;
    queues->count++;
}

static void drop(struct overlay *overlay, uint32_t queue_id, uint64_t position)
{
    uint8_t bytes[RECORD_DROP_SIZE] __attribute__((aligned(8)));
    record_write_drop(bytes, queue_id, position, 1);
    const struct record record = record_view(bytes, NULL);
    assert_int_equal(overlay_apply(overlay, &record), 0);
}

/* Where queues begin is kept; a dropped queue is not brought back by it, and is forgotten in the
 * end. */
static void a_trim_keeps_where_queues_begin(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    drop(&overlay, 3, 7000);
    commit(db, &overlay, 8000);
    const struct metadb_base bases[] = {{1, 10}, {2, 20}, {3, 30}, {1, 15}};
    struct errmsg why = {0};
    assert_int_equal(metadb_trim(db->db, bases, ARRAY_COUNT(bases), 6000, 5000, &why), 0);
    reopen(db);
    assert_int_equal(db->state.applied, 8000);
    assert_int_equal(db->state.trimmed, 6000);
    struct queues queues = {0};
    assert_int_equal(metadb_queues(db->db, collect_queue, &queues), 0);
    assert_int_equal(queues.count, 3);
    assert_int_equal(queues.of[1].first_seq, 15);
    assert_int_equal(queues.of[2].first_seq, 20);
    assert_int_equal(queues.of[3].dropped_at, 7000);
    assert_int_equal(metadb_trim(db->db, bases, 0, 8000, 7500, &why), 0);
    queues = (struct queues){0};
    assert_int_equal(metadb_queues(db->db, collect_queue, &queues), 0);
    assert_int_equal(queues.count, 2);
    overlay_clear(&overlay);
}

/* Rows written ahead of a checkpoint are there, and do not move the position it is complete to. */
static void rows_may_be_written_ahead(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    change(&overlay, META_PUT, slice_str("a"), slice_str("old"));
    commit(db, &overlay, 1000);
    change(&overlay, META_PUT, slice_str("a"), slice_str("new"));
    change(&overlay, META_PUT, slice_str("b"), slice_str("new"));
    struct overlay_row **rows = overlay_sorted(&overlay);
    struct errmsg why = {0};
    assert_int_equal(metadb_prepare(db->db, rows, 1, &why), 0);
    reopen(db);
    assert_int_equal(db->state.applied, 1000);
    char text[1000] = "";
    assert_int_equal(meta_scan(metadb_meta(db->db), slice_str(""), fixture_collect_row, text), 0);
    assert_string_equal(text, "a=new;");
    assert_int_equal(metadb_commit(db->db, rows + 1, 1, 2000, &why), 0);
    reopen(db);
    assert_int_equal(db->state.applied, 2000);
    mem_free(rows);
    overlay_clear(&overlay);
}

/* A row keeps its latest value whatever came before it, and a chunk is not given up for one that
 * needs a chunk of its own. */
static void rows_of_all_sizes_share_an_overlay(void **state)
{
    struct db *db = *state;
    struct overlay overlay;
    overlay_init(&overlay);
    enum { ROWS = 3000, LARGE = 200000 };
    uint8_t *value = mem_new(LARGE);
    for (uint32_t turn = 0; turn < 2; turn++) {
        for (uint32_t n = 0; n < ROWS; n++) {
            const uint32_t key = htonl(n);
            const uint32_t size = n % 500 == 0 ? LARGE - n : n % 90 * (turn + 1);
            memset(value, (int)(n + turn), size);
            change(&overlay, META_PUT, slice_of(&key, sizeof key), slice_of(value, size));
        }
    }
    assert_int_equal(overlay.rows.count, ROWS);
    assert_true(overlay.bytes < 6 * (LARGE + 4096) + ROWS * (32 + 4 + 300));
    struct overlay_row **rows = overlay_sorted(&overlay);
    for (uint32_t n = 0; n < ROWS; n++) {
        const struct slice bytes = overlay_value(rows[n]);
        assert_int_equal(bytes.size, n % 500 == 0 ? LARGE - n : n % 90 * 2);
        if (bytes.size) {
            assert_int_equal(bytes.bytes[0], (uint8_t)(n + 1));
            assert_int_equal(bytes.bytes[bytes.size - 1], (uint8_t)(n + 1));
        }
    }
    mem_free(rows);
    commit(db, &overlay, 1);
    assert_int_equal(overlay.bytes, 0);
    mem_free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(long_keys_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_commit_works_after_one_that_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_stops_when_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_rows_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trim_keeps_where_queues_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_may_be_written_ahead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_of_all_sizes_share_an_overlay, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
