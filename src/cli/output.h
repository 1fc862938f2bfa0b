/* What the commands share: asking a server, answers as JSON or tables, sub-commands. */
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

/* What every command that asks a server shares: give options to args_parse by API_OPTIONS(options),
 * then begin. */
struct call {
    struct api_options options;
    struct arg_words words;
    struct api *api;
    bool json; /* for the command's option */
    int code;  /* to exit with */
};

/* Parses and connects. Returns true to go on (and to api_close in the end), else false with the
 * exit code in call->code. */
MUST_CHECK bool output_begin(struct call *call, const struct arg_spec *spec, int argc,
                             const char *const *argv);

/* The same for a command without options of its own that takes one word. */
MUST_CHECK bool output_begin_named(struct call *call, const char *usage, const char *about,
                                   int argc, const char *const *argv);

/* A command that lists all there are of something, to people or as JSON. */
struct listing {
    const char *usage, *about;
    const char *what;                 /* for api_list */
    int (*print)(const json_t *rows); /* for people; returns an exit code */
};
int output_list(const struct listing *listing, int argc, const char *const *argv);

/* Asks for an action about the call's first word. Prints "THING 'WORD' DONE", or the answer as
 * JSON, and sets call->code. params (an object) is taken. */
void output_action(struct call *call, const char *action, json_t *params, const char *thing,
                   const char *done);

/* A command that shows one page of the server, to people or as JSON. */
struct show {
    const char *usage, *about;
    const char *path; /* "/v1/status"; one word is taken and added to it when it ends in '/' */
    int (*print)(const json_t *page); /* for people; returns an exit code */
};
int output_show(const struct show *show, int argc, const char *const *argv);

/* Prints indented JSON; returns an exit code. */
int output_json(const json_t *value);
/* Prints the table and frees its contents; returns an exit code. */
int output_table(struct table *table);

/* A text, or the items of a list with commas between, as a table cell. */
void output_add_texts(struct table *table, const json_t *value);
/* What a repeatable option gathered, as a list. */
json_t *output_texts(const struct arg_values *values);
/* Fields of an object as a table cell or number; "" and 0 when they are not there. */
void output_add_field(struct table *table, const json_t *object, const char *name);
uint64_t output_number(const json_t *object, const char *name);
