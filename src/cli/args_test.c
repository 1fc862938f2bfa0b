#include "base/unit.h"

#include "cli/args.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool force;
static const char *config;
static struct arg_values sets;

static const struct arg_option options[] = {
    {"--force", NULL, "Force it.", .on = &force},
    {"--config", "FILE", "A file.", .value = &config},
    {"--set", "KEY=VALUE", "Values.", .values = &sets},
};

static const struct arg_spec spec = {
    .usage = "tidemq test NAME",
    .about = "Tests.",
    .options = options,
    .option_count = ARRAY_COUNT(options),
    .words_min = 1,
    .words_max = 2,
};

static struct arg_words words;

static enum args_result parse(int argc, const char *const *argv)
{
    force = false;
    config = NULL;
    sets.count = 0;
    words.count = 99;
    return args_parse(&spec, argc, argv, &words);
}

#define PARSE(...)                                                                                 \
    parse((int)ARRAY_COUNT(((const char *const[]){__VA_ARGS__})),                                  \
          (const char *const[]){__VA_ARGS__})

static void options_and_words_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--set", "a=1", "one", "--force", "--config=f", "--set=b=2", "two"),
                     ARGS_GO);
    assert_true(force);
    assert_string_equal(config, "f");
    assert_int_equal(sets.count, 2);
    assert_string_equal(sets.items[0], "a=1");
    assert_string_equal(sets.items[1], "b=2");
    assert_int_equal(words.count, 2);
    assert_string_equal(words.items[1], "two");
}

static void words_that_look_like_options(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--", "--force", "-"), ARGS_GO);
    assert_false(force);
    assert_string_equal(words.items[0], "--force");
    assert_int_equal(PARSE("-", ""), ARGS_GO);
    assert_string_equal(words.items[1], "");
}

/* Arguments, and what stderr must say. */
static void wrong_arguments_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *args[3];
        int count;
        const char *part;
    } rows[] = {
        {{""}, 0, "an argument is missing; usage: tidemq test NAME"},
        {{"a", "b", "c"}, 3, "unexpected argument c"},
        {{"a", "--unknown"}, 2, "unknown option --unknown"},
        {{"a", "-x"}, 2, "unknown option -x"},
        {{"a", "--config"}, 2, "a value is missing behind --config"},
        {{"a", "--force=1"}, 2, "no value is allowed with --force"},
        {{"a", "--forc"}, 2, "unknown option --forc"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        FILE *capture = tmpfile();
        const int kept = dup(STDERR_FILENO);
        assert_true(dup2(fileno(capture), STDERR_FILENO) >= 0);
        const enum args_result result = parse(rows[i].count, rows[i].args);
        (void)fflush(stderr);
        assert_true(dup2(kept, STDERR_FILENO) >= 0);
        (void)close(kept);
        char text[400] = "";
        rewind(capture);
        assert_true(fread(text, 1, sizeof(text) - 1, capture) > 0);
        (void)fclose(capture);
        assert_int_equal(result, ARGS_WRONG);
        assert_int_equal(words.count, 99);
        assert_non_null(strstr(text, rows[i].part));
    }
}

static void too_many_values(void **state)
{
    (void)state;
    const char *argv[2 * (ARGS_VALUES_MAX + 1)];
    for (size_t i = 0; i < ARRAY_COUNT(argv); i++) {
        argv[i] = i % 2 == 0 ? "--set" : "a=b";
    }
    assert_int_equal(parse((int)ARRAY_COUNT(argv), argv), ARGS_WRONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_words_in_any_order),
        cmocka_unit_test(words_that_look_like_options),
        cmocka_unit_test(wrong_arguments_are_explained),
        cmocka_unit_test(too_many_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
