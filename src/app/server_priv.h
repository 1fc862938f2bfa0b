/* What the files of the server share. Private to app. */
#pragma once

#include "app/server.h"

/* signals.c: SIGTERM and SIGINT stop, SIGHUP reloads. */
MUST_CHECK int signals_open(struct server *server, struct errmsg *reterr);
void signals_close(struct server *server);

/* server.c */
void server_stop(struct server *server);

/* server.c: mapping_proxy, and the registered CAs where the listeners are to trust them. */
void server_proxy_config(const struct server *server, const struct config *config,
                         struct proxy_config *ret_proxy);

/* reload.c: reads the configuration again; applies all of it, or nothing and logs why. */
void reload_config(struct server *server);

/* limits.c: allows as many descriptors as the system lets this process have, and sets
 * server->connections_max to what the configuration then comes to. */
void limits_raise(struct server *server);

/* limits.c: unless core_dumps is true, makes sure that a crash leaves no copy of the process. */
void limits_forbid_core_dumps(const struct server *server);

/* banner.c: what a person who started the server wants to know, on stdout; in the log when that is
 * JSON. */
void banner_print(const struct server *server);
