/* The one program: finds the command and runs it. */
#include "app/commands.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    const char *about;
    int (*run)(int argc, const char *const *argv);
};

static const struct command commands[] = {
    {"serve", "Run the server.", serve_command},
    {"status", "Show how a running server does.", status_command},
    {"topic", "Create, list, show and delete first-level topics.", topic_command},
    {"client", "List, show and disconnect clients.", client_command},
    {"cert", "List the certificates of the listeners.", cert_command},
    {"device", "Add, list, show, change and remove devices with keys of their own.",
     device_command},
    {"ca", "Register, list, show, change and remove CAs of devices' certificates.", ca_command},
    {"device-cert", "Register, list, show, change and remove certificates of devices.",
     device_cert_command},
    {"policy", "List, add, remove and test what clients may do.", policy_command},
    {"block", "List, add and remove clients that are kept out.", block_command},
    {"store", "Check a data directory; show what a store holds.", store_command},
    {"password", "Set a user's password in a password file.", password_command},
    {"config", "Print the configuration reference; check a file.", config_command},
    {"version", "Print the version.", version_command},
};

static void print_help(FILE *out)
{
    (void)fputs("TideMQ: a durable MQTT server.\n\nUsage: tidemq COMMAND [OPTIONS]\n\nCommands:\n",
                out);
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        (void)fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].about);
    }
    (void)fputs(
        "\n`tidemq COMMAND --help` tells more.\n\n"
        "Exit code: 0 when the command succeeded, 1 when it did not, 2 for wrong arguments or\n"
        "configuration.\n",
        out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run(argc - 2, (const char *const *)argv + 2);
        }
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        return version_command(0, NULL);
    }
    if (name[0] != '\0') {
        (void)fprintf(stderr, "tidemq: unknown command '%s'\n\n", name);
    }
    print_help(stderr);
    return EXIT_USAGE;
}
