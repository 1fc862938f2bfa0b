#include "cli/cli.h"
#include "cli/output.h"
#include "store/local/local.h"

#include <stdio.h>
#include <unistd.h>

/* Gathers the lines of a check, for people at once, for JSON in a list. */
static void on_line(void *data, const char *line)
{
    json_t *lines = data;
    if (lines) {
        (void)json_array_append_new(lines, json_string(line));
    } else {
        (void)printf("%s\n", line);
    }
}

static int report(int err, const struct errmsg *why, json_t *lines)
{
    const bool sound = err == 0;
    if (lines) {
        json_t *answer = json_pack("{s:b,s:o}", "sound", sound, "report", lines);
        const int code = output_json(answer);
        json_decref(answer);
        if (code != EXIT_OK) {
            return code;
        }
    }
    if (!sound) {
        (void)fprintf(stderr, "tidemq: %s\n", why->text[0] != '\0' ? why->text : err_text(err));
    }
    return sound ? EXIT_OK : EXIT_FAILED;
}

static int check(int argc, const char *const *argv)
{
    bool json = false;
    const struct arg_option options[] = {
        {"--json", NULL, "Print JSON.", .on = &json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq store check DIR",
        .about =
            "Reads a data directory from end to end and reports damage. It changes nothing; the\n"
            "server must not run. Exit code 0: sound; 1: damaged, or it cannot be read.",
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
    struct errmsg why = {0};
    json_t *lines = json ? json_array() : NULL;
    const int err = local_check(words.items[0], on_line, lines, &why);
    return report(err, &why, lines);
}

/* --- repair -------------------------------------------------------------------------------- */

struct repair_answer {
    json_t *lines; /* NULL: for people */
    bool yes, asked_nobody;
};

static void on_repair_line(void *data, const char *line)
{
    const struct repair_answer *answer = data;
    on_line(answer->lines, line);
}

/* The plan has been told: --yes, or who sits at the terminal, decides. */
static bool on_go(void *data)
{
    struct repair_answer *answer = data;
    if (answer->yes)
        return true;
    if (answer->lines || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        answer->asked_nobody = true;
        return false;
    }
    char line[16] = "";
    (void)printf("Do this? [y/N] ");
    (void)fflush(stdout);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static int repair(int argc, const char *const *argv)
{
    bool json = false;
    struct repair_answer answer = {0};
    const struct arg_option options[] = {
        {"--yes", NULL, "Do it without asking.", .on = &answer.yes},
        {"--json", NULL, "Print JSON.", .on = &json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq store repair DIR",
        .about =
            "Mends a damaged data directory. It says first what it will drop and rebuild, and "
            "does\n"
            "it after a yes at the terminal, or with --yes; otherwise it changes nothing. The\n"
            "damaged files are kept in a folder of their own, damaged-<time>. The server must not\n"
            "run. Exit code 0: sound, or repaired; 1: damaged still, or it cannot be repaired.",
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
    struct errmsg why = {0};
    answer.lines = json ? json_array() : NULL;
    const struct local_repair how = {
        .dir = words.items[0], .report = on_repair_line, .go = on_go, .data = &answer};
    const int err = local_repair(&how, &why);
    if (err == ERR_CORRUPT) {
        errmsg_wrap(&why, answer.asked_nobody ? "nothing was changed; --yes does what is said above"
                                              : "nothing was changed");
    }
    return report(err, &why, answer.lines);
}

static int print_stats(const json_t *row)
{
    static const char *const heads[] = {"", "", NULL};
    struct table table;
    table_init(&table, heads);
    table_add(&table, "engine");
    output_add_field(&table, row, "engine");
    table_add(&table, "writable");
    output_add_field(&table, row, "writable");
    if (json_is_false(json_object_get(row, "writable"))) {
        table_add(&table, "reason");
        output_add_field(&table, row, "reason");
    }
    table_add(&table, "live log");
    table_add_size(&table, output_number(row, "log_bytes"));
    table_add(&table, "on disk");
    table_add_size(&table, output_number(row, "disk_bytes"));
    static const char *const numbers[] = {"segments", "index_files", "first_position",
                                          "head_position", "applied_position"};
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        table_add(&table, numbers[i]);
        output_add_field(&table, row, numbers[i]);
    }
    return output_table(&table);
}

static int stats(int argc, const char *const *argv)
{
    static const struct show store = {
        .usage = "tidemq store stats",
        .about = "Shows what the storage engine of a running server holds.",
        .path = "/v1/store",
        .print = print_stats,
    };
    return output_show(&store, argc, argv);
}

int store_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"check", "Look for damage in a data directory.", check},
        {"repair", "Mend a damaged data directory.", repair},
        {"stats", "Show what a running server's store holds.", stats},
    };
    return output_dispatch("store", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
