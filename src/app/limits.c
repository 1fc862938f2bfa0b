#include "app/server_priv.h"

#include <inttypes.h>
#include <sys/resource.h>

/* Descriptors that are not connections: log segments, index files, listeners, the admin's. */
#define OWN_DESCRIPTORS 512u

void limits_raise(struct server *server)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        const rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
            limit.rlim_cur = before;
        }
    }
    const uint64_t connections_max = server->config.limits_max_connections;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < connections_max + OWN_DESCRIPTORS) {
        log_write(server->log, LOG_WARN, "server",
                  "limits.max_connections is %" PRIu64 ", but this process may open only %" PRIu64
                  " files; raise LimitNOFILE= of the service, or `ulimit -n`",
                  connections_max, (uint64_t)limit.rlim_cur);
    }
}
