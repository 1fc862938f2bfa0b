#include "base/log.h"

#include "base/mem.h"
#include "base/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OUTPUT_MAX = 1 << 20 };

static uint64_t test_second = 1000;

static uint64_t test_clock(void)
{
    return test_second;
}

/* A log into a file in memory. */
static struct log *log_into(int *ret_fd, enum log_format format, uint32_t rate_max)
{
    *ret_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(*ret_fd >= 0);
    struct log *log = log_new(*ret_fd, format, LOG_INFO, rate_max);
    log_set_clock(log, test_clock);
    return log;
}

/* What was written; mem_free it. */
static char *output_of(int fd)
{
    char *text = mem_new(OUTPUT_MAX);
    assert_true(pread(fd, text, OUTPUT_MAX - 1, 0) >= 0);
    return text;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part))
        count++;
    return count;
}

/* Strict: skips one JSON string; NULL when there is none. */
static const char *skip_string(const char *at)
{
    if (*at++ != '"')
        return NULL;
    while (*at != '"') {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at == '\\') {
            at++;
            if (*at == 'u') {
                if (strspn(at + 1, "0123456789abcdef") < 4)
                    return NULL;
                at += 4;
            } else if (!strchr("\"\\/bfnrt", *at)) {
                return NULL;
            }
        }
        at++;
    }
    return at + 1;
}

/* true for one line holding one flat object whose keys are as given and whose values are strings.
 */
static bool json_line_valid(const char *at, const char *const *keys)
{
    char separator = '{';
    for (; *keys; keys++, separator = ',') {
        if (*at++ != separator || *at != '"' || strncmp(at + 1, *keys, strlen(*keys)) != 0)
            return false;
        at = skip_string(at);
        if (!at || *at++ != ':')
            return false;
        at = skip_string(at);
        if (!at)
            return false;
    }
    return strcmp(at, "}\n") == 0;
}

static void text_line_has_time_level_kind(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, 100);
    log_write(log, LOG_WARN, "conn", "client %d left", 7);
    char *text = output_of(fd);
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        if (shape[i] == 'd')
            assert_in_range(text[i], '0', '9');
        else
            assert_int_equal(text[i], shape[i]);
    }
    assert_string_equal(text + sizeof shape - 1, " warn conn: client 7 left\n");
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

static void control_characters_are_escaped(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, 100);
    log_write(log, LOG_INFO, "conn", "a\nb\x1b[31m\x7f\xc2\x9b!\xff\xc3\xbc");
    char *text = output_of(fd);
    assert_non_null(strstr(text, " info conn: a\\x0ab\\x1b[31m\\x7f\\xc2\\x9b!\\xff\xc3\xbc\n"));
    assert_int_equal(count_of(text, "\n"), 1);
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

static void json_is_valid_for_any_bytes(void **state)
{
    (void)state;
    static const char *const keys[] = {"time", "level", "component", "message", NULL};
    for (int byte = 1; byte < 256; byte++) {
        for (size_t size = 1; size <= 1500; size += 499) {
            int fd = -1;
            char message[1501] = {0};
            struct log *log = log_into(&fd, LOG_JSON, 100);
            memset(message, byte, size);
            log_write(log, LOG_ERROR, "store", "%s", message);
            char *text = output_of(fd);
            assert_true(json_line_valid(text, keys));
            assert_non_null(strstr(text, "\"level\":\"error\",\"component\":\"store\""));
            mem_free(text);
            (void)log_free(log);
            (void)close(fd);
        }
    }
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    int fd = -1;
    char message[2001] = {0};
    struct log *log = log_into(&fd, LOG_TEXT, 100);
    memset(message, 'm', 2000);
    log_write(log, LOG_INFO, "conn", "%s", message);
    char *text = output_of(fd);
    const char *start = strstr(text, ": m");
    assert_non_null(start);
    assert_int_equal(strlen(start + 2), 1023 + 1);
    assert_string_equal(start + 2 + 1022, "~\n");
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

static void level_and_format_can_change(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, 100);
    log_write(log, LOG_DEBUG, "conn", "hidden");
    log_set(log, LOG_JSON, LOG_DEBUG);
    log_write(log, LOG_DEBUG, "conn", "shown");
    log_set(log, LOG_JSON, LOG_ERROR);
    log_write(log, LOG_WARN, "conn", "hidden");
    log_write(NULL, LOG_ERROR, "conn", "nobody");
    log_sum_up(NULL);
    char *text = output_of(fd);
    assert_int_equal(text[0], '{');
    assert_non_null(strstr(text, "shown"));
    assert_null(strstr(text, "hidden"));
    mem_free(text);
    (void)log_free(log);
    assert_null(log_free(NULL));
    (void)close(fd);
}

/* 3 a second and kind: the fourth on is summed up in the next second; other kinds go on. */
static void burst_is_limited_per_kind_and_told(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, 3);
    for (int i = 0; i < 10; i++)
        log_write(log, LOG_INFO, "conn", "burst");
    log_write(log, LOG_INFO, "store", "other");
    log_sum_up(log);
    char *text = output_of(fd);
    assert_int_equal(count_of(text, "burst"), 3);
    assert_int_equal(count_of(text, "other"), 1);
    assert_null(strstr(text, "left out"));
    mem_free(text);

    test_second++;
    log_sum_up(log);
    log_sum_up(log);
    log_write(log, LOG_INFO, "conn", "burst");
    text = output_of(fd);
    assert_int_equal(count_of(text, "burst"), 4);
    assert_int_equal(count_of(text, " warn conn: 7 more lines left out\n"), 1);
    assert_int_equal(count_of(text, "left out"), 1);
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

static void what_was_left_out_is_told_at_the_end(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, 1);
    log_write(log, LOG_INFO, "conn", "one");
    log_write(log, LOG_INFO, "conn", "two");
    (void)log_free(log);
    char *text = output_of(fd);
    assert_null(strstr(text, "two"));
    assert_non_null(strstr(text, "1 more lines left out"));
    mem_free(text);
    (void)close(fd);
}

/* Kinds beyond the table share one limit; none is lost, nothing overflows. */
static void many_kinds_share_the_last_place(void **state)
{
    (void)state;
    int fd = -1;
    char names[100][8];
    struct log *log = log_into(&fd, LOG_TEXT, 1000);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(names[i], sizeof names[i], "k%d", i);
        log_write(log, LOG_INFO, names[i], "line");
    }
    char *text = output_of(fd);
    assert_int_equal(count_of(text, ": line\n"), 100);
    assert_int_equal(count_of(text, " info k99: line\n"), 1);
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

enum { THREADS = 4, LINES = 200 };

static void *write_lines(void *data)
{
    struct log *log = data;
    for (int i = 0; i < LINES; i++)
        log_write(log, LOG_INFO, "conn", "%064d", i);
    log_set(log, LOG_TEXT, LOG_INFO);
    return NULL;
}

static void lines_of_threads_never_mix(void **state)
{
    (void)state;
    int fd = -1;
    struct log *log = log_into(&fd, LOG_TEXT, THREADS * LINES);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, log), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    char *text = output_of(fd);
    const size_t line_size = strcspn(text, "\n") + 1;
    assert_int_equal(strlen(text), line_size * THREADS * LINES);
    for (size_t i = 0; i < THREADS * LINES; i++)
        assert_int_equal(text[(i + 1) * line_size - 1], '\n');
    mem_free(text);
    (void)log_free(log);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_line_has_time_level_kind),
        cmocka_unit_test(control_characters_are_escaped),
        cmocka_unit_test(json_is_valid_for_any_bytes),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(level_and_format_can_change),
        cmocka_unit_test(burst_is_limited_per_kind_and_told),
        cmocka_unit_test(what_was_left_out_is_told_at_the_end),
        cmocka_unit_test(many_kinds_share_the_last_place),
        cmocka_unit_test(lines_of_threads_never_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
