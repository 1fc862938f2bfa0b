/* The whole server in one process: every part made in order and taken down in reverse.
 *
 *     log, metrics, loop, signals, workers, mailbox, store, rulebook, broker, auth, proxy, admin
 *
 * An orderly stop drains the core and the conns within shutdown.timeout, then closes the store,
 * which writes out what is left; a stop at any other moment is recovered from at the next start.
 *
 * Thread: the one that becomes the loop's.
 */
#pragma once

#include "app/instance.h"
#include "app/mapping.h"
#include "io/mailbox.h"
#include "io/worker.h"
#include "net/listener.h"

struct server {
    struct config config;
    struct config_source source; /* read again at SIGHUP */
    struct instance instance;
    uint64_t connections_max; /* what limits.max_connections comes to here */

    struct log *log;
    struct metrics *metrics;
    struct loop *loop;
    struct worker_pool *workers;
    struct worker_pool *auth_workers; /* so that passwords do not keep reads from disk waiting */
    struct mailbox *mailbox;
    struct store *store;
    struct meta *meta;
    struct devices *devices;
    struct registry *registry;
    struct rulebook *rulebook;
    struct broker *broker;
    struct auth *auth;
    struct proxy *proxy;
    struct admin *admin;
    struct listener *admin_listener;

    struct io_watch signals;
    struct file_watch *certificate_watch; /* NULL: files cannot be watched */
    struct timer certificate_settle;      /* after a change of files */
    struct timer certificate_reminder;
    struct timer stop_timer;
    uint32_t drains_pending; /* parts that have not ended yet */
    bool stopping;
    bool cut_short; /* shutdown.timeout came first */
};

/* Starts everything. config: taken over, also on failure. source: borrowed as long as the server.
 * Signals are blocked in the calling thread and those made later, and handled on the loop. */
MUST_CHECK int server_new(const struct config *config, const struct config_source *source,
                          struct server **ret_server, struct errmsg *reterr);
/* Serves until SIGTERM or SIGINT. Returns 0 after an orderly stop, ERR_UNAVAILABLE when
 * shutdown.timeout cut it short, or -errno. */
MUST_CHECK int server_run(struct server *server);
/* NULL is fine; returns NULL. */
struct server *server_free(struct server *server);
