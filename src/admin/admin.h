/* The admin HTTP endpoint: health, metrics, the control plane and what the command line reads.
 *
 * libmicrohttpd runs nested in the loop: its epoll descriptor is one of the loop's, so that
 * handlers call broker/inspect.h directly. Handlers never block; what has to wait for the disk
 * suspends its connection. The API is described in docs/admin-api.md.
 *
 * Everything but /healthz, /readyz and /metrics needs `Authorization: Bearer TOKEN`.
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "io/loop.h"

#define ADMIN_BODY_MAX        (1024u * 1024) /* bytes of a request's body */
#define ADMIN_HEADER_MAX      (32u * 1024)   /* bytes of a request's line and headers */
#define ADMIN_CONNECTIONS_MAX 64u

struct admin;
struct broker;
struct devices;
struct proxy;
struct registry;
struct rulebook;

/* Shown to administrators. The texts are borrowed until admin_free. */
struct admin_config {
    const char *token;       /* what a bearer token must be */
    const char *instance_id; /* InstanceId of the control plane */
    const char *data_dir;
    const char *store_name;
    uint64_t created_ms; /* when the instance was made, wall clock */
    uint64_t topics_max, filters_per_client_max, subscriptions_max, connections_max;
    uint64_t clients_max; /* online */
    bool asks_registry;   /* clients are let in by the registry of certificates (auth/registry.h) */
    bool trusts_cas;      /* … or at least asked for certificates */
    bool enrols, activates; /* certificates register themselves, and are active at once */
};

/* All borrowed until admin_free. */
struct admin_deps {
    struct loop *loop;
    struct broker *broker;
    struct proxy *proxy;
    struct devices *devices;
    struct registry *registry;
    struct rulebook *rulebook;
    struct log *log;
    struct metrics *metrics;
};

MUST_CHECK int admin_new(const struct admin_config *config, const struct admin_deps *deps,
                         struct admin **ret_admin, struct errmsg *reterr);
void admin_configure(struct admin *admin, const struct admin_config *config);
/* Serves an accepted connection; `fd` is taken over, and closed when there are too many. */
void admin_accept(struct admin *admin, int fd);
/* From now on /readyz says 503 "draining". */
void admin_drain(struct admin *admin);
/* Closes every connection. Requests that wait for the core are answered 503; the core's late
 * answers to them are ignored, so it may be freed after this. NULL is fine; returns NULL. */
struct admin *admin_free(struct admin *admin);
