#include "cli/pem.h"

#include "base/mem.h"
#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PEM_FILE_MAX (64u * 1024)

int pem_add(json_t *params, const char *name, const char *file)
{
    char *text = NULL;
    size_t size = 0;
    const int err = file_read_whole(AT_FDCWD, file, PEM_FILE_MAX, &text, &size);
    if (err < 0) {
        (void)fprintf(stderr, "tidemq: could not read the certificate '%s': %s\n", file,
                      err_text(err));
        return err;
    }
    json_t *value = json_stringn(text, size);
    mem_free(text);
    if (!value) {
        (void)fprintf(stderr, "tidemq: '%s' is not PEM; convert it: openssl x509 -inform DER\n",
                      file);
        return ERR_INVALID;
    }
    (void)json_object_set_new(params, name, value);
    return 0;
}

void pem_register(struct call *call, const char *action, json_t *params, const char *sn)
{
    json_t *response;
    if (api_action(call->api, action, params, &response) < 0) {
        call->code = EXIT_FAILED;
        return;
    }
    if (call->json) {
        call->code = output_json(response);
    } else {
        (void)printf("%s\n", json_string_value(json_object_get(response, sn)));
        call->code = EXIT_OK;
    }
    json_decref(response);
}

/* Texts as they are, times as times. */
static int print_fields(const json_t *row)
{
    static const char *const heads[] = {"", "", NULL};
    const char *name;
    json_t *value;
    struct table table;
    table_init(&table, heads);
    json_object_foreach((json_t *)row, name, value)
    {
        const char *text = json_string_value(value);
        if (text && strchr(text, '\n')) {
            continue; /* PEM: with --json */
        }
        table_add(&table, name);
        if (text) {
            table_add(&table, text);
        } else {
            table_add_time(&table, output_number(row, name));
        }
    }
    return output_table(&table);
}

int pem_show(const struct pem_change *show, const char *sn, int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON, with the certificate in PEM.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = show->usage,
        .about = show->about,
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    json_t *row;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    call.code = EXIT_FAILED;
    if (api_action(call.api, show->action, json_pack("{s:s}", sn, call.words.items[0]), &row) ==
        0) {
        (void)json_object_del(row, "RequestId");
        call.code = call.json ? output_json(row) : print_fields(row);
        json_decref(row);
    }
    (void)api_close(call.api);
    return call.code;
}

int pem_run_change(const struct pem_change *change, const char *sn, const char *thing, int argc,
                   const char *const *argv)
{
    struct call call = {0};
    if (!output_begin_named(&call, change->usage, change->about, argc, argv)) {
        return call.code;
    }
    output_action(&call, change->action, json_pack("{s:s}", sn, call.words.items[0]), thing,
                  change->said);
    (void)api_close(call.api);
    return call.code;
}
