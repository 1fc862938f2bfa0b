#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int output_dispatch(const char *command, const struct subcommand *subcommands, size_t count,
                    int argc, const char *const *argv)
{
    for (size_t i = 0; argc > 0 && i < count; i++) {
        if (strcmp(subcommands[i].name, argv[0]) == 0) {
            return subcommands[i].run(argc - 1, argv + 1);
        }
    }
    const bool help = argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0);
    FILE *out = help ? stdout : stderr;
    if (!help && argc > 0) {
        (void)fprintf(out, "tidemq: unknown command '%s %s'\n", command, argv[0]);
    }
    (void)fprintf(out, "Usage: tidemq %s COMMAND [OPTIONS]\n\nCommands:\n", command);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "  %-8s %s\n", subcommands[i].name, subcommands[i].about);
    }
    (void)fprintf(out, "\n`tidemq %s COMMAND --help` tells more.\n", command);
    return help ? EXIT_OK : EXIT_USAGE;
}

static int finish(int err)
{
    if (err == 0 && fflush(stdout) == 0) {
        return EXIT_OK;
    }
    (void)fputs("tidemq: could not write the answer to the standard output\n", stderr);
    return EXIT_FAILED;
}

int output_json(const json_t *value)
{
    const int err = json_dumpf(value, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    return finish(err);
}

int output_table(struct table *table)
{
    const int err = table_print(table);
    table_done(table);
    return finish(err);
}

void output_add_field(struct table *table, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_string(value)) {
        table_add_bytes(table, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        table_addf(table, "%" PRId64, (int64_t)json_integer_value(value));
    } else if (json_is_boolean(value)) {
        table_add(table, json_is_true(value) ? "yes" : "no");
    } else {
        table_add(table, "");
    }
}

uint64_t output_number(const json_t *object, const char *name)
{
    const json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}
