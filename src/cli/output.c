#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CELL_MAX 8192u

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
    int width = 0;
    for (size_t i = 0; i < count; i++) {
        width = MAX(width, (int)strlen(subcommands[i].name));
    }
    (void)fprintf(out, "Usage: tidemq %s COMMAND [OPTIONS]\n\nCommands:\n", command);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "  %-*s %s\n", width, subcommands[i].name, subcommands[i].about);
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

bool output_begin(struct call *call, const struct arg_spec *spec, int argc, const char *const *argv)
{
    const enum args_result result = args_parse(spec, argc, argv, &call->words);
    if (result != ARGS_GO) {
        call->code = result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
        return false;
    }
    call->code = EXIT_FAILED;
    return api_open(&call->options, &call->api) == 0;
}

bool output_begin_named(struct call *call, const char *usage, const char *about, int argc,
                        const char *const *argv)
{
    const struct arg_option options[] = {
        API_OPTIONS(call->options),
        {"--json", NULL, "Print JSON.", .on = &call->json},
    };
    const struct arg_spec spec = {
        .usage = usage,
        .about = about,
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    return output_begin(call, &spec, argc, argv);
}

int output_list(const struct listing *listing, int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = listing->usage,
        .about = listing->about,
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    json_t *rows;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    if (api_list(call.api, listing->what, "", &rows) == 0) {
        call.code = call.json ? output_json(rows) : listing->print(rows);
        json_decref(rows);
    }
    (void)api_close(call.api);
    return call.code;
}

void output_action(struct call *call, const char *action, json_t *params, const char *thing,
                   const char *done)
{
    json_t *response;
    if (api_action(call->api, action, params, &response) < 0) {
        return;
    }
    if (call->json) {
        call->code = output_json(response);
    } else {
        (void)printf("%s '%s' %s\n", thing, call->words.items[0], done);
        call->code = finish(0);
    }
    json_decref(response);
}

int output_show(const struct show *show, int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const size_t word_count = show->path[strlen(show->path) - 1] == '/';
    const struct arg_spec spec = {
        .usage = show->usage,
        .about = show->about,
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = word_count,
        .words_max = word_count,
    };
    json_t *page;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    if (api_get(call.api, show->path, word_count > 0 ? call.words.items[0] : NULL, &page) == 0) {
        call.code = call.json ? output_json(page) : show->print(page);
        json_decref(page);
    }
    (void)api_close(call.api);
    return call.code;
}

void output_add_texts(struct table *table, const json_t *value)
{
    struct strbuf out;
    strbuf_init(&out, CELL_MAX);
    strbuf_add(&out, json_is_string(value) ? json_string_value(value) : "");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *text = json_string_value(json_array_get(value, i));
        strbuf_addf(&out, "%s%s", i > 0 ? "," : "", text ? text : "");
    }
    table_add(table, out.text ? out.text : "");
    strbuf_done(&out);
}

json_t *output_texts(const struct arg_values *values)
{
    json_t *list = json_array();
    for (size_t i = 0; i < values->count; i++) {
        (void)json_array_append_new(list, json_string(values->items[i]));
    }
    return list;
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
