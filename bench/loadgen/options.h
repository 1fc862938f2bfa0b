/* The command line of tidemq-loadgen. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum pattern {
    PATTERN_FAN,      /* every subscriber gets every message of every publisher */
    PATTERN_PAIRS,    /* publisher i to subscriber i */
    PATTERN_BACKLOG,  /* publish while the durable subscribers are away, then drain */
    PATTERN_IDLE,     /* connections that do nothing */
    PATTERN_CONNECT,  /* connect, CONNACK, disconnect, again */
    PATTERN_SESSIONS, /* the same, each with a session and a filter that stay */
    PATTERN_FILTERS,  /* many filters with wildcards, four of which match each message */
    PATTERN_RETAINED, /* set retained messages, then subscribe to all */
};
#define PATTERN_COUNT (PATTERN_RETAINED + 1)

enum phase {
    PHASE_BOTH,
    PHASE_PUBLISH,
    PHASE_DRAIN,
};
#define PHASE_COUNT (PHASE_DRAIN + 1)

struct options {
    enum pattern pattern;
    enum phase phase;
    struct sockaddr_in server;
    bool help;
    bool websocket;
    bool tls;
    bool tls_resume; /* with the ticket of the connection before */
    bool json;
    bool persistent; /* subscribers keep their session */
    bool subscribe_idle;
    bool resume;      /* sessions: they must be there already */
    uint32_t version; /* protocol level: 4 or 5 */
    uint32_t qos;
    uint32_t publishers;
    uint32_t subscribers;
    uint32_t connections; /* idle: held; connect and sessions: at a time */
    uint32_t count;       /* messages published, or connections or sessions made */
    uint32_t stride;      /* sessions: from one number to the next */
    uint32_t filters;
    uint32_t topics; /* filters: different ones that are published to; 0: all that match */
    uint32_t burst;  /* messages per write when there is a rate */
    uint32_t window; /* unacknowledged messages per publisher */
    uint32_t batch;  /* messages per write */
    uint32_t payload_size;
    uint32_t lag_max; /* published messages not yet delivered; 0: no limit */
    uint32_t rate;    /* messages per second of all publishers together; 0: no limit */
    uint32_t timeout_s;
    uint32_t settle_ms;
    uint32_t hold_s;
    uint32_t source_addresses; /* connections start from this many of 127.0.0.2 and on; 0: any */
    uint32_t server_pid;       /* 0: its CPU and memory are not read */
    uint32_t port;
    const char *host;
    const char *phase_name;
    const char *id_prefix;
    const char *topic_prefix;
    const char *username; /* NULL: none */
    const char *password; /* NULL: none */
};

/* Parses the command line into `ret_options`. Returns false after printing why not to stderr;
 * --help prints to stdout and ends the process with 0. */
bool options_parse(int argc, char **argv, struct options *ret_options);

const char *options_pattern_name(enum pattern pattern);
