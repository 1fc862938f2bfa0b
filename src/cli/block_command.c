#include "cli/cli.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static const char *type_name(uint64_t type)
{
    static const char *const names[] = {"?", "client_id", "username", "ip_address"};
    return names[type < ARRAY_COUNT(names) ? type : 0];
}

static int print_blocks(const json_t *rows)
{
    static const char *const heads[] = {"NAME",     "SOURCE",  "TYPE",   "INCLUDE",
                                        "EXCLUDES", "EXPIRES", "REMARK", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "Name");
        output_add_field(&table, row, "Source");
        table_add(&table, type_name(output_number(row, "Type")));
        output_add_field(&table, row, "Include");
        output_add_texts(&table, json_object_get(row, "Excludes"));
        table_add_time(&table, output_number(row, "ExpireTime"));
        output_add_field(&table, row, "Remark");
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    static const struct listing listing = {
        .usage = "tidemq block list",
        .about = "Lists the block rules that have not expired.",
        .what = "blocks",
        .print = print_blocks,
    };
    return output_list(&listing, argc, argv);
}

static int add(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *patterns[3] = {NULL};
    const char *expires = NULL, *remark = NULL;
    struct arg_values excludes = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--client", "PATTERN", "Client IDs, with * and ?.", .value = &patterns[0]},
        {"--username", "PATTERN", "User names, likewise.", .value = &patterns[1]},
        {"--ip", "PATTERN", "Addresses, likewise, or a range such as 10.0.0.0/8.",
         .value = &patterns[2]},
        {"--except", "PATTERN", "Those that it is not about; up to three times.",
         .values = &excludes},
        {"--expires", "TIME", "When it ends by itself, such as 2026-12-31T23:59:59Z.",
         .value = &expires},
        {"--remark", "TEXT", "A note kept with the rule.", .value = &remark},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq block add NAME --client PATTERN | --username PATTERN | --ip PATTERN",
        .about = "Keeps clients out; those that are connected are disconnected.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    int type = 0, given = 0;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    for (int i = 0; i < 3; i++) {
        given += patterns[i] != NULL;
        type = patterns[i] ? i + 1 : type;
    }
    if (given != 1) {
        (void)fputs("tidemq: give one of --client, --username and --ip\n", stderr);
        (void)api_close(call.api);
        return EXIT_USAGE;
    }
    json_t *params =
        json_pack("{s:s,s:i,s:s,s:s*,s:s*}", "Name", call.words.items[0], "Type", type, "Include",
                  patterns[type - 1], "ExpireTime", expires, "Remark", remark);
    (void)json_object_set_new(params, "Excludes", output_texts(&excludes));
    output_action(&call, "CreateBlockRule", params, "block rule", "added");
    (void)api_close(call.api);
    return call.code;
}

static int remove_one(int argc, const char *const *argv)
{
    struct call call = {0};
    if (!output_begin_named(&call, "tidemq block remove NAME",
                            "Removes a block rule that was added.", argc, argv)) {
        return call.code;
    }
    output_action(&call, "DeleteBlockRule",
                  json_pack("{s:s}", "BlockRuleName", call.words.items[0]), "block rule",
                  "removed");
    (void)api_close(call.api);
    return call.code;
}

int block_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"list", "List the block rules.", list},
        {"add", "Add one.", add},
        {"remove", "Remove one that was added.", remove_one},
    };
    return output_dispatch("block", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
