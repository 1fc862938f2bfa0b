/* What the commands share around their answers: JSON on stdout, fields of JSON, sub-commands. */
#pragma once

#include "cli/api.h"
#include "cli/table.h"

/* A command behind a command: "topic create". */
struct subcommand {
    const char *name;
    const char *about;
    int (*run)(int argc, const char *const *argv);
};

/* Runs the one that argv[0] names; prints them all for --help. Returns an exit code. */
int output_dispatch(const char *command, const struct subcommand *subcommands, size_t count,
                    int argc, const char *const *argv);

/* Prints indented JSON; returns an exit code. */
int output_json(const json_t *value);
/* Prints the table and frees its contents; returns an exit code. */
int output_table(struct table *table);

/* Fields of an object as a table cell or number; "" and 0 when they are not there. */
void output_add_field(struct table *table, const json_t *object, const char *name);
uint64_t output_number(const json_t *object, const char *name);
