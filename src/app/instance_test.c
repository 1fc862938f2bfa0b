#include "base/unit.h"

#include "app/instance.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[40];
    int dir_fd;
};

static int setup(void **state)
{
    static struct fixture fixture;
    (void)snprintf(fixture.dir, sizeof(fixture.dir), "/tmp/instance_test_XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    fixture.dir_fd = open(fixture.dir, O_DIRECTORY | O_CLOEXEC);
    assert_true(fixture.dir_fd >= 0);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    (void)unlinkat(fixture->dir_fd, "instance", 0);
    (void)unlinkat(fixture->dir_fd, "admin.token", 0);
    (void)close(fixture->dir_fd);
    return rmdir(fixture->dir);
}

static void made_once_and_kept(void **state)
{
    struct fixture *fixture = *state;
    struct instance first, second;
    struct errmsg why = {0};
    struct stat stat;
    assert_int_equal(instance_open(fixture->dir, 1234567, &first, &why), 0);
    assert_memory_equal(first.id, "mqtt-", 5);
    assert_int_equal(strlen(first.id), 17);
    assert_int_equal(strlen(first.token), 64);
    assert_true(first.created_ms == 1234567);
    assert_int_equal(fstatat(fixture->dir_fd, "admin.token", &stat, 0), 0);
    assert_int_equal(stat.st_mode & 0777, 0600);
    assert_int_equal(instance_open(fixture->dir, 7654321, &second, &why), 0);
    assert_string_equal(second.id, first.id);
    assert_string_equal(second.token, first.token);
    assert_true(second.created_ms == 1234567);
}

static void tokens_differ(void **state)
{
    struct fixture *fixture = *state;
    struct instance first, second;
    struct errmsg why = {0};
    assert_int_equal(instance_open(fixture->dir, 1, &first, &why), 0);
    assert_int_equal(unlinkat(fixture->dir_fd, "instance", 0), 0);
    assert_int_equal(unlinkat(fixture->dir_fd, "admin.token", 0), 0);
    assert_int_equal(instance_open(fixture->dir, 1, &second, &why), 0);
    assert_string_not_equal(second.token, first.token);
    assert_string_not_equal(second.id, first.id);
}

static void own_token_is_taken(void **state)
{
    struct fixture *fixture = *state;
    struct instance instance;
    struct errmsg why = {0};
    static const char token[] = "a-token-that-an-administrator-chose\n";
    assert_int_equal(file_write_whole(fixture->dir_fd, "admin.token", token, strlen(token), 0600),
                     0);
    assert_int_equal(instance_open(fixture->dir, 1, &instance, &why), 0);
    assert_string_equal(instance.token, "a-token-that-an-administrator-chose");
}

static void damaged_files_are_named(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *name, *text;
    } rows[] = {
        {"admin.token", ""},
        {"admin.token", "short\n"},
        {"admin.token", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\n"},
        {"admin.token", "0123456789abcdef\n0123456789abcdef\n"},
        {"instance", ""},
        {"instance", "mqtt-0123456789ab"},
        {"instance", "mqtt-0123456789aX 12\n"},
        {"instance", "mqtt-0123456789ab x\n"},
        {"instance", "tidemq-012345678 12\n"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct instance instance;
        struct errmsg why = {0};
        (void)unlinkat(fixture->dir_fd, "instance", 0);
        (void)unlinkat(fixture->dir_fd, "admin.token", 0);
        assert_int_equal(file_write_whole(fixture->dir_fd, rows[i].name, rows[i].text,
                                          strlen(rows[i].text), 0600),
                         0);
        assert_int_equal(instance_open(fixture->dir, 1, &instance, &why), ERR_CORRUPT);
        assert_non_null(strstr(why.text, rows[i].name));
        assert_non_null(strstr(why.text, "remove it"));
    }
}

/* Failing file operation n, for every n until it succeeds: nothing half-made may remain that a
 * second try would refuse. */
static void io_failures_leave_nothing_behind(void **state)
{
    struct fixture *fixture = *state;
    struct instance instance;
    for (uint64_t n = 1;; n++) {
        struct errmsg why = {0};
        (void)unlinkat(fixture->dir_fd, "instance", 0);
        (void)unlinkat(fixture->dir_fd, "admin.token", 0);
        file_fail_at(FILE_OP_ANY, n, EIO, false);
        const int err = instance_open(fixture->dir, 1, &instance, &why);
        file_fail_at(FILE_OP_ANY, 0, 0, false);
        assert_int_equal(instance_open(fixture->dir, 1, &instance, &why), 0);
        if (err == 0) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(err, -EIO);
    }
}

static void missing_directory_is_an_error(void **state)
{
    (void)state;
    struct instance instance;
    struct errmsg why = {0};
    assert_int_equal(instance_open("/nowhere/data", 1, &instance, &why), -ENOENT);
    assert_non_null(strstr(why.text, "/nowhere/data"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(made_once_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_differ, setup, teardown),
        cmocka_unit_test_setup_teardown(own_token_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(io_failures_leave_nothing_behind, setup, teardown),
        cmocka_unit_test(missing_directory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
