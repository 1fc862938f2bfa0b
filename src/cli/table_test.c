#include "base/unit.h"

#include "base/mem.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What table_print writes to stdout. */
static void print(const struct table *table, char *ret_text, size_t size)
{
    FILE *capture = tmpfile();
    (void)fflush(stdout);
    const int kept = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(capture), STDOUT_FILENO) >= 0);
    const int err = table_print(table);
    (void)fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    (void)close(kept);
    memset(ret_text, 0, size);
    rewind(capture);
    (void)fread(ret_text, 1, size - 1, capture);
    (void)fclose(capture);
    assert_int_equal(err, 0);
}

static void columns_are_aligned(void **state)
{
    (void)state;
    static const char *const heads[] = {"NAME", "N", "REMARK", NULL};
    struct table table;
    char text[400];
    table_init(&table, heads);
    table_add(&table, "a");
    table_addf(&table, "%d", 1234);
    table_add(&table, "first");
    table_add(&table, "longer \xc3\xa9");
    table_add(&table, "5");
    table_add(&table, "");
    print(&table, text, sizeof(text));
    assert_string_equal(text, "NAME      N     REMARK\n"
                              "a         1234  first\n"
                              "longer \xc3\xa9  5\n");
    table_done(&table);
}

/* No client ID moves the cursor of an administrator's terminal. */
static void control_characters_are_shown(void **state)
{
    (void)state;
    static const char *const heads[] = {"", NULL};
    struct table table;
    char text[400];
    table_init(&table, heads);
    table_add(&table, "a\x1b[2Jb\x7f\n");
    table_add_bytes(&table,
                    "\xc2\x9b"
                    "c\0d",
                    5);
    print(&table, text, sizeof(text));
    assert_string_equal(text, "a\\x1b[2Jb\\x7f\\x0a\n\\x9bc\\x00d\n");
    table_done(&table);
}

static void numbers_for_people(void **state)
{
    (void)state;
    static const char *const heads[] = {"", NULL};
    struct table table;
    char text[400];
    table_init(&table, heads);
    table_add_size(&table, 0);
    table_add_size(&table, 1023);
    table_add_size(&table, 1536);
    table_add_size(&table, UINT64_C(3) << 40);
    table_add_duration(&table, 999);
    table_add_duration(&table, 61000);
    table_add_duration(&table, 3660000);
    table_add_duration(&table, UINT64_C(90000000));
    table_add_time(&table, 0);
    table_add_time(&table, UINT64_C(1700000000000));
    print(&table, text, sizeof(text));
    assert_string_equal(text, "0 B\n1023 B\n1.5 KiB\n3.0 TiB\n0s\n1m 1s\n1h 1m\n1d 1h\n-\n"
                              "2023-11-14 22:13:20Z\n");
    table_done(&table);
}

static void no_rows_but_heads(void **state)
{
    (void)state;
    static const char *const heads[] = {"A", "B", NULL};
    struct table table;
    char text[100];
    table_init(&table, heads);
    print(&table, text, sizeof(text));
    assert_string_equal(text, "A  B\n");
    table_done(&table);
}

static void out_of_memory_is_told(void **state)
{
    (void)state;
    static const char *const heads[] = {"A", NULL};
    for (uint64_t n = 1; n <= 2; n++) {
        struct table table;
        table_init(&table, heads);
        mem_fail_at(n);
        table_add(&table, "x");
        mem_fail_at(0);
        assert_int_equal(table_print(&table), ERR_NOMEM);
        table_done(&table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_aligned),   cmocka_unit_test(control_characters_are_shown),
        cmocka_unit_test(numbers_for_people),    cmocka_unit_test(no_rows_but_heads),
        cmocka_unit_test(out_of_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
