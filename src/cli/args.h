/* Arguments of a command: options `--name value`, `--name=value` or `--switch`, and words, in any
 * order; behind `--` everything is a word. Every command knows --help. Thread: any.
 */
#pragma once

#include "base/base.h"

/* Exit codes of every command. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1, /* the command was understood and did not succeed */
    EXIT_USAGE = 2,  /* wrong arguments or configuration */
};

#define ARGS_WORDS_MAX  16u
#define ARGS_VALUES_MAX 256u

/* What a repeatable option gathered; the texts are argv's. */
struct arg_values {
    const char *items[ARGS_VALUES_MAX];
    size_t count;
};

/* One of the three targets is set. */
struct arg_option {
    const char *name;       /* with its dashes */
    const char *value_name; /* NULL: a switch */
    const char *help;
    bool *on;
    const char **value;
    struct arg_values *values;
};

struct arg_spec {
    const char *usage; /* "tidemq topic delete NAME" */
    const char *about; /* what the command does, for --help */
    const char *more;  /* text behind the options, may be NULL */
    const struct arg_option *options;
    size_t option_count;
    size_t words_min, words_max;
};

struct arg_words {
    const char *items[ARGS_WORDS_MAX];
    size_t count;
};

enum args_result { ARGS_GO, ARGS_HELP, ARGS_WRONG };

/* Parses argv[0, argc), the command's own name not among them. ARGS_HELP: the help was printed on
 * stdout; ARGS_WRONG: a sentence was printed on stderr. */
MUST_CHECK enum args_result args_parse(const struct arg_spec *spec, int argc,
                                       const char *const *argv, struct arg_words *ret_words);
