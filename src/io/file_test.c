#include "io/file.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A kernel in a bad mood: transfers at most `transfer_max` bytes a call and interrupts every other
 * one; 0 = as usual. These two stand in front of the C library's. */
static size_t transfer_max;
static unsigned call_count;

static bool interrupted(void)
{
    if (transfer_max == 0 || call_count++ % 2 == 0)
        return false;
    errno = EINTR;
    return true;
}

ssize_t pwritev(int fd, const struct iovec *iov, int iov_count, off_t offset)
{
    if (interrupted())
        return -1;
    if (transfer_max > 0)
        return pwrite(fd, iov->iov_base, MIN(iov->iov_len, transfer_max), offset);
    return pwritev2(fd, iov, iov_count, offset, 0);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t offset)
{
    if (interrupted())
        return -1;
    const struct iovec iov = {.iov_base = bytes,
                              .iov_len = transfer_max > 0 ? MIN(size, transfer_max) : size};
    return preadv2(fd, &iov, 1, offset, 0);
}

/* A directory of its own for each test. */
struct room {
    int dir_fd;
    char path[64];
};

static int set_up(void **state)
{
    struct room *room = mem_new(sizeof *room);
    (void)snprintf(room->path, sizeof room->path, "%s", "/tmp/tidemq-file-XXXXXX");
    assert_non_null(mkdtemp(room->path));
    room->dir_fd = open(room->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(room->dir_fd >= 0);
    for (int op = 0; op < FILE_OP_COUNT; op++)
        file_fail_at((enum file_op)op, 0, 0, false);
    *state = room;
    return 0;
}

/* Fails when the test left a file behind. */
static int tear_down(void **state)
{
    struct room *room = *state;
    for (int op = 0; op < FILE_OP_COUNT; op++)
        file_fail_at((enum file_op)op, 0, 0, false);
    assert_int_equal(rmdir(room->path), 0);
    (void)close(room->dir_fd);
    mem_free(room);
    return 0;
}

static int dir_of(void **state)
{
    return ((const struct room *)*state)->dir_fd;
}

static int create(int dir_fd, const char *name)
{
    const int fd = file_openat(dir_fd, name, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void open_is_close_on_exec(void **state)
{
    const int fd = create(dir_of(state), "a");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    (void)close(fd);
    assert_int_equal(file_openat(dir_of(state), "missing", O_RDONLY, 0), -ENOENT);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), -ENOENT);
}

static void written_bytes_come_back(void **state)
{
    const int fd = create(dir_of(state), "a");
    char bytes[8] = {0};
    uint64_t size = 0;
    assert_int_equal(file_pwrite_all(fd, "hello", 5, 3), 0);
    assert_int_equal(file_pwrite_all(fd, "", 0, 100), 0);
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, 8);
    assert_int_equal(file_pread_all(fd, bytes, 8, 0), 0);
    assert_memory_equal(bytes, "\0\0\0hello", 8);
    assert_int_equal(file_pread_all(fd, bytes, 8, 1), -ENODATA);
    assert_int_equal(file_pread_all(fd, bytes, 0, 1000), 0);
    assert_int_equal(file_pread_all(fd, bytes, 1, 8), -ENODATA);
    assert_int_equal(file_fdatasync(fd), 0);
    assert_int_equal(file_fsync(fd), 0);
    (void)close(fd);
    assert_int_equal(file_pread_all(fd, bytes, 1, 0), -EBADF);
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0), -EBADF);
    assert_int_equal(file_fdatasync(fd), -EBADF);
    assert_int_equal(file_size(fd, &size), -EBADF);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

/* More pieces than one call takes, empty ones among them. */
static void many_pieces_are_written_in_order(void **state)
{
    enum { PIECES = 3 * IOV_MAX + 7 };
    const int fd = create(dir_of(state), "a");
    struct iovec *iov = mem_new(PIECES * sizeof *iov);
    static char digits[] = "0123456789";
    size_t size = 0;
    for (size_t i = 0; i < PIECES; i++) {
        iov[i] = (struct iovec){.iov_base = digits, .iov_len = i % 11};
        size += i % 11;
    }
    assert_int_equal(file_pwritev_all(fd, iov, PIECES, 5), 0);
    char *bytes = mem_new(size);
    assert_int_equal(file_pread_all(fd, bytes, size, 5), 0);
    const char *at = bytes;
    for (size_t i = 0; i < PIECES; at += i % 11, i++)
        assert_memory_equal(at, digits, i % 11);
    mem_free(bytes);
    mem_free(iov);
    (void)close(fd);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

static void short_and_interrupted_transfers_are_continued(void **state)
{
    static char digits[] = "0123456789";
    for (transfer_max = 1; transfer_max <= 12; transfer_max++) {
        const int fd = create(dir_of(state), "a");
        struct iovec iov[] = {{digits, 10}, {digits, 0}, {digits + 3, 4}, {digits, 9}};
        char bytes[24] = {0};
        assert_int_equal(file_pwritev_all(fd, iov, 4, 1), 0);
        assert_int_equal(file_pread_all(fd, bytes, 23, 1), 0);
        assert_string_equal(bytes, "01234567893456012345678");
        assert_int_equal(file_pread_all(fd, bytes, 24, 1), -ENODATA);
        (void)close(fd);
        assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
    }
    transfer_max = 0;
}

/* The file size limit makes the kernel write the first half only; the rest then fails. */
static void error_after_a_short_write_is_told(void **state)
{
    char *bytes = mem_new(3000);
    const int fd = create(dir_of(state), "a");
    uint64_t size = 0;
    struct rlimit before;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, before.rlim_max}), 0);
    struct iovec iov[2] = {{.iov_base = bytes, .iov_len = 3000},
                           {.iov_base = bytes, .iov_len = 3000}};
    const int err = file_pwritev_all(fd, iov, 2, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, -EFBIG);
    assert_int_equal(file_size(fd, &size), 0);
    assert_int_equal(size, 4096);
    mem_free(bytes);
    (void)close(fd);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

static void directories_may_exist_already(void **state)
{
    assert_int_equal(file_mkdirat(dir_of(state), "d", 0700), 0);
    assert_int_equal(file_mkdirat(dir_of(state), "d", 0700), 0);
    assert_int_equal(file_mkdirat(dir_of(state), "none/d", 0700), -ENOENT);
    assert_int_equal(unlinkat(dir_of(state), "d", AT_REMOVEDIR), 0);
}

static void whole_files_are_replaced(void **state)
{
    char *bytes = NULL;
    size_t size = 0;
    struct stat stat;
    assert_int_equal(file_write_whole(dir_of(state), "a", "first text", 10, 0600), 0);
    assert_int_equal(file_write_whole(dir_of(state), "a", "second", 6, 0600), 0);
    assert_int_equal(file_read_whole(dir_of(state), "a", 6, &bytes, &size), 0);
    assert_int_equal(size, 6);
    assert_string_equal(bytes, "second");
    mem_free(bytes);
    assert_int_equal(fstatat(dir_of(state), "a", &stat, 0), 0);
    assert_int_equal(stat.st_mode & 0777, 0600);
    assert_int_equal(file_read_whole(dir_of(state), "a", 5, &bytes, &size), ERR_FULL);
    assert_int_equal(file_read_whole(dir_of(state), "b", 5, &bytes, &size), -ENOENT);
    mem_fail_at(1);
    assert_int_equal(file_read_whole(dir_of(state), "a", 6, &bytes, &size), ERR_NOMEM);
    assert_int_equal(file_renameat(dir_of(state), "a", "b"), 0);
    assert_int_equal(file_renameat(dir_of(state), "a", "b"), -ENOENT);
    assert_int_equal(file_unlinkat(dir_of(state), "b"), 0);
}

static void a_replaced_file_keeps_mode_and_owner(void **state)
{
    struct stat stat;
    const gid_t group = geteuid() == 0 ? 1 : getegid(); /* another one where that is allowed */
    assert_int_equal(file_write_whole(dir_of(state), "a", "one", 3, 0600), 0);
    assert_int_equal(fchownat(dir_of(state), "a", geteuid(), group, 0), 0);
    assert_int_equal(fchmodat(dir_of(state), "a", 0640, 0), 0);
    assert_int_equal(file_write_whole(dir_of(state), "a", "two", 3, 0600), 0);
    assert_int_equal(fstatat(dir_of(state), "a", &stat, 0), 0);
    assert_int_equal(stat.st_mode & 07777, 0640);
    assert_int_equal(stat.st_gid, group);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

static void empty_file_and_subfolder(void **state)
{
    char *bytes = NULL;
    size_t size = 1;
    assert_int_equal(file_mkdirat(dir_of(state), "d", 0700), 0);
    assert_int_equal(file_write_whole(dir_of(state), "d/a", "", 0, 0600), 0);
    assert_int_equal(file_read_whole(dir_of(state), "d/a", 0, &bytes, &size), 0);
    assert_int_equal(size, 0);
    assert_string_equal(bytes, "");
    mem_free(bytes);
    assert_int_equal(file_unlinkat(dir_of(state), "d/a"), 0);
    assert_int_equal(unlinkat(dir_of(state), "d", AT_REMOVEDIR), 0);
}

static void overlong_name_is_refused(void **state)
{
    char *name = mem_new(PATH_MAX + 1);
    memset(name, 'n', PATH_MAX);
    assert_int_equal(file_write_whole(dir_of(state), name, "x", 1, 0600), -ENAMETOOLONG);
    mem_free(name);
}

/* Each operation of an atomic replacement fails in turn: until the rename, the old text stays
 * whole; no temporary file is ever left. */
static void failed_replacement_keeps_the_old_text(void **state)
{
    assert_int_equal(file_write_whole(dir_of(state), "a", "old", 3, 0600), 0);
    file_fail_at(FILE_OP_ANY, 0, 0, false);
    assert_int_equal(file_write_whole(dir_of(state), "a", "old", 3, 0600), 0);
    const uint64_t op_count = file_op_count(FILE_OP_ANY);
    assert_int_equal(op_count, 6); /* open, write, sync, rename, open the directory, sync it */
    for (uint64_t n = 1; n <= op_count; n++) {
        char *bytes = NULL;
        size_t size = 0;
        file_fail_at(FILE_OP_ANY, n, EIO, false);
        assert_int_equal(file_write_whole(dir_of(state), "a", "new", 3, 0600), -EIO);
        assert_int_equal(file_read_whole(dir_of(state), "a", 3, &bytes, &size), 0);
        assert_string_equal(bytes, n <= 4 ? "old" : "new");
        mem_free(bytes);
        assert_int_equal(faccessat(dir_of(state), "a.tmp", F_OK, 0), -1);
        assert_int_equal(file_write_whole(dir_of(state), "a", "old", 3, 0600), 0);
    }
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

/* One row per operation: what runs it, and what kind it is. */
static int op_run(int dir_fd, int fd, size_t row)
{
    char byte = 'x';
    switch (row) {
    case 0:
        return file_openat(dir_fd, "missing", O_RDONLY, 0);
    case 1:
        return file_mkdirat(dir_fd, "missing/d", 0700);
    case 2:
        return file_pread_all(fd, &byte, 1, 0);
    case 3:
        return file_pwrite_all(fd, &byte, 1, 0);
    case 4:
        return file_fdatasync(fd);
    case 5:
        return file_fsync(fd);
    case 6:
        return file_renameat(dir_fd, "missing", "b");
    default:
        return file_unlinkat(dir_fd, "missing");
    }
}

static const enum file_op op_kinds[] = {FILE_OP_OPEN, FILE_OP_OPEN, FILE_OP_READ,   FILE_OP_WRITE,
                                        FILE_OP_SYNC, FILE_OP_SYNC, FILE_OP_RENAME, FILE_OP_UNLINK};

static void nth_operation_of_its_kind_fails(void **state)
{
    const int fd = create(dir_of(state), "a");
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0), 0);
    for (size_t row = 0; row < ARRAY_COUNT(op_kinds); row++) {
        const enum file_op kind = op_kinds[row];
        const int usual = op_run(dir_of(state), fd, row);
        file_fail_at(kind, 0, 0, false);
        file_fail_at(kind, 3, EDQUOT, false);
        for (int n = 1; n <= 5; n++)
            assert_int_equal(op_run(dir_of(state), fd, row), n == 3 ? -EDQUOT : usual);
        assert_int_equal(file_op_count(kind), 5);
        file_fail_at(kind, 2, EIO, true);
        for (int n = 1; n <= 5; n++)
            assert_int_equal(op_run(dir_of(state), fd, row), n >= 2 ? -EIO : usual);
        file_fail_at(kind, 0, 0, false);
        assert_int_equal(op_run(dir_of(state), fd, row), usual);
        assert_int_equal(file_op_count(kind), 1);
    }
    (void)close(fd);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

static void other_kinds_are_left_alone(void **state)
{
    const int fd = create(dir_of(state), "a");
    file_fail_at(FILE_OP_SYNC, 1, EIO, true);
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0), 0);
    assert_int_equal(file_fsync(fd), -EIO);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
    (void)close(fd);
}

enum { THREADS = 4, SYNCS = 100 };

static void *sync_often(void *data)
{
    const int *fd = data;
    uintptr_t failed = 0;
    for (int i = 0; i < SYNCS; i++)
        failed += file_fdatasync(*fd) < 0;
    return (void *)failed;
}

/* The fault strikes one operation of all threads' together. */
static void faults_are_counted_across_threads(void **state)
{
    int fd = create(dir_of(state), "a");
    pthread_t threads[THREADS];
    uintptr_t failed = 0;
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    file_fail_at(FILE_OP_SYNC, THREADS * SYNCS / 2, EIO, false);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sync_often, &fd), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        failed += (uintptr_t)result;
    }
    assert_int_equal(failed, 1);
    assert_int_equal(file_op_count(FILE_OP_SYNC), THREADS * SYNCS);
    (void)close(fd);
    assert_int_equal(file_unlinkat(dir_of(state), "a"), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(open_is_close_on_exec),
        TEST(written_bytes_come_back),
        TEST(many_pieces_are_written_in_order),
        TEST(short_and_interrupted_transfers_are_continued),
        TEST(error_after_a_short_write_is_told),
        TEST(directories_may_exist_already),
        TEST(whole_files_are_replaced),
        TEST(a_replaced_file_keeps_mode_and_owner),
        TEST(empty_file_and_subfolder),
        TEST(overlong_name_is_refused),
        TEST(failed_replacement_keeps_the_old_text),
        TEST(nth_operation_of_its_kind_fails),
        TEST(other_kinds_are_left_alone),
        TEST(faults_are_counted_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
