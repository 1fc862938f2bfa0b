#include "cli/cli.h"
#include "cli/output.h"

#include <stdio.h>

static int create(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *remark = "";
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--remark", "TEXT", "A note kept with the topic.", .value = &remark},
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
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    json_t *params = json_pack("{s:s,s:s}", "Topic", call.words.items[0], "Remark", remark);
    output_action(&call, "CreateTopic", params, "topic", "created");
    (void)api_close(call.api);
    return call.code;
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
    static const struct listing listing = {
        .usage = "tidemq topic list",
        .about = "Lists the first-level topics.",
        .what = "topics",
        .print = print_topics,
    };
    return output_list(&listing, argc, argv);
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
    static const struct show page = {
        .usage = "tidemq topic show NAME",
        .about = "Shows one first-level topic.",
        .path = "/v1/topics/",
        .print = print_topic,
    };
    return output_show(&page, argc, argv);
}

static int delete (int argc, const char *const *argv)
{
    struct call call = {0};
    bool force = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--force", NULL, "Delete it although clients subscribe to it.", .on = &force},
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
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    json_t *params = json_pack("{s:s,s:b}", "Topic", call.words.items[0], "Force", force);
    output_action(&call, "DeleteTopic", params, "topic", "deleted");
    (void)api_close(call.api);
    return call.code;
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
