/* The index in memory and in files, against a plain model. */
#include "store/local/local_fixture.h"

#include "store/local/sealed.h"

#include <errno.h>

enum { QUEUES = 400, ENTRIES = 30000, STEP = 64 };

struct model {
    uint64_t *positions[QUEUES];
    uint64_t counts[QUEUES];
};

struct world {
    char dir[64];
    int dir_fd;
    struct qindex index;
    struct model model;
    uint64_t head;
    uint32_t seed;
};

static int set_up(void **state)
{
    struct world *world = mem_new(sizeof *world);
    fixture_new_dir(world->dir);
    world->dir_fd = open(world->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    world->head = 4096;
    world->seed = 1;
    qindex_init(&world->index, world->head);
    for (uint32_t i = 0; i < QUEUES; i++)
        world->model.positions[i] = mem_new(ENTRIES * sizeof(uint64_t));
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    qindex_done(&world->index);
    for (uint32_t i = 0; i < QUEUES; i++)
        mem_free(world->model.positions[i]);
    (void)close(world->dir_fd);
    fixture_remove_dir(AT_FDCWD, world->dir);
    mem_free(world);
    return 0;
}

static uint32_t any(struct world *world, uint32_t below)
{
    world->seed = world->seed * 1664525 + 1013904223;
    return (world->seed >> 8) % below;
}

/* Few queues get most of the entries. */
static void add_entries(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t n = any(world, 4) ? any(world, 5) : any(world, QUEUES);
        struct model *model = &world->model;
        assert_int_equal(qindex_add(&world->index, n + 1, world->head, STEP), model->counts[n]);
        model->positions[n][model->counts[n]++] = world->head;
        world->head += STEP;
    }
}

static void check_memory(const struct world *world)
{
    const struct model *model = &world->model;
    for (uint32_t n = 0; n < QUEUES; n++) {
        const struct queue *queue = qindex_find(&world->index, n + 1);
        assert_int_equal(queue ? queue->next_seq : 0, model->counts[n]);
        if (!queue)
            continue;
        uint64_t seq = qindex_memory_first(&world->index, queue);
        while (seq < queue->next_seq) {
            struct qplace places[50];
            const uint32_t count = qindex_read(&world->index, queue, seq, places, 50);
            assert_true(count > 0);
            for (uint32_t i = 0; i < count; i++, seq++) {
                assert_int_equal(places[i].position, model->positions[n][seq]);
                assert_int_equal(places[i].size, STEP);
            }
        }
    }
}

/* Every entry that `set` covers is found in it, from a hint that may be wrong. */
static void check_files(const struct world *world, const struct sealed_set *set)
{
    const struct model *model = &world->model;
    const uint64_t end = set->items[set->count - 1]->end;
    for (uint32_t n = 0; n < QUEUES; n++) {
        uint32_t hint = n % 3;
        for (uint64_t seq = 0; seq < model->counts[n] && model->positions[n][seq] < end;) {
            struct qplace places[64];
            const int count = sealed_set_read(set, n + 1, seq, &hint, places, 64);
            assert_true(count > 0);
            for (int i = 0; i < count; i++, seq++)
                assert_int_equal(places[i].position, model->positions[n][seq]);
        }
    }
    uint32_t hint = 0;
    struct qplace place;
    assert_int_equal(sealed_set_read(set, QUEUES + 5, 0, &hint, &place, 1), 0);
}

static void sealing_and_merging_lose_nothing(void **state)
{
    struct world *world = *state;
    struct sealed_file *files[4];
    for (uint32_t i = 0; i < ARRAY_COUNT(files); i++) {
        add_entries(world, 5000);
        qindex_freeze(&world->index, world->head);
        add_entries(world, 700);
        check_memory(world);
        assert_int_equal(sealed_write(world->dir_fd, &world->index.frozen, &files[i]), 0);
        qindex_thaw(&world->index);
        check_memory(world);
    }
    struct sealed_set *set = sealed_set_new(files, ARRAY_COUNT(files));
    check_files(world, set);
    struct sealed_file *merged = NULL;
    assert_int_equal(sealed_merge(world->dir_fd, files, ARRAY_COUNT(files), &merged), 0);
    struct sealed_set *one = sealed_set_new(&merged, 1);
    assert_int_equal(merged->start, files[0]->start);
    assert_int_equal(merged->end, files[3]->end);
    check_files(world, one);
    assert_int_equal(sealed_check(merged, NULL), 0);
    (void)sealed_set_unref(one);
    (void)sealed_set_unref(set);
    (void)sealed_unref(merged);
    for (uint32_t i = 0; i < ARRAY_COUNT(files); i++)
        (void)sealed_unref(files[i]);
}

static void a_search_finds_the_first_entry_kept(void **state)
{
    struct world *world = *state;
    add_entries(world, 3000);
    qindex_freeze(&world->index, world->head);
    struct sealed_file *file = NULL;
    assert_int_equal(sealed_write(world->dir_fd, &world->index.frozen, &file), 0);
    struct sealed_queue queue;
    assert_int_equal(sealed_find(file, 2, &queue), 1);
    assert_int_equal(queue.count, world->model.counts[1]);
    uint64_t expected = 0;
    struct sealed_cursor cursor = {0};
    for (uint64_t position = 4096; position < world->head; position += 800) {
        while (expected < queue.count && world->model.positions[1][expected] < position)
            expected++;
        uint32_t n = 0;
        assert_int_equal(sealed_search(file, &queue, position, &cursor, &n), 0);
        assert_int_equal(n, expected);
    }
    (void)sealed_unref(file);
}

static void a_stretch_without_entries_has_a_file_too(void **state)
{
    struct world *world = *state;
    qindex_freeze(&world->index, world->head + 80);
    struct sealed_file *file = NULL;
    assert_int_equal(sealed_write(world->dir_fd, &world->index.frozen, &file), 0);
    struct sealed_queue queue;
    assert_int_equal(sealed_find(file, 1, &queue), 0);
    assert_int_equal(file->end, world->head + 80);
    (void)sealed_unref(file);
}

/* Cut at any block, or with any block's bit flipped, a file is refused before it is used. */
static void damaged_files_are_refused(void **state)
{
    struct world *world = *state;
    add_entries(world, 2000);
    qindex_freeze(&world->index, world->head);
    struct sealed_file *file = NULL;
    assert_int_equal(sealed_write(world->dir_fd, &world->index.frozen, &file), 0);
    const uint64_t size = file->size;
    char name[SEALED_NAME_SIZE];
    sealed_name(file->start, file->end, name);
    uint8_t *bytes = mem_new(size);
    assert_int_equal(file_pread_all(file->fd, bytes, size, 0), 0);
    (void)sealed_unref(file);
    const int fd = openat(world->dir_fd, name, O_RDWR | O_CLOEXEC);
    for (uint64_t at = 0; at < size; at += 509) {
        bytes[at] ^= 1;
        assert_int_equal(pwrite(fd, bytes, size, 0), (ssize_t)size);
        struct errmsg why = {0};
        const int err = sealed_open(world->dir_fd, name, NULL, NULL, &file, &why);
        if (err == 0) { /* entries are checked when they are read */
            assert_int_equal(sealed_check(file, &why), ERR_CORRUPT);
            (void)sealed_unref(file);
        } else {
            assert_int_equal(err, ERR_CORRUPT);
        }
        bytes[at] ^= 1;
    }
    for (uint64_t cut = 0; cut < size; cut += 1000) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        assert_int_equal(sealed_open(world->dir_fd, name, NULL, NULL, &file, NULL), ERR_CORRUPT);
    }
    (void)close(fd);
    mem_free(bytes);
}

/* When writing fails at any step nothing is left behind. */
static void a_failed_write_leaves_no_file(void **state)
{
    struct world *world = *state;
    add_entries(world, 20000);
    qindex_freeze(&world->index, world->head);
    for (uint64_t n = 1;; n++) {
        struct sealed_file *file = NULL;
        file_fail_at(FILE_OP_ANY, n, ENOSPC, false);
        const int err = sealed_write(world->dir_fd, &world->index.frozen, &file);
        file_fail_at(FILE_OP_ANY, 0, 0, false);
        char **names = NULL;
        uint32_t count = 0;
        assert_int_equal(scan_names(world->dir_fd, &names, &count), 0);
        assert_int_equal(count, err == 0 ? 1 : 0);
        scan_names_free(names, count);
        if (err == 0) {
            assert_true(n > 6);
            (void)sealed_unref(file);
            return;
        }
        assert_int_equal(err, -ENOSPC);
    }
}

static void a_dropped_queue_is_not_sealed(void **state)
{
    struct world *world = *state;
    (void)qindex_add(&world->index, 1, 4096, STEP);
    (void)qindex_add(&world->index, 2, 4160, STEP);
    qindex_drop(&world->index, 1);
    assert_null(qindex_find(&world->index, 1));
    assert_int_equal(world->index.active.entry_count, 1);
    assert_int_equal(qindex_add(&world->index, 1, 4224, STEP), 0);
    qindex_drop(&world->index, 1);
    qindex_freeze(&world->index, 4288);
    struct sealed_file *file = NULL;
    assert_int_equal(sealed_write(world->dir_fd, &world->index.frozen, &file), 0);
    struct sealed_queue queue;
    assert_int_equal(sealed_find(file, 1, &queue), 0);
    assert_int_equal(sealed_find(file, 2, &queue), 1);
    (void)sealed_unref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sealing_and_merging_lose_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_search_finds_the_first_entry_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stretch_without_entries_has_a_file_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_write_leaves_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dropped_queue_is_not_sealed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
