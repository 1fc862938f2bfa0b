#include "app/commands.h"
#include "app/file_check.h"
#include "app/server.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HELP_MAX  (256u * 1024)
#define CLI_ADMIN "TIDEMQ_ADMIN" /* the other commands' own: where a server is */

static void warn_unknown(void *data, const char *variable)
{
    (void)data;
    const size_t size = strcspn(variable, "=");
    if (size == strlen(CLI_ADMIN) && memcmp(variable, CLI_ADMIN, size) == 0) {
        return;
    }
    (void)fprintf(stderr,
                  "tidemq: warning: the environment variable %.*s is no configuration key\n",
                  (int)size, variable);
}

static int run(const struct config_source *source, const struct config *config)
{
    struct server *server;
    struct errmsg why = {0};
    if (server_new(config, source, &server, &why) < 0) {
        (void)fprintf(stderr, "tidemq: could not start: %s\n", why.text);
        return EXIT_FAILED;
    }
    const int err = server_run(server);
    (void)server_free(server);
    return err < 0 ? EXIT_FAILED : EXIT_OK;
}

static int load_and_run(const struct config_source *source, bool check_only)
{
    struct config config;
    struct errmsg why = {0};
    if (config_load(source, warn_unknown, NULL, &config, &why) < 0) {
        (void)fprintf(stderr, "tidemq: %s\n", why.text);
        return EXIT_USAGE;
    }
    if (!check_only) {
        return run(source, &config);
    }
    const int err = file_check(&config, &why);
    config_done(&config);
    if (err < 0) {
        (void)fprintf(stderr, "tidemq: %s\n", why.text);
        return EXIT_USAGE;
    }
    (void)printf("the configuration is sound\n");
    return EXIT_OK;
}

int serve_command(int argc, const char *const *argv)
{
    const char *file = NULL;
    struct arg_values sets = {0};
    bool check_only = false;
    const struct arg_option options[] = {
        {"--config", "FILE", "The configuration file (YAML).", .value = &file},
        {"--set", "KEY=VALUE", "A value that wins over file and environment; repeatable.",
         .values = &sets},
        {"--check", NULL, "Only check the configuration.", .on = &check_only},
    };
    struct strbuf keys;
    strbuf_init(&keys, HELP_MAX);
    strbuf_add(&keys, "Keys, with their defaults:\n");
    config_help(&keys);
    strbuf_add(&keys, "\nExit code: 0 after an orderly stop, 1 when the server could not start or "
                      "had to cut its stop short,\n2 for wrong arguments or configuration.\n"
                      "Signals: SIGTERM and SIGINT stop, SIGHUP reads the configuration again.\n");
    const struct arg_spec spec = {
        .usage = "tidemq serve",
        .about = "Runs the server in the foreground.",
        .more = strbuf_err(&keys) == 0 ? keys.text : NULL,
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    struct arg_words words;
    const enum args_result result = args_parse(&spec, argc, argv, &words);
    strbuf_done(&keys);
    if (result != ARGS_GO) {
        return result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    }
    const struct config_source source = {
        .file = file,
        .sets = sets.items,
        .set_count = sets.count,
        .environment = environ,
    };
    return load_and_run(&source, check_only);
}
