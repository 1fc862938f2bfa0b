#include "cli/cli.h"
#include "cli/output.h"
#include "cli/pem.h"

#include <stdio.h>

static int print_certificates(const json_t *rows)
{
    static const char *const heads[] = {"SERIAL NUMBER", "COMMON NAME", "CLIENT ID", "STATE",
                                        "SOURCE",        "CA",          "EXPIRES",   NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "sn");
        output_add_field(&table, row, "common_name");
        output_add_field(&table, row, "client_id");
        output_add_field(&table, row, "state");
        output_add_field(&table, row, "source");
        output_add_field(&table, row, "ca_sn");
        table_add_time(&table, output_number(row, "not_after_s") * 1000);
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    static const struct listing listing = {
        .usage = "tidemq device-cert list",
        .about = "Lists the registered certificates of devices.",
        .what = "device-certificates",
        .print = print_certificates,
    };
    return output_list(&listing, argc, argv);
}

static int add(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *ca = NULL, *client_id = NULL;
    bool inactive = false;
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--ca", "SERIAL-NUMBER", "The registered CA that has signed it.", .value = &ca},
        {"--client-id", "ID", "The only client ID it may use; else that of its first connection.",
         .value = &client_id},
        {"--inactive", NULL, "It may not connect yet.", .on = &inactive},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq device-cert register FILE --ca SERIAL-NUMBER",
        .about = "Registers the certificate of a device, and shows its serial number.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    call.code = EXIT_FAILED;
    json_t *params =
        json_pack("{s:s,s:s*}", "Status", inactive ? "INACTIVE" : "ACTIVE", "ClientId", client_id);
    if (!ca) {
        call.code = EXIT_USAGE;
        (void)fprintf(stderr, "tidemq: --ca is needed: a serial number of 'tidemq ca list'\n");
        json_decref(params);
    } else if (pem_add(params, "DeviceCertificate", call.words.items[0]) < 0) {
        json_decref(params);
    } else {
        (void)json_object_set_new(params, "CaSn", json_string(ca));
        pem_register(&call, "RegisterDeviceCertificate", params, "DeviceCertificateSn");
    }
    (void)api_close(call.api);
    return call.code;
}

static int show(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq device-cert show SERIAL-NUMBER",
        .about = "Shows one certificate.",
        .action = "DescribeDeviceCertificate",
    };
    return pem_show(&it, "DeviceCertificateSn", argc, argv);
}

static int change(const struct pem_change *change, int argc, const char *const *argv)
{
    return pem_run_change(change, "DeviceCertificateSn", "certificate", argc, argv);
}

static int activate(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq device-cert activate SERIAL-NUMBER",
        .about = "Lets a device connect with its certificate.",
        .action = "ActivateDeviceCertificate",
        .said = "activated",
    };
    return change(&it, argc, argv);
}

static int deactivate(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq device-cert deactivate SERIAL-NUMBER",
        .about = "Lets it connect no more until it is activated; its connection ends.",
        .action = "DeactivateDeviceCertificate",
        .said = "deactivated",
    };
    return change(&it, argc, argv);
}

static int revoke(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq device-cert revoke SERIAL-NUMBER",
        .about = "Lets it never connect again; its connection ends.",
        .action = "RevokedDeviceCertificate",
        .said = "revoked",
    };
    return change(&it, argc, argv);
}

static int remove_certificate(int argc, const char *const *argv)
{
    static const struct pem_change it = {
        .usage = "tidemq device-cert remove SERIAL-NUMBER",
        .about =
            "Forgets a certificate; its connection ends. Where certificates register themselves, "
            "it can come back: revoke it to keep it out.",
        .action = "DeleteDeviceCertificate",
        .said = "removed",
    };
    return change(&it, argc, argv);
}

int device_cert_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"register", "Register a certificate.", add},
        {"list", "List the registered certificates.", list},
        {"show", "Show one of them.", show},
        {"activate", "Let a device connect.", activate},
        {"deactivate", "Let it connect no more.", deactivate},
        {"revoke", "Let it never connect again.", revoke},
        {"remove", "Forget a certificate.", remove_certificate},
    };
    return output_dispatch("device-cert", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
