#include "options.h"
#include "packet.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: tidemq-loadgen PATTERN --port PORT [option]...\n"
    "\n"
    "patterns:\n"
    "  fan       every subscriber gets every message of every publisher\n"
    "  pairs     publisher i to subscriber i\n"
    "  backlog   publish while durable subscribers are away, then let them drain (QoS 1)\n"
    "  idle      hold connections that do nothing\n"
    "  connect   connect and disconnect as fast as possible\n"
    "  sessions  leave many durable sessions behind, each with one filter (QoS 1)\n"
    "  filters   many filters with wildcards, four of which match each message\n"
    "  retained  set retained messages, then let subscribers ask for all (QoS 1)\n"
    "\n"
    "options (default):\n"
    "  --host ADDRESS          the server's IPv4 address (127.0.0.1)\n"
    "  --port PORT             the server's port (1883)\n"
    "  --protocol 4|5          MQTT 3.1.1 or 5.0 (4)\n"
    "  --qos 0|1|2             of publishers and subscriptions (0)\n"
    "  --publishers N          (100)\n"
    "  --subscribers N         (1; in pairs, as many as publishers)\n"
    "  --count N               messages published by all, or connections, sessions (100000)\n"
    "  --payload BYTES         at least 16 (256)\n"
    "  --window N              unacknowledged messages per publisher (100)\n"
    "  --batch N               messages per write (10)\n"
    "  --lag-max N             pause when so many published messages are undelivered;\n"
    "                          0: never (10000)\n"
    "  --rate N                messages per second of all publishers; 0: no limit (0)\n"
    "  --burst N               messages per write when there is a rate (1)\n"
    "  --persistent            subscribers keep their sessions\n"
    "  --phase both|publish|drain  backlog and retained: one half of it, for a kill in\n"
    "                          between (both)\n"
    "  --connections N         idle: how many; connect, sessions: at a time (1000; 64)\n"
    "  --subscribe             idle: each connection subscribes to one filter\n"
    "  --resume                sessions: all must be there already\n"
    "  --stride N              sessions: number every Nth only, to look for some (1)\n"
    "  --filters N             filters: of all subscribers together (1000)\n"
    "  --topics N              filters: so many different topics; 0: all that match (0)\n"
    "  --hold SECONDS          idle: stay connected for so long (0)\n"
    "  --source-addresses N    connect from N addresses after 127.0.0.1; 0: any (0)\n"
    "  --timeout SECONDS       give up after so long without progress (10)\n"
    "  --settle MS             count the server's CPU for so long after the end (200)\n"
    "  --server-pid PID        report this process's CPU and memory\n"
    "  --id TEXT               start of all client identifiers (loadgen)\n"
    "  --topic TEXT            start of all topics (bench)\n"
    "  --username TEXT, --password TEXT\n"
    "  --websocket             connect by WebSocket, with the path /mqtt\n"
    "  --tls                   connect by TLS\n"
    "  --tls-resume            connect: again with the ticket of the connection before\n"
    "  --json                  print one JSON object\n"
    "\n"
    "Exits with 0 when everything was delivered and acknowledged, else with 1.\n";

enum kind {
    KIND_NUMBER, /* uint32_t */
    KIND_TEXT,   /* const char * */
    KIND_FLAG,   /* bool */
};

static const struct key {
    const char *name;
    enum kind kind;
    size_t offset; /* of its field in struct options */
    uint32_t min;
    uint32_t max;
} keys[] = {
    {"port", KIND_NUMBER, offsetof(struct options, port), 1, 65535},
    {"protocol", KIND_NUMBER, offsetof(struct options, version), 4, 5},
    {"qos", KIND_NUMBER, offsetof(struct options, qos), 0, 2},
    {"publishers", KIND_NUMBER, offsetof(struct options, publishers), 1, 100000},
    {"subscribers", KIND_NUMBER, offsetof(struct options, subscribers), 0, 100000},
    {"count", KIND_NUMBER, offsetof(struct options, count), 1, UINT32_MAX},
    {"payload", KIND_NUMBER, offsetof(struct options, payload_size), 16, 64 << 20},
    {"window", KIND_NUMBER, offsetof(struct options, window), 1, 65535},
    {"batch", KIND_NUMBER, offsetof(struct options, batch), 1, 65535},
    {"lag-max", KIND_NUMBER, offsetof(struct options, lag_max), 0, UINT32_MAX},
    {"rate", KIND_NUMBER, offsetof(struct options, rate), 0, 100000000},
    {"burst", KIND_NUMBER, offsetof(struct options, burst), 1, 65535},
    {"stride", KIND_NUMBER, offsetof(struct options, stride), 1, 1000000},
    {"filters", KIND_NUMBER, offsetof(struct options, filters), 4, PACKET_NUMBER_MAX},
    {"topics", KIND_NUMBER, offsetof(struct options, topics), 0, PACKET_NUMBER_MAX},
    {"connections", KIND_NUMBER, offsetof(struct options, connections), 1, 1000000},
    {"hold", KIND_NUMBER, offsetof(struct options, hold_s), 0, 86400},
    {"source-addresses", KIND_NUMBER, offsetof(struct options, source_addresses), 0, 65535},
    {"timeout", KIND_NUMBER, offsetof(struct options, timeout_s), 1, 3600},
    {"settle", KIND_NUMBER, offsetof(struct options, settle_ms), 0, 60000},
    {"server-pid", KIND_NUMBER, offsetof(struct options, server_pid), 1, INT32_MAX},
    {"host", KIND_TEXT, offsetof(struct options, host), 0, 0},
    {"phase", KIND_TEXT, offsetof(struct options, phase_name), 0, 0},
    {"id", KIND_TEXT, offsetof(struct options, id_prefix), 0, 0},
    {"topic", KIND_TEXT, offsetof(struct options, topic_prefix), 0, 0},
    {"username", KIND_TEXT, offsetof(struct options, username), 0, 0},
    {"password", KIND_TEXT, offsetof(struct options, password), 0, 0},
    {"persistent", KIND_FLAG, offsetof(struct options, persistent), 0, 0},
    {"subscribe", KIND_FLAG, offsetof(struct options, subscribe_idle), 0, 0},
    {"resume", KIND_FLAG, offsetof(struct options, resume), 0, 0},
    {"websocket", KIND_FLAG, offsetof(struct options, websocket), 0, 0},
    {"tls", KIND_FLAG, offsetof(struct options, tls), 0, 0},
    {"tls-resume", KIND_FLAG, offsetof(struct options, tls_resume), 0, 0},
    {"json", KIND_FLAG, offsetof(struct options, json), 0, 0},
    {"help", KIND_FLAG, offsetof(struct options, help), 0, 0},
};

#define KEY_COUNT (sizeof keys / sizeof *keys)

static const char *const pattern_names[] = {
    [PATTERN_FAN] = "fan",         [PATTERN_PAIRS] = "pairs",       [PATTERN_BACKLOG] = "backlog",
    [PATTERN_IDLE] = "idle",       [PATTERN_CONNECT] = "connect",   [PATTERN_SESSIONS] = "sessions",
    [PATTERN_FILTERS] = "filters", [PATTERN_RETAINED] = "retained",
};

static const char *const phase_names[] = {
    [PHASE_BOTH] = "both",
    [PHASE_PUBLISH] = "publish",
    [PHASE_DRAIN] = "drain",
};

const char *options_pattern_name(enum pattern pattern)
{
    return pattern_names[pattern];
}

/* Returns the index of `text` among `count` names, or -1. */
static int find_name(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0)
            return i;
    }
    return -1;
}

static bool parse_number(const struct key *key, const char *text, uint32_t *ret_value)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *text == '\0' || *text == '-' || *end != '\0' || value < key->min ||
        value > key->max) {
        fprintf(stderr, "tidemq-loadgen: --%s takes a number from %u to %u, not '%s'\n", key->name,
                key->min, key->max, text);
        return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

static bool set_key(struct options *options, const struct key *key, const char *text)
{
    void *field = (char *)options + key->offset;
    if (key->kind == KIND_NUMBER)
        return parse_number(key, text, field);
    if (key->kind == KIND_TEXT)
        *(const char **)field = text;
    else
        *(bool *)field = true;
    return true;
}

/* Sets what the pattern demands, and its own defaults. */
static void settle_pattern(struct options *options)
{
    const enum pattern pattern = options->pattern;
    const bool lasts = pattern == PATTERN_BACKLOG || pattern == PATTERN_SESSIONS;
    if (lasts)
        options->persistent = true;
    if ((lasts || pattern == PATTERN_RETAINED) && options->qos == 0)
        options->qos = 1;
    if (pattern == PATTERN_PAIRS)
        options->subscribers = options->publishers;
    if (pattern == PATTERN_BACKLOG || pattern == PATTERN_RETAINED)
        options->subscribers = options->subscribers > 0 ? options->subscribers : 1;
    if (options->connections == 0)
        options->connections = pattern == PATTERN_IDLE ? 1000 : 64;
}

/* The filters pattern needs four kinds of sessions, each with at least one filter. */
static bool check_filters(const struct options *options)
{
    if (options->pattern != PATTERN_FILTERS ||
        (options->subscribers % 4 == 0 && options->filters % 4 == 0 && options->subscribers > 0 &&
         options->subscribers <= options->filters))
        return true;
    fputs("tidemq-loadgen: filters takes --filters and --subscribers that are multiples of 4, and "
          "at least a filter per subscriber\n",
          stderr);
    return false;
}

/* Makes the options fit each other, or says why they cannot. */
static bool settle_options(struct options *options)
{
    const int phase = find_name(phase_names, PHASE_COUNT, options->phase_name);
    if (phase < 0) {
        fputs("tidemq-loadgen: --phase is both, publish or drain\n", stderr);
        return false;
    }
    options->phase = (enum phase)phase;
    options->server.sin_family = AF_INET;
    options->server.sin_port = htons((uint16_t)options->port);
    if (inet_pton(AF_INET, options->host, &options->server.sin_addr) != 1) {
        fprintf(stderr, "tidemq-loadgen: '%s' is not an IPv4 address\n", options->host);
        return false;
    }
    settle_pattern(options);
    if (options->tls_resume && (options->pattern != PATTERN_CONNECT || !options->tls)) {
        fputs("tidemq-loadgen: --tls-resume is for connect with --tls\n", stderr);
        return false;
    }
    if (!check_filters(options))
        return false;
    if (options->burst > options->window) {
        fputs("tidemq-loadgen: --burst is larger than --window\n", stderr);
        return false;
    }
    if (options->batch > options->window)
        options->batch = options->window;
    if (options->lag_max > 0 && options->lag_max < options->batch) {
        fputs("tidemq-loadgen: --lag-max is smaller than --batch\n", stderr);
        return false;
    }
    return true;
}

bool options_parse(int argc, char **argv, struct options *ret_options)
{
    struct option long_options[KEY_COUNT + 1] = {0};
    for (size_t i = 0; i < KEY_COUNT; i++)
        long_options[i] =
            (struct option){.name = keys[i].name,
                            .has_arg = keys[i].kind == KIND_FLAG ? no_argument : required_argument};

    *ret_options = (struct options){
        .host = "127.0.0.1",
        .port = 1883,
        .version = 4,
        .publishers = 100,
        .subscribers = 1,
        .stride = 1,
        .filters = 1000,
        .burst = 1,
        .count = 100000,
        .window = 100,
        .batch = 10,
        .payload_size = 256,
        .lag_max = 10000,
        .timeout_s = 10,
        .settle_ms = 200,
        .phase_name = phase_names[PHASE_BOTH],
        .id_prefix = "loadgen",
        .topic_prefix = "bench",
    };
    int at;
    int found;
    while ((found = getopt_long(argc, argv, "", long_options, &at)) != -1) {
        if (found == '?' || !set_key(ret_options, &keys[at], optarg))
            return false;
    }
    if (ret_options->help) {
        fputs(usage, stdout);
        exit(0);
    }
    const int pattern =
        optind + 1 == argc ? find_name(pattern_names, PATTERN_COUNT, argv[optind]) : -1;
    if (pattern < 0) {
        fputs("tidemq-loadgen: name one pattern: fan, pairs, backlog, idle, connect, "
              "sessions, filters or retained (--help)\n",
              stderr);
        return false;
    }
    ret_options->pattern = (enum pattern)pattern;
    return settle_options(ret_options);
}
