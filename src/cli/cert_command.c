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
    static const struct listing listing = {
        .usage = "tidemq cert list",
        .about = "Lists the certificates and revocation lists in use, and when they expire.",
        .what = "certificates",
        .print = print_certificates,
    };
    return output_list(&listing, argc, argv);
}

int cert_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"list", "List the certificates of the listeners.", list},
    };
    return output_dispatch("cert", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
