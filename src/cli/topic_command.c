#include "cli/cli.h"
#include "cli/output.h"

#include <stdio.h>

/* What the topic commands share: options, the one name, a connection. */
struct topic_call {
    struct api_options options;
    struct api *api;
    const char *name, *remark;
    bool json, force;
};

/* Parses and connects. Returns true to go on, else with the exit code. */
static bool begin(const struct arg_spec *spec, struct topic_call *call, int argc,
                  const char *const *argv, int *ret_exit)
{
    struct arg_words words;
    const enum args_result result = args_parse(spec, argc, argv, &words);
    *ret_exit = result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    if (result != ARGS_GO) {
        return false;
    }
    call->name = words.count > 0 ? words.items[0] : NULL;
    *ret_exit = EXIT_FAILED;
    return api_open(&call->options, &call->api) == 0;
}

static int create(int argc, const char *const *argv)
{
    struct topic_call call = {.remark = ""};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--remark", "TEXT", "A note kept with the topic.", .value = &call.remark},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq topic create NAME",
        .about = "Creates a first-level topic.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    int code;
    if (!begin(&spec, &call, argc, argv, &code)) {
        return code;
    }
    json_t *response;
    json_t *params = json_pack("{s:s,s:s}", "Topic", call.name, "Remark", call.remark);
    if (api_action(call.api, "CreateTopic", params, &response) == 0) {
        code = EXIT_OK;
        if (call.json) {
            code = output_json(response);
        } else {
            (void)printf("topic '%s' created\n", call.name);
        }
        json_decref(response);
    }
    (void)api_close(call.api);
    return code;
}

static int print_topics(const json_t *rows)
{
    static const char *const heads[] = {"NAME",    "MESSAGES", "RETAINED", "SUBSCRIPTIONS",
                                        "CREATED", "REMARK",   NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "name");
        output_add_field(&table, row, "messages");
        output_add_field(&table, row, "retained");
        output_add_field(&table, row, "subscriptions");
        table_add_time(&table, output_number(row, "created_ms"));
        output_add_field(&table, row, "remark");
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    struct topic_call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq topic list",
        .about = "Lists the first-level topics.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    int code;
    json_t *rows;
    if (!begin(&spec, &call, argc, argv, &code)) {
        return code;
    }
    if (api_list(call.api, "topics", "", &rows) == 0) {
        code = call.json ? output_json(rows) : print_topics(rows);
        json_decref(rows);
    }
    (void)api_close(call.api);
    return code;
}

static int print_topic(const json_t *row)
{
    static const char *const heads[] = {"", "", NULL};
    static const char *const names[] = {"name", "remark", "messages", "retained", "subscriptions"};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        table_add(&table, names[i]);
        output_add_field(&table, row, names[i]);
    }
    table_add(&table, "created");
    table_add_time(&table, output_number(row, "created_ms"));
    return output_table(&table);
}

static int show(int argc, const char *const *argv)
{
    struct topic_call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq topic show NAME",
        .about = "Shows one first-level topic.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    int code;
    json_t *row;
    if (!begin(&spec, &call, argc, argv, &code)) {
        return code;
    }
    if (api_get(call.api, "/v1/topics/", call.name, &row) == 0) {
        code = call.json ? output_json(row) : print_topic(row);
        json_decref(row);
    }
    (void)api_close(call.api);
    return code;
}

static int delete (int argc, const char *const *argv)
{
    struct topic_call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--force", NULL, "Delete it although clients subscribe to it.", .on = &call.force},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq topic delete NAME",
        .about = "Deletes a first-level topic with its messages, retained messages and queues.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    int code;
    json_t *response;
    if (!begin(&spec, &call, argc, argv, &code)) {
        return code;
    }
    json_t *params = json_pack("{s:s,s:b}", "Topic", call.name, "Force", call.force);
    if (api_action(call.api, "DeleteTopic", params, &response) == 0) {
        code = EXIT_OK;
        if (call.json) {
            code = output_json(response);
        } else {
            (void)printf("topic '%s' deleted\n", call.name);
        }
        json_decref(response);
    }
    (void)api_close(call.api);
    return code;
}

int topic_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"create", "Create a first-level topic.", create},
        {"list", "List the first-level topics.", list},
        {"show", "Show one of them.", show},
        {"delete", "Delete one, with its messages.", delete},
    };
    return output_dispatch("topic", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
