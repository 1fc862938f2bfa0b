#include "store/local/local_fixture.h"

#include <errno.h>

enum { SIZE = 20 * 1024 * 1024 };

struct place {
    char dir[64];
    int dir_fd;
    struct pool *pool;
};

static int set_up(void **state)
{
    struct place *place = mem_new(sizeof *place);
    fixture_new_dir(place->dir);
    place->dir_fd = open(place->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    place->pool = pool_new(place->dir_fd, SIZE, 2);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    (void)pool_free(place->pool);
    (void)close(place->dir_fd);
    fixture_remove_dir(AT_FDCWD, place->dir);
    mem_free(place);
    return 0;
}

static uint32_t count_files(const struct place *place)
{
    char **names = NULL;
    uint32_t count = 0;
    assert_int_equal(scan_names(place->dir_fd, &names, &count), 0);
    scan_names_free(names, count);
    return count;
}

static void fill(struct place *place)
{
    int result = 1;
    uint32_t steps = 0;
    for (; result > 0; steps++)
        result = pool_fill(place->pool);
    assert_int_equal(result, 0);
    assert_int_equal(steps, 3); /* 8 MiB each */
}

static void files_are_written_taken_and_given_back(void **state)
{
    struct place *place = *state;
    fill(place);
    fill(place);
    assert_int_equal(pool_count(place->pool), 2);
    char name[SEGMENT_NAME_SIZE];
    int fd = pool_take(place->pool, name);
    assert_true(fd >= 0);
    uint64_t size = 0;
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, SIZE);
    (void)close(fd);
    assert_int_equal(renameat(place->dir_fd, name, place->dir_fd, "x.log"), 0);
    assert_int_equal(pool_count(place->pool), 1);
    assert_int_equal(pool_recycle(place->pool, "x.log"), 0);
    assert_int_equal(pool_count(place->pool), 2);
    assert_int_equal(count_files(place), 2);
}

static void a_file_of_another_length_is_not_taken_back(void **state)
{
    struct place *place = *state;
    const int fd = openat(place->dir_fd, "x.log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 4096), 0);
    (void)close(fd);
    assert_int_equal(pool_recycle(place->pool, "x.log"), 0);
    assert_int_equal(pool_count(place->pool), 0);
    assert_int_equal(count_files(place), 0);
}

static void an_empty_pool_makes_a_file(void **state)
{
    struct place *place = *state;
    char name[SEGMENT_NAME_SIZE];
    const int fd = pool_take(place->pool, name);
    assert_true(fd >= 0);
    uint64_t size = 0;
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, SIZE);
    (void)close(fd);
}

/* Found at the start: whole files are used, others removed, what is not the pool's stays. */
static void found_files_are_sorted_out(void **state)
{
    struct place *place = *state;
    fill(place);
    place->pool = pool_free(place->pool);
    const int fd = openat(place->dir_fd, "free-7.seg", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    (void)close(fd);
    place->pool = pool_new(place->dir_fd, SIZE, 2);
    assert_true(pool_adopt(place->pool, "free-0.seg"));
    assert_true(pool_adopt(place->pool, "free-7.seg"));
    assert_false(pool_adopt(place->pool, "free-x.seg"));
    assert_false(pool_adopt(place->pool, "00000000000000000001.log"));
    assert_int_equal(pool_count(place->pool), 1);
    assert_int_equal(count_files(place), 1);
    fill(place); /* under a number not used before */
    assert_int_equal(pool_count(place->pool), 2);
}

static void a_failed_or_unfinished_file_is_removed(void **state)
{
    struct place *place = *state;
    for (uint64_t n = 1; n < 20; n++) {
        file_fail_at(FILE_OP_WRITE, n, ENOSPC, false);
        int result = 1;
        while (result > 0)
            result = pool_fill(place->pool);
        assert_int_equal(result, -ENOSPC);
        assert_int_equal(count_files(place), 0);
    }
    file_fail_at(FILE_OP_WRITE, 0, 0, false);
    assert_int_equal(pool_fill(place->pool), 1);
    assert_int_equal(count_files(place), 1);
    place->pool = pool_free(place->pool);
    assert_int_equal(count_files(place), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_written_taken_and_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_another_length_is_not_taken_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_empty_pool_makes_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(found_files_are_sorted_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_or_unfinished_file_is_removed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
