#include "app/server_priv.h"

#include <inttypes.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Descriptors that are not connections: log segments, index files, listeners, the admin's. */
#define OWN_DESCRIPTORS  512u
#define CONNECTIONS_MOST 10000000u /* of limits.max_connections */

/* How many files this process may open, after asking for as many as it can get. */
static uint64_t raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return UINT64_MAX;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        const rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
            limit.rlim_cur = before;
        }
    }
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

void limits_forbid_core_dumps(const struct server *server)
{
    struct rlimit limit;
    if (server->config.core_dumps) {
        return;
    }
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        (void)setrlimit(RLIMIT_CORE, &limit); /* a sandbox may forbid it; then the next counts */
    }
    /* Programs that take core dumps over a pipe (systemd-coredump) are not bound by the limit. */
    if (prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L) < 0) {
        log_write(server->log, LOG_WARN, "server",
                  "could not switch core dumps off, which would hold keys and passwords; set "
                  "LimitCORE=0 for the service, or `ulimit -c 0`");
    }
}

void limits_raise(struct server *server)
{
    const uint64_t files_max = raise_files();
    const uint64_t wanted = server->config.limits_max_connections;
    /* Where files are few, half of them are for connections. */
    const uint64_t room =
        files_max > 2 * OWN_DESCRIPTORS ? files_max - OWN_DESCRIPTORS : files_max / 2;
    server->connections_max = wanted > 0 ? wanted : MAX(1u, MIN(room, CONNECTIONS_MOST));
    if (wanted > room) {
        log_write(server->log, LOG_WARN, "server",
                  "limits.max_connections is %" PRIu64 ", but this process may open only %" PRIu64
                  " files; raise LimitNOFILE= of the service, or `ulimit -n`",
                  wanted, files_max);
    }
}
