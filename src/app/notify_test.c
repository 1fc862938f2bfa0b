/* What a service manager hears, over both kinds of address. */
#include "base/unit.h"

#include "app/notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Binds a manager's socket to `name` ('@': abstract) and points NOTIFY_SOCKET to it. */
static int bind_manager(const char *name)
{
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void expect_message(int fd, const char *start)
{
    char text[256] = "";
    assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
    assert_memory_equal(text, start, strlen(start));
}

static void abstract_address(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof(name), "@tidemq-notify-test-%d", (int)getpid());
    const int fd = bind_manager(name);
    assert_int_equal(notify_send("READY=1\nSTATUS=Serving"), 0);
    expect_message(fd, "READY=1\nSTATUS=Serving");
    assert_int_equal(notify_reloading(), 0);
    expect_message(fd, "RELOADING=1\nMONOTONIC_USEC=");
    (void)close(fd);
    assert_int_equal(notify_send("READY=1"), -ECONNREFUSED);
}

static void path_address(void **state)
{
    (void)state;
    char dir[] = "/tmp/notify_test_XXXXXX", name[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(name, sizeof(name), "%s/s", dir);
    const int fd = bind_manager(name);
    assert_int_equal(notify_send("STOPPING=1"), 0);
    expect_message(fd, "STOPPING=1");
    (void)close(fd);
    (void)unlink(name);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(notify_send("STOPPING=1"), -ENOENT);
}

static void no_manager_and_wrong_addresses(void **state)
{
    (void)state;
    char longest[200];
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    assert_int_equal(notify_send("READY=1"), 0);
    const char *const wrong[] = {"relative", "/", "@", longest};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", wrong[i], 1), 0);
        assert_int_equal(notify_send("READY=1"), ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(abstract_address),
        cmocka_unit_test(path_address),
        cmocka_unit_test(no_manager_and_wrong_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
