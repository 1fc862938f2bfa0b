#include "cli/cli.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>

static const char *version_name(uint64_t version)
{
    switch (version) {
    case 3:
        return "3.1";
    case 4:
        return "3.1.1";
    case 5:
        return "5.0";
    default:
        return "?";
    }
}

static int print_clients(const json_t *rows)
{
    static const char *const heads[] = {"CLIENT ID",     "STATE",    "MQTT",  "ADDRESS",
                                        "SUBSCRIPTIONS", "INFLIGHT", "SINCE", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const bool online = json_is_true(json_object_get(row, "online"));
        output_add_field(&table, row, "client_id");
        table_add(&table, online ? "online" : "offline");
        table_add(&table, version_name(output_number(row, "version")));
        output_add_field(&table, row, "address");
        output_add_field(&table, row, "subscription_count");
        output_add_field(&table, row, "inflight");
        table_add_time(&table, output_number(row, online ? "connected_ms" : "disconnected_ms"));
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    struct call call = {0};
    bool online = false, offline = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--online", NULL, "Only clients that are connected.", .on = &online},
        {"--offline", NULL, "Only sessions whose client is away.", .on = &offline},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq client list",
        .about = "Lists clients and the sessions of clients that are away.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    json_t *rows;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    const char *one = online ? "&state=online" : "&state=offline";
    if (api_list(call.api, "clients", online == offline ? "" : one, &rows) == 0) {
        call.code = call.json ? output_json(rows) : print_clients(rows);
        json_decref(rows);
    }
    (void)api_close(call.api);
    return call.code;
}

static void add_client(struct table *table, const json_t *row)
{
    static const struct {
        const char *label, *name;
    } fields[] = {
        {"client ID", "client_id"},
        {"user name", "username"},
        {"online", "online"},
        {"address", "address"},
        {"keep alive s", "keep_alive_s"},
        {"clean start", "clean_start"},
        {"expiry s", "expiry_s"},
        {"in flight", "inflight"},
        {"trimmed", "trimmed"},
        {"will", "has_will"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        table_add(table, fields[i].label);
        output_add_field(table, row, fields[i].name);
    }
    table_add(table, "MQTT");
    table_add(table, version_name(output_number(row, "version")));
    table_add(table, "created");
    table_add_time(table, output_number(row, "created_ms"));
    table_add(table, "connected");
    table_add_time(table, output_number(row, "connected_ms"));
    table_add(table, "disconnected");
    table_add_time(table, output_number(row, "disconnected_ms"));
}

static int print_client(const json_t *row)
{
    static const char *const fields[] = {"", "", NULL};
    static const char *const heads[] = {"FILTER", "QOS", "LAG", "INFLIGHT", NULL};
    struct table table;
    table_init(&table, fields);
    add_client(&table, row);
    const int code = output_table(&table);
    const json_t *subscriptions = json_object_get(row, "subscriptions");
    if (code != EXIT_OK || json_array_size(subscriptions) == 0) {
        return code;
    }
    (void)putchar('\n');
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(subscriptions); i++) {
        const json_t *subscription = json_array_get(subscriptions, i);
        output_add_field(&table, subscription, "filter");
        output_add_field(&table, subscription, "qos");
        output_add_field(&table, subscription, "lag");
        output_add_field(&table, subscription, "inflight");
    }
    return output_table(&table);
}

static int show(int argc, const char *const *argv)
{
    static const struct show page = {
        .usage = "tidemq client show CLIENT-ID",
        .about = "Shows one client with its subscriptions.",
        .path = "/v1/clients/",
        .print = print_client,
    };
    return output_show(&page, argc, argv);
}

static int kick(int argc, const char *const *argv)
{
    struct call call = {0};
    bool delete_session = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--delete-session", NULL, "Delete its session and what waits for it too.",
         .on = &delete_session},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq client kick CLIENT-ID",
        .about = "Closes the connection of a client.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    json_t *params =
        json_pack("{s:s,s:b}", "ClientId", call.words.items[0], "DeleteSession", delete_session);
    output_action(&call, "KickOutClient", params, "client",
                  delete_session ? "disconnected, its session deleted" : "disconnected");
    (void)api_close(call.api);
    return call.code;
}

int client_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"list", "List clients and sessions.", list},
        {"show", "Show one with its subscriptions.", show},
        {"kick", "Close its connection.", kick},
    };
    return output_dispatch("client", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
