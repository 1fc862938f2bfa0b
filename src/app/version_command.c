#include "app/commands.h"
#include "base/strbuf.h"

#include <stdio.h>

int version_command(int argc, const char *const *argv)
{
    bool json = false;
    const struct arg_option options[] = {
        {"--json", NULL, "Print JSON.", .on = &json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq version",
        .about = "Prints the version of this program.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    struct arg_words words;
    const enum args_result result = args_parse(&spec, argc, argv, &words);
    if (result != ARGS_GO) {
        return result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    }
    (void)printf(json ? "{\"version\": \"%s\"}\n" : "tidemq %s\n", TIDEMQ_VERSION);
    return EXIT_OK;
}
