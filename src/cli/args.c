#include "cli/args.h"

#include <stdio.h>
#include <string.h>

static void print_help(const struct arg_spec *spec)
{
    (void)printf("Usage: %s%s\n\n%s\n\nOptions:\n", spec->usage,
                 spec->option_count > 0 ? " [OPTIONS]" : "", spec->about);
    for (size_t i = 0; i < spec->option_count; i++) {
        const struct arg_option *option = &spec->options[i];
        char head[64];
        (void)snprintf(head, sizeof(head), "%s%s%s", option->name, option->value_name ? " " : "",
                       option->value_name ? option->value_name : "");
        (void)printf("  %-22s %s\n", head, option->help);
    }
    (void)printf("  %-22s %s\n", "--help", "Show this text.");
    if (spec->more) {
        (void)printf("\n%s", spec->more);
    }
}

static enum args_result wrong(const struct arg_spec *spec, const char *what, const char *word)
{
    (void)fprintf(stderr, "tidemq: %s%s%s; usage: %s (--help tells more)\n", what,
                  word[0] == '\0' ? "" : " ", word, spec->usage);
    return ARGS_WRONG;
}

/* The option that `word` names, up to its '='. */
static const struct arg_option *find_option(const struct arg_spec *spec, const char *word)
{
    const size_t size = strcspn(word, "=");
    for (size_t i = 0; i < spec->option_count; i++) {
        const char *name = spec->options[i].name;
        if (strlen(name) == size && memcmp(name, word, size) == 0) {
            return &spec->options[i];
        }
    }
    return NULL;
}

static enum args_result take_value(const struct arg_spec *spec, const struct arg_option *option,
                                   const char *value)
{
    if (option->value) {
        *option->value = value;
        return ARGS_GO;
    }
    if (option->values->count == ARGS_VALUES_MAX) {
        return wrong(spec, "too many times", option->name);
    }
    option->values->items[option->values->count++] = value;
    return ARGS_GO;
}

/* Takes the option at argv[*at] with its value, and moves *at to the last argument used. */
static enum args_result take_option(const struct arg_spec *spec, int argc, const char *const *argv,
                                    int *at)
{
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_help(spec);
        return ARGS_HELP;
    }
    const struct arg_option *option = find_option(spec, word);
    if (!option) {
        return wrong(spec, "unknown option", word);
    }
    if (!option->value_name) {
        if (equals) {
            return wrong(spec, "no value is allowed with", option->name);
        }
        *option->on = true;
        return ARGS_GO;
    }
    if (equals) {
        return take_value(spec, option, equals + 1);
    }
    if (*at + 1 >= argc) {
        return wrong(spec, "a value is missing behind", option->name);
    }
    (*at)++;
    return take_value(spec, option, argv[*at]);
}

enum args_result args_parse(const struct arg_spec *spec, int argc, const char *const *argv,
                            struct arg_words *ret_words)
{
    struct arg_words words = {0};
    bool options_over = false;
    for (int i = 0; i < argc; i++) {
        if (!options_over && strcmp(argv[i], "--") == 0) {
            options_over = true;
        } else if (!options_over && argv[i][0] == '-' && argv[i][1] != '\0') {
            const enum args_result result = take_option(spec, argc, argv, &i);
            if (result != ARGS_GO) {
                return result;
            }
        } else if (words.count == MIN(spec->words_max, (size_t)ARGS_WORDS_MAX)) {
            return wrong(spec, "unexpected argument", argv[i]);
        } else {
            words.items[words.count++] = argv[i];
        }
    }
    if (words.count < spec->words_min) {
        return wrong(spec, "an argument is missing", "");
    }
    *ret_words = words;
    return ARGS_GO;
}
