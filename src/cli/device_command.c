/* Keys are shown by `add`, `rotate` and `show --keys` only. */
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KEY_FILE_MAX 1024u

/* --- what is printed
 * ------------------------------------------------------------------------------
 */

static int print_devices(const json_t *rows)
{
    static const char *const heads[] = {"DEVICE ID", "STATE", "CREATED", "CHANGED", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "id");
        table_add(&table, json_is_true(json_object_get(row, "enabled")) ? "enabled" : "disabled");
        table_add_time(&table, output_number(row, "created_ms"));
        table_add_time(&table, output_number(row, "changed_ms"));
    }
    return output_table(&table);
}

static int print_device(const json_t *row, bool keys)
{
    static const char *const heads[] = {"", "", NULL};
    struct table table;
    table_init(&table, heads);
    table_add(&table, "device ID");
    output_add_field(&table, row, "DeviceId");
    table_add(&table, "state");
    table_add(&table, output_number(row, "Status") == 1 ? "enabled" : "disabled");
    table_add(&table, "created");
    table_add_time(&table, output_number(row, "CreatedTime"));
    if (keys) {
        table_add(&table, "primary key");
        output_add_field(&table, row, "PrimaryKey");
        table_add(&table, "secondary key");
        output_add_field(&table, row, "SecondaryKey");
    }
    return output_table(&table);
}

/* Asks for the device and prints it. */
static int describe(struct call *call, const char *id, bool keys)
{
    json_t *row;
    if (api_action(call->api, "DescribeDeviceIdentity", json_pack("{s:s}", "DeviceId", id), &row) <
        0) {
        return EXIT_FAILED;
    }
    (void)json_object_del(row, "RequestId");
    if (!keys) {
        (void)json_object_del(row, "PrimaryKey");
        (void)json_object_del(row, "SecondaryKey");
    }
    const int code = call->json ? output_json(row) : print_device(row, keys);
    json_decref(row);
    return code;
}

/* --- commands
 * -------------------------------------------------------------------------------------
 */

/* What a command that changes a device does: an action, with parameters (taken). */
struct change {
    const char *usage, *about, *action, *said;
    bool shows_keys;
};

static int run_change(const struct change *change, json_t *params, int argc,
                      const char *const *argv)
{
    struct call call = {0};
    if (!output_begin_named(&call, change->usage, change->about, argc, argv)) {
        json_decref(params);
        return call.code;
    }
    const char *id = call.words.items[0];
    (void)json_object_set_new(params, "DeviceId", json_string(id));
    if (!change->shows_keys) {
        output_action(&call, change->action, params, "device", change->said);
    } else if (api_action(call.api, change->action, params, NULL) == 0) {
        call.code = describe(&call, id, true);
    }
    (void)api_close(call.api);
    return call.code;
}

/* Adds the one line of a file as a parameter; file NULL: nothing. */
static int add_key(json_t *params, const char *name, const char *file)
{
    char *text = NULL;
    size_t size = 0;
    if (!file) {
        return 0;
    }
    const int err = file_read_whole(AT_FDCWD, file, KEY_FILE_MAX, &text, &size);
    if (err < 0) {
        (void)fprintf(stderr, "tidemq: could not read the key file '%s': %s\n", file,
                      err_text(err));
        return err;
    }
    const size_t line = strcspn(text, "\r\n");
    (void)json_object_set_new(params, name, json_stringn(text, line));
    explicit_bzero(text, size);
    mem_free(text);
    return 0;
}

static int add(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *primary = NULL, *secondary = NULL;
    bool disabled = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--primary-key-file", "FILE",
         "A file with its primary key (base64), instead of a new one.", .value = &primary},
        {"--secondary-key-file", "FILE", "Likewise.", .value = &secondary},
        {"--disabled", NULL, "It may not connect yet.", .on = &disabled},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq device add DEVICE-ID",
        .about = "Adds a device and shows its two keys.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    const char *id = call.words.items[0];
    json_t *response;
    json_t *params =
        json_pack("{s:s,s:s}", "DeviceId", id, "Status", disabled ? "INACTIVE" : "ACTIVE");
    if (add_key(params, "PrimaryKey", primary) == 0 &&
        add_key(params, "SecondaryKey", secondary) == 0 &&
        api_action(call.api, "CreateDeviceIdentity", json_incref(params), &response) == 0) {
        call.code = describe(&call, id, true);
        json_decref(response);
    }
    json_decref(params);
    (void)api_close(call.api);
    return call.code;
}

static int list(int argc, const char *const *argv)
{
    static const struct listing listing = {
        .usage = "tidemq device list",
        .about = "Lists the devices.",
        .what = "devices",
        .print = print_devices,
    };
    return output_list(&listing, argc, argv);
}

static int show(int argc, const char *const *argv)
{
    struct call call = {0};
    bool keys = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--keys", NULL, "Its keys too.", .on = &keys},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq device show DEVICE-ID",
        .about = "Shows one device.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    call.code = describe(&call, call.words.items[0], keys);
    (void)api_close(call.api);
    return call.code;
}

static int remove_device(int argc, const char *const *argv)
{
    static const struct change change = {
        .usage = "tidemq device remove DEVICE-ID",
        .about = "Removes a device; its connection ends. Its session is kept as any other.",
        .action = "DeleteDeviceIdentity",
        .said = "removed",
    };
    return run_change(&change, json_object(), argc, argv);
}

static int enable(int argc, const char *const *argv)
{
    static const struct change change = {
        .usage = "tidemq device enable DEVICE-ID",
        .about = "Lets a device connect.",
        .action = "ModifyDeviceIdentity",
        .said = "enabled",
    };
    return run_change(&change, json_pack("{s:s}", "Status", "ACTIVE"), argc, argv);
}

static int disable(int argc, const char *const *argv)
{
    static const struct change change = {
        .usage = "tidemq device disable DEVICE-ID",
        .about = "Lets a device connect no more; its connection ends.",
        .action = "ModifyDeviceIdentity",
        .said = "disabled",
    };
    return run_change(&change, json_pack("{s:s}", "Status", "INACTIVE"), argc, argv);
}

static int rotate(int argc, const char *const *argv)
{
    static const struct change change = {
        .usage = "tidemq device rotate DEVICE-ID",
        .about = "Makes a new primary key and shows it; the old one becomes the secondary key, and "
                 "the old secondary key is worth nothing any more.",
        .action = "ModifyDeviceIdentity",
        .shows_keys = true,
    };
    return run_change(&change, json_pack("{s:b}", "Rotate", 1), argc, argv);
}

int device_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"add", "Add a device.", add},          {"list", "List the devices.", list},
        {"show", "Show one of them.", show},    {"remove", "Remove one.", remove_device},
        {"enable", "Let one connect.", enable}, {"disable", "Let one connect no more.", disable},
        {"rotate", "Make a new key.", rotate},
    };
    return output_dispatch("device", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
