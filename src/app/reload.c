#include "app/certificates.h"
#include "app/notify.h"
#include "app/policy_file.h"
#include "app/server_priv.h"
#include "proxy/proxy_tls.h"

/* Applies `fresh`, which becomes the server's. Everything that can fail comes first. */
static int apply(struct server *server, struct config *fresh, struct errmsg *reterr)
{
    struct auth_config auth;
    struct proxy_config proxy;
    struct policies policies;
    struct blocks blocks;
    int err = policy_file_read(fresh->authorization_policy_file, &policies, &blocks, reterr);
    if (err < 0) {
        return err;
    }
    mapping_auth(fresh, &auth);
    server_proxy_config(server, fresh, &proxy);
    err = proxy_tls_stage(server->proxy, &proxy.tls, reterr);
    if (err == 0) {
        err = auth_configure(server->auth, &auth, reterr);
        if (err < 0) {
            proxy_tls_discard(server->proxy);
        }
    }
    if (err < 0) {
        policies_done(&policies);
        blocks_done(&blocks);
        return err;
    }
    rulebook_configure(server->rulebook, fresh->authorization_enabled, &policies, &blocks);
    struct broker_config broker;
    struct admin_config admin;
    struct config before = server->config;
    server->config = *fresh;
    limits_raise(server);
    mapping_broker(&server->config, &broker);
    server_proxy_config(server, &server->config, &proxy);
    mapping_admin(&server->config, &server->instance, server->connections_max, &admin);
    broker_configure(server->broker, &broker);
    proxy_configure(server->proxy, &proxy);
    proxy_tls_commit(server->proxy);
    certificates_changed(server);
    if (server->admin) {
        admin_configure(server->admin, &admin);
    }
    log_set(server->log, (enum log_format)server->config.log_format,
            (enum log_level)server->config.log_level);
    config_done(&before);
    return 0;
}

static int load_and_apply(struct server *server, struct errmsg *reterr)
{
    struct config fresh;
    int err = config_load(&server->source, NULL, NULL, &fresh, reterr);
    if (err < 0) {
        return err;
    }
    const char *key = config_restart_key(&server->config, &fresh);
    if (key) {
        errmsg_wrap(reterr,
                    "%s cannot change while the server runs; restart it, or put the old "
                    "value back",
                    key);
        err = ERR_INVALID;
    } else {
        err = apply(server, &fresh, reterr);
    }
    if (err < 0) {
        config_done(&fresh);
    }
    return err;
}

void reload_config(struct server *server)
{
    struct errmsg why = {0};
    if (server->stopping) {
        return;
    }
    (void)notify_reloading();
    if (load_and_apply(server, &why) < 0) {
        log_write(server->log, LOG_ERROR, "server",
                  "configuration not reloaded, nothing changed: %s", why.text);
    } else {
        log_write(server->log, LOG_INFO, "server", "configuration reloaded");
    }
    (void)notify_send("READY=1");
}
