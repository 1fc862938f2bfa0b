#include "base/base.h"

#include "base/unit.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs ASSERT(false) in a child whose stderr is `fd`. */
static int assert_in_child(int fd)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(fd, STDERR_FILENO);
        ASSERT(2 + 2 == 5);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void failed_assertion_names_condition_and_aborts(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const int status = assert_in_child(fds[1]);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    char text[256] = {0};
    assert_true(read(fds[0], text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "base_test.c"));
    assert_non_null(strstr(text, "2 + 2 == 5"));
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void cleanup_count(int **counter)
{
    if (*counter)
        ++**counter;
}

static void take_keeps_cleanup_away(void **state)
{
    (void)state;
    int cleaned = 0;
    {
        CLEANUP(cleanup_count) int *kept = &cleaned;
        CLEANUP(cleanup_count) int *taken = &cleaned;
        assert_ptr_equal(TAKE(taken), &cleaned);
        assert_null(taken);
        assert_non_null(kept);
    }
    assert_int_equal(cleaned, 1);
}

struct pair {
    int first, second;
};

static void macros_compute(void **state)
{
    (void)state;
    struct pair pair = {1, 2};
    assert_ptr_equal(CONTAINER_OF(&pair.second, struct pair, second), &pair);
    int numbers[7];
    assert_int_equal(ARRAY_COUNT(numbers), 7);
    assert_int_equal(MIN(3, 5), 3);
    assert_int_equal(MAX(3, 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_assertion_names_condition_and_aborts),
        cmocka_unit_test(take_keeps_cleanup_away),
        cmocka_unit_test(macros_compute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
