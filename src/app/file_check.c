#include "app/file_check.h"

#include "app/mapping.h"
#include "app/policy_file.h"
#include "auth/auth.h"
#include "auth/devices.h"
#include "auth/registry.h"
#include "io/mailbox.h"
#include "io/worker.h"
#include "net/stack.h"
#include "proxy/proxy.h"
#include "store/mem/mem.h"

static int check_policies(const struct config *config, struct errmsg *reterr)
{
    struct policies policies;
    struct blocks blocks;
    const int err = policy_file_read(config->authorization_policy_file, &policies, &blocks, reterr);
    policies_done(&policies);
    blocks_done(&blocks);
    return err;
}

/* Certificates, keys and revocation lists of the listeners. */
static int check_stacks(const struct config *config, struct errmsg *reterr)
{
    struct proxy_config proxy;
    mapping_proxy(config, 0, &proxy);
    const struct stack_config stack_config = {.tls = &proxy.tls, .websocket = &proxy.websocket};
    for (size_t i = 0; i < config->listeners.count; i++) {
        struct listener_url url;
        struct stack *stack = NULL;
        int err = listener_url_parse(config->listeners.items[i], &url, reterr);
        if (err == 0) {
            err = stack_new(&url, &stack_config, &stack, reterr);
        }
        (void)stack_unref(stack);
        if (err < 0) {
            errmsg_wrap(reterr, "listener %s", config->listeners.items[i]);
            return err;
        }
    }
    return 0;
}

static uint64_t wall_ms(void *data)
{
    return loop_wall_ms(data);
}

/* Tables without devices and certificates: those there are, are in the store. */
static int open_tables(struct loop *loop, struct store **ret_store, struct auth_deps *deps,
                       struct errmsg *reterr)
{
    struct meta *meta = NULL;
    int err = mem_store_open(ret_store, &meta);
    if (err < 0) {
        errmsg_wrap(reterr, "could not open the engine mem: %s", err_text(err));
        return err;
    }
    err = devices_open(*ret_store, meta, wall_ms, loop, &deps->devices, reterr);
    return err < 0 ? err : registry_open(*ret_store, meta, wall_ms, loop, &deps->registry, reterr);
}

/* Passwords and keys of tokens. The loop is never run, so nobody is asked for anything. */
static int check_auth(const struct config *config, struct errmsg *reterr)
{
    struct auth_config auth_config;
    struct auth_deps deps = {.workers = NULL};
    struct auth *auth = NULL;
    struct store *store = NULL;
    mapping_auth(config, &auth_config);
    int err = loop_new(&deps.loop, reterr);
    if (err == 0) {
        err = worker_pool_new(1, &deps.workers, reterr);
    }
    if (err == 0) {
        err = mailbox_new(deps.loop, &deps.mailbox, reterr);
    }
    if (err == 0) {
        err = open_tables(deps.loop, &store, &deps, reterr);
    }
    if (err == 0) {
        err = auth_new(&auth_config, &deps, &auth, reterr);
    }
    (void)auth_free(auth);
    (void)store_close(store);
    (void)devices_close(deps.devices);
    (void)registry_close(deps.registry);
    if (deps.workers) {
        (void)worker_pool_free(deps.workers);
    }
    if (deps.mailbox) {
        (void)mailbox_free(deps.mailbox);
    }
    if (deps.loop) {
        (void)loop_free(deps.loop);
    }
    return err;
}

int file_check(const struct config *config, struct errmsg *reterr)
{
    int err = check_policies(config, reterr);
    if (err == 0) {
        err = check_stacks(config, reterr);
    }
    return err == 0 ? check_auth(config, reterr) : err;
}
