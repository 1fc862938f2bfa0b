#include "app/commands.h"
#include "app/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int print_reference(int argc, const char *const *argv)
{
    const struct arg_spec spec = {
        .usage = "tidemq config reference",
        .about = "Prints the page of all configuration keys (docs/configuration.md).",
    };
    struct arg_words words;
    const enum args_result result = args_parse(&spec, argc, argv, &words);
    if (result != ARGS_GO) {
        return result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    }
    struct strbuf page;
    strbuf_init(&page, 1024 * 1024);
    config_reference(&page);
    const int err = strbuf_err(&page);
    if (err == 0) {
        (void)fputs(page.text, stdout);
    }
    strbuf_done(&page);
    return err == 0 && fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED;
}

static int check(int argc, const char *const *argv)
{
    struct arg_values sets = {0};
    const struct arg_option options[] = {
        {"--set", "KEY=VALUE", "A value that wins over the file; repeatable.", .values = &sets},
    };
    const struct arg_spec spec = {
        .usage = "tidemq config check FILE",
        .about =
            "Checks a configuration file, with the environment and --set as `serve` reads them.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    struct arg_words words;
    const enum args_result result = args_parse(&spec, argc, argv, &words);
    if (result != ARGS_GO) {
        return result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    }
    const struct config_source source = {
        .file = words.items[0],
        .sets = sets.items,
        .set_count = sets.count,
        .environment = environ,
    };
    struct config config;
    struct errmsg why = {0};
    if (config_load(&source, NULL, NULL, &config, &why) < 0) {
        (void)fprintf(stderr, "tidemq: %s\n", why.text);
        return EXIT_USAGE;
    }
    config_done(&config);
    (void)printf("%s: the configuration is sound\n", words.items[0]);
    return EXIT_OK;
}

int config_command(int argc, const char *const *argv)
{
    if (argc > 0 && strcmp(argv[0], "reference") == 0) {
        return print_reference(argc - 1, argv + 1);
    }
    if (argc > 0 && strcmp(argv[0], "check") == 0) {
        return check(argc - 1, argv + 1);
    }
    const bool help = argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0);
    (void)fputs("Usage: tidemq config reference | check FILE [--set KEY=VALUE]...\n",
                help ? stdout : stderr);
    return help ? EXIT_OK : EXIT_USAGE;
}
