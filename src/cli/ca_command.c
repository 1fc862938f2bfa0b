#include "cli/cli.h"
#include "cli/output.h"
#include "cli/pem.h"

#include <stdio.h>

static int print_cas(const json_t *rows)
{
    static const char *const heads[] = {"SERIAL NUMBER", "SUBJECT", "STATE",
                                        "DEVICES",       "EXPIRES", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "sn");
        output_add_field(&table, row, "subject");
        output_add_field(&table, row, "state");
        output_add_field(&table, row, "devices");
        table_add_time(&table, output_number(row, "not_after_s") * 1000);
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    static const struct listing listing = {
        .usage = "tidemq ca list",
        .about = "Lists the registered CAs.",
        .what = "cas",
        .print = print_cas,
    };
    return output_list(&listing, argc, argv);
}

static int code(int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq ca code",
        .about = "Makes a registration code and shows it: the common name of the verification "
                 "certificate of a CA that is to be registered. The code before counts no more.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    pem_register(&call, "ApplyRegistrationCode", json_object(), "RegistrationCode");
    (void)api_close(call.api);
    return call.code;
}

static int add(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *verification = NULL;
    bool inactive = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--verification", "FILE",
         "A certificate (PEM) signed by the CA whose common name is the registration code.",
         .value = &verification},
        {"--inactive", NULL, "It does not count yet.", .on = &inactive},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq ca register CA-FILE --verification FILE",
        .about = "Registers a CA whose devices may connect, and shows its serial number.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    call.code = EXIT_FAILED;
    json_t *params = json_pack("{s:s}", "Status", inactive ? "INACTIVE" : "ACTIVE");
    if (!verification) {
        call.code = EXIT_USAGE;
        (void)fprintf(stderr, "tidemq: --verification is needed: a certificate signed by the CA, "
                              "with the output of 'tidemq ca code' as its common name\n");
        json_decref(params);
    } else if (pem_add(params, "CaCertificate", call.words.items[0]) < 0 ||
               pem_add(params, "VerificationCertificate", verification) < 0) {
        json_decref(params);
    } else {
        pem_register(&call, "RegisterCaCertificate", params, "CaSn");
    }
    (void)api_close(call.api);
    return call.code;
}

static int show(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq ca show SERIAL-NUMBER",
        .about = "Shows one CA.",
        .action = "DescribeCaCertificate",
    };
    return pem_show(&it, "CaSn", argc, argv);
}

/* An action about one CA. */
static int change(const struct pem_change *change, int argc, const char *const *argv)
{
    return pem_run_change(change, "CaSn", "CA", argc, argv);
}

static int activate(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq ca activate SERIAL-NUMBER",
        .about = "Lets the devices of a CA connect.",
        .action = "ActivateCaCertificate",
        .said = "activated",
    };
    return change(&it, argc, argv);
}

static int deactivate(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq ca deactivate SERIAL-NUMBER",
        .about = "Lets the devices of a CA connect no more; their connections end.",
        .action = "DeactivateCaCertificate",
        .said = "deactivated",
    };
    return change(&it, argc, argv);
}

static int remove_ca(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq ca remove SERIAL-NUMBER",
        .about = "Removes a CA; certificates that it has signed must be removed first.",
        .action = "DeleteCaCertificate",
        .said = "removed",
    };
    return change(&it, argc, argv);
}

int ca_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"code", "Make a registration code.", code},
        {"register", "Register a CA.", add},
        {"list", "List the registered CAs.", list},
        {"show", "Show one of them.", show},
        {"activate", "Let its devices connect.", activate},
        {"deactivate", "Let its devices connect no more.", deactivate},
        {"remove", "Remove one.", remove_ca},
    };
    return output_dispatch("ca", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
