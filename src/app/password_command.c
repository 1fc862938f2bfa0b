/* The password is read from stdin, without echo when that is a terminal; never from an argument,
 * which every user of the machine could read. */
#include "app/commands.h"
#include "auth/password.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_MAX 1024u

/* One line without its end. Returns its size, or -1 at the end of input or when it is too long. */
static ssize_t read_line(char line[PASSWORD_MAX + 2])
{
    if (!fgets(line, (int)PASSWORD_MAX + 2, stdin)) {
        return -1;
    }
    size_t size = strlen(line);
    if (size > PASSWORD_MAX) {
        return -1;
    }
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) {
        line[--size] = '\0';
    }
    return (ssize_t)size;
}

static ssize_t ask_hidden(const char *prompt, char line[PASSWORD_MAX + 2])
{
    struct termios before, hidden;
    (void)fputs(prompt, stderr);
    (void)fflush(stderr);
    const bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        hidden = before;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    }
    const ssize_t size = read_line(line);
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        (void)fputs("\n", stderr);
    }
    return size;
}

/* Asks twice at a terminal, reads one line otherwise. */
static ssize_t read_password(char line[PASSWORD_MAX + 2])
{
    if (!isatty(STDIN_FILENO)) {
        return read_line(line);
    }
    char again[PASSWORD_MAX + 2];
    const ssize_t size = ask_hidden("Password: ", line);
    if (size < 0) {
        return size;
    }
    const ssize_t again_size = ask_hidden("Again: ", again);
    const bool same = size == again_size && memcmp(line, again, (size_t)size) == 0;
    explicit_bzero(again, sizeof(again));
    if (!same) {
        (void)fputs("tidemq: the two passwords differ; try again\n", stderr);
        return -1;
    }
    return size;
}

static int set(const char *file, const char *user)
{
    char line[PASSWORD_MAX + 2];
    const ssize_t size = read_password(line);
    if (size <= 0) {
        (void)fprintf(stderr,
                      "tidemq: no password was given; type one of 1 to %u bytes, or pipe it in\n",
                      PASSWORD_MAX);
        return EXIT_FAILED;
    }
    struct errmsg why = {0};
    const int err = password_file_set(file, user, slice_of(line, (size_t)size), &why);
    explicit_bzero(line, sizeof(line));
    if (err < 0) {
        (void)fprintf(stderr, "tidemq: could not set the password of '%s': %s\n", user,
                      why.text[0] == '\0' ? err_text(err) : why.text);
        return EXIT_FAILED;
    }
    (void)printf("%s: password of '%s' set; a running server reads it on SIGHUP\n", file, user);
    return EXIT_OK;
}

int password_command(int argc, const char *const *argv)
{
    const struct arg_spec spec = {
        .usage = "tidemq password set FILE USER",
        .about =
            "Adds a user to a password file, or changes the user's password, which is read from "
            "stdin.",
        .words_min = 3,
        .words_max = 3,
    };
    struct arg_words words;
    const enum args_result result = args_parse(&spec, argc, argv, &words);
    if (result != ARGS_GO) {
        return result == ARGS_HELP ? EXIT_OK : EXIT_USAGE;
    }
    if (strcmp(words.items[0], "set") != 0) {
        (void)fprintf(stderr, "tidemq: unknown command 'password %s'; usage: %s\n", words.items[0],
                      spec.usage);
        return EXIT_USAGE;
    }
    return set(words.items[1], words.items[2]);
}
