#include "net/quic_secrets.h"

#include "base/unit.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[48];
    int dir_fd;
};

static int setup(void **state)
{
    static struct fixture fixture;
    (void)snprintf(fixture.dir, sizeof fixture.dir, "/tmp/quic_secrets_test_XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    fixture.dir_fd = open(fixture.dir, O_DIRECTORY | O_CLOEXEC);
    assert_true(fixture.dir_fd >= 0);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    (void)unlinkat(fixture->dir_fd, QUIC_SECRETS_FILE, 0);
    (void)close(fixture->dir_fd);
    return rmdir(fixture->dir);
}

static void made_once_and_kept(void **state)
{
    const struct fixture *fixture = *state;
    struct quic_secrets first, second, other;
    struct errmsg why = {0};
    struct stat stat;
    assert_int_equal(quic_secrets_open(fixture->dir, &first, &why), 0);
    assert_int_equal(fstatat(fixture->dir_fd, QUIC_SECRETS_FILE, &stat, 0), 0);
    assert_int_equal(stat.st_mode & 0777, 0600);
    assert_int_equal(quic_secrets_open(fixture->dir, &second, &why), 0);
    assert_memory_equal(&first, &second, sizeof first);
    assert_int_equal(unlinkat(fixture->dir_fd, QUIC_SECRETS_FILE, 0), 0);
    assert_int_equal(quic_secrets_open(fixture->dir, &other, &why), 0);
    assert_memory_not_equal(&first, &other, sizeof first);
    assert_memory_not_equal(first.token, first.reset, sizeof first.token);
}

static void damage_is_told(void **state)
{
    const struct fixture *fixture = *state;
    struct quic_secrets secrets;
    char bytes[200];
    struct errmsg why = {0};
    assert_int_equal(quic_secrets_open(fixture->dir, &secrets, &why), 0);
    const int fd = openat(fixture->dir_fd, QUIC_SECRETS_FILE, O_RDONLY | O_CLOEXEC);
    const ssize_t whole = read(fd, bytes, sizeof bytes);
    assert_true(whole > 0 && whole < (ssize_t)sizeof bytes);
    (void)close(fd);
    for (ssize_t size = 0; size <= whole + 1; size++) {
        struct errmsg told = {0};
        assert_int_equal(
            file_write_whole(fixture->dir_fd, QUIC_SECRETS_FILE, bytes, (size_t)size, 0600), 0);
        assert_int_equal(quic_secrets_open(fixture->dir, &secrets, &told),
                         size == whole ? 0 : ERR_CORRUPT);
        assert_true(size == whole || strstr(told.text, "remove it to have a new one made"));
    }
    bytes[0] ^= 1;
    assert_int_equal(
        file_write_whole(fixture->dir_fd, QUIC_SECRETS_FILE, bytes, (size_t)whole, 0600), 0);
    assert_int_equal(quic_secrets_open(fixture->dir, &secrets, &why), ERR_CORRUPT);
}

static void failures_are_told(void **state)
{
    const struct fixture *fixture = *state;
    struct quic_secrets secrets;
    struct errmsg why = {0};
    assert_int_equal(quic_secrets_open("/nowhere/at/all", &secrets, &why), -ENOENT);
    for (uint64_t n = 1; n <= 20; n++) {
        file_fail_at(FILE_OP_ANY, n, EIO, false);
        const int err = quic_secrets_open(fixture->dir, &secrets, &why);
        const bool spent = file_op_count(FILE_OP_ANY) < n;
        file_fail_at(FILE_OP_ANY, 0, 0, false);
        (void)unlinkat(fixture->dir_fd, QUIC_SECRETS_FILE, 0);
        assert_int_equal(err, spent ? 0 : -EIO);
        if (spent)
            return;
    }
    fail_msg("more operations than expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_once_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
