#include "app/server_priv.h"

#include "app/certificates.h"
#include "app/notify.h"
#include "app/policy_file.h"
#include "auth/devices.h"
#include "auth/registry.h"
#include "base/mem.h"
#include "io/file.h"
#include "store/mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define WORKERS_MIN   2
#define WORKERS_MAX   8
#define LOG_LINES_MAX 20 /* per second and kind */
#define DATA_DIR_MODE 0750

static uint64_t wall_ms(void *clock_data)
{
    return loop_wall_ms(clock_data);
}

static bool is_store_pressed(void *data)
{
    const struct server *server = data;
    return store_pressure(server->store);
}

static void on_store_drained(void *data)
{
    struct server *server = data;
    if (server->proxy) {
        proxy_pause(server->proxy, false);
    }
}

static void on_admin_accept(void *data, int fd, const struct peer *peer)
{
    (void)peer;
    struct server *server = data;
    admin_accept(server->admin, fd);
}

static int start_threads(struct server *server, struct errmsg *reterr)
{
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const uint32_t thread_count = (uint32_t)MAX(WORKERS_MIN, MIN(cpus, WORKERS_MAX));
    int err = loop_new(&server->loop, reterr);
    if (err == 0) {
        err = signals_open(server, reterr);
    }
    if (err == 0) {
        err = worker_pool_new(thread_count, &server->workers, reterr);
    }
    if (err == 0) {
        err = worker_pool_new(thread_count, &server->auth_workers, reterr);
    }
    return err < 0 ? err : mailbox_new(server->loop, &server->mailbox, reterr);
}

static int make_data_dir(struct server *server, struct errmsg *reterr)
{
    const char *dir = server->config.data_dir;
    const int err = file_mkdirat(AT_FDCWD, dir, DATA_DIR_MODE);
    if (err < 0) {
        errmsg_wrap(reterr, "could not make data_dir '%s': %s", dir,
                    err == -ENOENT ? "its parent directory does not exist" : err_text(err));
        return err;
    }
    return instance_open(dir, loop_wall_ms(server->loop), &server->instance, reterr);
}

static int open_store(struct server *server, struct errmsg *reterr)
{
    if (strcmp(server->config.store, "mem") == 0) {
        const int err = mem_store_open(&server->store, &server->meta);
        if (err < 0) {
            errmsg_wrap(reterr, "could not open the engine mem: %s", err_text(err));
            return err;
        }
        mem_store_attach(server->store, server->loop);
        return 0;
    }
    struct local_config local;
    mapping_local(&server->config, &local);
    return local_open(&local, server->loop, server->workers, server->log, server->metrics,
                      &server->store, &server->meta, reterr);
}

static int load_rulebook(struct server *server, struct errmsg *reterr)
{
    struct policies policies;
    struct blocks blocks;
    const struct config *config = &server->config;
    const int err = policy_file_read(config->authorization_policy_file, &policies, &blocks, reterr);
    if (err < 0) {
        return err;
    }
    server->rulebook = rulebook_new();
    rulebook_configure(server->rulebook, config->authorization_enabled, &policies, &blocks);
    return 0;
}

static int start_core(struct server *server, struct errmsg *reterr)
{
    struct broker_config broker;
    struct auth_config auth;
    int err =
        devices_open(server->store, server->meta, wall_ms, server->loop, &server->devices, reterr);
    if (err == 0) {
        err = registry_open(server->store, server->meta, wall_ms, server->loop, &server->registry,
                            reterr);
    }
    if (err < 0) {
        return err;
    }
    mapping_broker(&server->config, &broker);
    mapping_auth(&server->config, &auth);
    const struct broker_deps broker_deps = {
        .store = server->store,
        .meta = server->meta,
        .loop = server->loop,
        .timers = loop_timers(server->loop),
        .log = server->log,
        .metrics = server->metrics,
        .rulebook = server->rulebook,
        .devices = server->devices,
        .wall_ms = wall_ms,
        .clock_data = server->loop,
        .on_drained = on_store_drained,
        .drained_data = server,
    };
    const struct auth_deps auth_deps = {
        .workers = server->auth_workers,
        .mailbox = server->mailbox,
        .loop = server->loop,
        .log = server->log,
        .metrics = server->metrics,
        .devices = server->devices,
        .registry = server->registry,
    };
    err = broker_new(&broker, &broker_deps, &server->broker, reterr);
    return err < 0 ? err : auth_new(&auth, &auth_deps, &server->auth, reterr);
}

void server_proxy_config(const struct server *server, const struct config *config,
                         struct proxy_config *ret_proxy)
{
    mapping_proxy(config, server->connections_max, ret_proxy);
    if (ret_proxy->tls.registered) {
        ret_proxy->tls.registered = registry_authorities(server->registry);
    }
}

static int start_proxy(struct server *server, struct errmsg *reterr)
{
    struct proxy_config proxy;
    server_proxy_config(server, &server->config, &proxy);
    const struct proxy_deps deps = {
        .loop = server->loop,
        .broker = server->broker,
        .auth = server->auth,
        .rulebook = server->rulebook,
        .log = server->log,
        .metrics = server->metrics,
        .pressed = is_store_pressed,
        .pressed_data = server,
        .memory_used = mem_used,
    };
    int err = proxy_new(&proxy, &deps, &server->proxy, reterr);
    for (size_t i = 0; i < server->config.listeners.count && err == 0; i++) {
        err = proxy_listen(server->proxy, server->config.listeners.items[i], reterr);
    }
    if (err == 0) {
        certificates_start(server);
    }
    return err;
}

static int start_admin(struct server *server, struct errmsg *reterr)
{
    struct admin_config admin;
    struct listener_url url;
    if (strcmp(server->config.admin_listen, "off") == 0) {
        return 0;
    }
    mapping_admin(&server->config, &server->instance, server->connections_max, &admin);
    const struct admin_deps deps = {
        .loop = server->loop,
        .broker = server->broker,
        .proxy = server->proxy,
        .devices = server->devices,
        .registry = server->registry,
        .rulebook = server->rulebook,
        .log = server->log,
        .metrics = server->metrics,
    };
    int err = admin_new(&admin, &deps, &server->admin, reterr);
    if (err < 0) {
        return err;
    }
    err = config_admin_address(&server->config, &url);
    ASSERT(err == 0);
    if (!listener_url_is_local(&url)) {
        log_write(server->log, LOG_WARN, "admin",
                  "admin.listen is reachable from other machines: the token and all answers cross "
                  "the network unencrypted");
    }
    const struct listener_config listener = {
        .loop = server->loop,
        .log = server->log,
        .on_accept = on_admin_accept,
        .data = server,
    };
    err = listener_new(&url, &listener, &server->admin_listener, reterr);
    if (err < 0) {
        errmsg_wrap(reterr, "could not serve admin.listen");
    }
    return err;
}

static int start(struct server *server, struct errmsg *reterr)
{
    typedef int step_fn(struct server *, struct errmsg *);
    static step_fn *const steps[] = {load_rulebook, start_threads, make_data_dir, open_store,
                                     start_core,    start_proxy,   start_admin};
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        const int err = steps[i](server, reterr);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

int server_new(const struct config *config, const struct config_source *source,
               struct server **ret_server, struct errmsg *reterr)
{
    struct server *server = mem_new(sizeof(*server));
    server->config = *config;
    server->source = *source;
    server->signals.fd = -1;
    server->log = log_new(STDERR_FILENO, (enum log_format)config->log_format,
                          (enum log_level)config->log_level, LOG_LINES_MAX);
    server->metrics = metrics_new();
    mem_tune();
    limits_forbid_core_dumps(server);
    limits_raise(server);
    const int err = start(server, reterr);
    if (err < 0) {
        (void)server_free(server);
        return err;
    }
    *ret_server = server;
    return 0;
}

int server_run(struct server *server)
{
    banner_print(server);
    const int notified = notify_send("READY=1\nSTATUS=Serving");
    if (notified < 0) {
        log_write(server->log, LOG_WARN, "server", "could not tell the service manager: %s",
                  err_text(notified));
    }
    loop_measure(server->loop, server->metrics);
    const int err = loop_run(server->loop);
    return err == 0 && server->cut_short ? ERR_UNAVAILABLE : err;
}

static void on_part_drained(void *data)
{
    struct server *server = data;
    ASSERT(server->drains_pending > 0);
    if (--server->drains_pending == 0) {
        loop_stop(server->loop);
    }
}

static void on_stop_timeout(struct timer *timer)
{
    struct server *server = CONTAINER_OF(timer, struct server, stop_timer);
    log_write(
        server->log, LOG_WARN, "server",
        "shutdown.timeout came before all clients were closed; what was acknowledged is safe");
    server->cut_short = true;
    loop_stop(server->loop);
}

void server_stop(struct server *server)
{
    server->stopping = true;
    (void)notify_send("STOPPING=1\nSTATUS=Draining");
    log_write(server->log, LOG_INFO, "server", "stopping");
    if (server->admin) {
        admin_drain(server->admin);
    }
    server->stop_timer.on_due = on_stop_timeout;
    timer_start(loop_timers(server->loop), &server->stop_timer, server->config.shutdown_timeout_ms);
    server->drains_pending = 2;
    broker_drain(server->broker, on_part_drained, server);
    proxy_drain(server->proxy, on_part_drained, server);
}

struct server *server_free(struct server *server)
{
    if (!server) {
        return NULL;
    }
    (void)listener_free(server->admin_listener);
    (void)admin_free(server->admin);
    if (server->registry) {
        registry_watch_authorities(server->registry, NULL, NULL);
    }
    server->proxy = proxy_free(server->proxy);
    (void)auth_free(server->auth);
    (void)store_close(server->store);
    (void)devices_close(server->devices);
    (void)registry_close(server->registry);
    if (server->broker) {
        (void)broker_free(server->broker);
    }
    (void)rulebook_free(server->rulebook);
    if (server->workers) {
        (void)worker_pool_free(server->workers);
    }
    if (server->auth_workers) {
        (void)worker_pool_free(server->auth_workers);
    }
    if (server->mailbox) {
        (void)mailbox_free(server->mailbox);
    }
    if (server->loop) {
        certificates_stop(server);
        timer_stop(loop_timers(server->loop), &server->stop_timer);
        signals_close(server);
        (void)loop_free(server->loop);
    }
    (void)metrics_free(server->metrics);
    (void)log_free(server->log);
    config_done(&server->config);
    mem_free(server);
    return NULL;
}
