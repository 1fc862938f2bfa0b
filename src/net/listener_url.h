/* The URL of a listener.
 *
 *     mqtt://HOST[:PORT]          TCP, 1883 as the usual port
 *     mqtts://HOST[:PORT]         TLS over TCP, 8883
 *     ws://HOST[:PORT][/PATH]     WebSocket, 8888; the usual path is /mqtt
 *     wss://HOST[:PORT][/PATH]    WebSocket over TLS, 8889
 *     quic://HOST[:PORT]          QUIC, 14567
 *     mqtt+unix:PATH              a Unix socket
 *
 * Options of the listener follow as ?NAME=VALUE&NAME=VALUE; %XX stands for a byte. Those of TLS
 * replace the keys tls.NAME, which hold for all listeners without one of their own. proxy_protocol
 * says whether a header of the PROXY protocol may (true) or must (required) come first.
 *
 * HOST is an IPv4 address, an [IPv6 address], a name or '*' (all addresses of both families). A
 * name that has several addresses is listened to on each. Port 0 lets the system choose.
 *
 * Thread: any.
 */
#pragma once

#include "base/base.h"

#include <sys/socket.h>

#define LISTENER_HOST_MAX      255
#define LISTENER_PATH_MAX      107
#define LISTENER_QUERY_MAX     2047
#define LISTENER_VALUE_MAX     1023
#define LISTENER_ADDRESSES_MAX 8

enum listener_kind { LISTENER_TCP, LISTENER_UDP, LISTENER_UNIX };

struct listener_url {
    const char *scheme; /* "mqtt", "mqtts", …; a constant */
    enum listener_kind kind;
    bool tls;
    bool websocket;
    bool retry_always; /* of QUIC */
    uint16_t port;
    char host[LISTENER_HOST_MAX + 1];   /* without brackets; "*" = everywhere; empty for Unix */
    char path[LISTENER_PATH_MAX + 1];   /* of the Unix socket, or of the WebSocket's request */
    char query[LISTENER_QUERY_MAX + 1]; /* the options; checked */
};

struct listener_option {
    const char *name; /* a constant */
    char value[LISTENER_VALUE_MAX + 1];
};

/* The forms above in one sentence, for error messages. */
#define LISTENER_URL_FORMS                                                                         \
    "mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, "             \
    "quic://HOST:PORT, PORT up to 65535, or mqtt+unix:PATH"

/* Parses one URL. Returns 0, or ERR_INVALID and in reterr what is wrong with it. */
MUST_CHECK int listener_url_parse(const char *text, struct listener_url *ret_url,
                                  struct errmsg *reterr);
/* The value of an option that may be there; the last one counts. false: it is not there. */
bool listener_option_find(const struct listener_url *url, const char *name,
                          struct listener_option *ret_option);
/* Takes the next option; *rest begins as url->query. false: there are no more. */
bool listener_option_next(const char **rest, struct listener_option *ret_option);

struct listener_address {
    struct sockaddr_storage address;
    socklen_t size;
    bool both_families; /* set by who wants an IPv6 socket to take IPv4 too */
};

/* Fills up to LISTENER_ADDRESSES_MAX addresses of a name or literal, which may block; not for '*'.
 * Returns how many, or an EAI_ code. */
MUST_CHECK int listener_url_resolve(const struct listener_url *url,
                                    struct listener_address *ret_list);
/* true when only this machine reaches it: a Unix socket, or all of its addresses are loopback ones.
 * Resolves a name, which may block; a name without addresses counts as reachable. */
bool listener_url_is_local(const struct listener_url *url);
