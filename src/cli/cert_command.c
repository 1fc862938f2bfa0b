#include "cli/cli.h"
#include "cli/output.h"

#include <time.h>

#define DAY_S (24 * 3600)

static int print_certificates(const json_t *rows)
{
    static const char *const heads[] = {"LISTENER", "USE",  "SUBJECT", "NAMES",
                                        "EXPIRES",  "DAYS", "FILE",    NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const uint64_t end_s = output_number(row, "not_after_s");
        output_add_field(&table, row, "listener");
        output_add_field(&table, row, "use");
        output_add_field(&table, row, "subject");
        output_add_field(&table, row, "names");
        table_add_time(&table, end_s * 1000);
        if (end_s == 0) {
            table_add(&table, "-");
        } else {
            table_addf(&table, "%lld", ((long long)end_s - (long long)time(NULL)) / DAY_S);
        }
        output_add_field(&table, row, "file");
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq cert list",
        .about = "Lists the certificates and revocation lists in use, and when they expire.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    json_t *rows;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    if (api_list(call.api, "certificates", "", &rows) == 0) {
        call.code = call.json ? output_json(rows) : print_certificates(rows);
        json_decref(rows);
    }
    (void)api_close(call.api);
    return call.code;
}

int cert_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"list", "List the certificates of the listeners.", list},
    };
    return output_dispatch("cert", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
