#include "cli/cli.h"
#include "cli/output.h"

#include <stdio.h>

static void add_listeners(struct table *table, const json_t *row)
{
    const json_t *listeners = json_object_get(row, "listeners");
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        table_add(table, "listener");
        table_add(table, json_string_value(json_array_get(listeners, i)));
    }
}

static void add_numbers(struct table *table, const json_t *metrics)
{
    static const struct {
        const char *label, *name;
    } rows[] = {
        {"connections", "connections"},
        {"clients online", "sessions_online"},
        {"sessions", "sessions"},
        {"subscriptions", "subscriptions"},
        {"topics", "topics"},
        {"retained messages", "retained"},
        {"messages in", "publish_received"},
        {"messages out", "publish_sent"},
        {"messages refused", "publish_refused"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        table_add(table, rows[i].label);
        output_add_field(table, metrics, rows[i].name);
    }
}

/* A limit that is off, and a use that each client has for itself, is a dash. */
static void add_limit_number(struct table *table, const json_t *row, const char *name)
{
    if (json_is_null(json_object_get(row, name))) {
        table_add(table, "-");
    } else {
        output_add_field(table, row, name);
    }
}

static int print_limits(const json_t *limits)
{
    static const char *const heads[] = {"LIMIT", "ALLOWED", "IN USE", "REFUSED", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(limits); i++) {
        const json_t *row = json_array_get(limits, i);
        output_add_field(&table, row, "name");
        add_limit_number(&table, row, "limit");
        add_limit_number(&table, row, "used");
        output_add_field(&table, row, "refused");
    }
    (void)putchar('\n');
    return output_table(&table);
}

static int print_status(const json_t *row)
{
    static const char *const heads[] = {"", "", NULL};
    static const char *const texts[] = {"version", "instance_id", "state"};
    const json_t *store = json_object_get(row, "store");
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        table_add(&table, texts[i]);
        output_add_field(&table, row, texts[i]);
    }
    table_add(&table, "up");
    table_add_duration(&table, output_number(row, "uptime_ms"));
    table_add(&table, "data_dir");
    output_add_field(&table, row, "data_dir");
    add_listeners(&table, row);
    add_numbers(&table, json_object_get(row, "metrics"));
    table_add(&table, "store writable");
    output_add_field(&table, store, "writable");
    if (json_is_false(json_object_get(store, "writable"))) {
        table_add(&table, "store reason");
        output_add_field(&table, store, "reason");
    }
    table_add(&table, "store on disk");
    table_add_size(&table, output_number(store, "disk_bytes"));
    const int code = output_table(&table);
    return code ? code : print_limits(json_object_get(row, "limits"));
}

int status_command(int argc, const char *const *argv)
{
    static const struct show status = {
        .usage = "tidemq status",
        .about = "Shows how a running server does.",
        .path = "/v1/status",
        .print = print_status,
    };
    return output_show(&status, argc, argv);
}
