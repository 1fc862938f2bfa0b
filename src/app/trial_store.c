#include "app/trial_store.h"

#include "base/mem.h"
#include "store/mem/mem.h"

struct trial {
    struct store base;
    struct store *inner;
    struct loop *loop;
    struct deferred step;
};

static struct trial *trial_of(struct store *store)
{
    return CONTAINER_OF(store, struct trial, base);
}

static void on_step(struct deferred *deferred)
{
    struct trial *trial = CONTAINER_OF(deferred, struct trial, step);
    (void)mem_store_step(trial->inner, mem_store_pending(trial->inner));
    if (mem_store_pending(trial->inner) > 0) {
        loop_defer(trial->loop, &trial->step);
    }
}

static void trial_watch(struct store *store, const struct store_watcher *watcher)
{
    trial_of(store)->inner->ops->watch(trial_of(store)->inner, watcher);
}

static int trial_append(struct store *store, struct store_append *req)
{
    struct trial *trial = trial_of(store);
    loop_defer(trial->loop, &trial->step);
    return store_append(trial->inner, req);
}

static int trial_read(struct store *store, struct store_read *req)
{
    struct trial *trial = trial_of(store);
    loop_defer(trial->loop, &trial->step);
    return store_read(trial->inner, req);
}

static void trial_release(struct store *store, struct store_read *req)
{
    store_release(trial_of(store)->inner, req);
}

static void trial_queue_bounds(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                               uint64_t *ret_next)
{
    store_queue_bounds(trial_of(store)->inner, queue_id, ret_first, ret_next);
}

static void trial_queue_drop(struct store *store, uint32_t queue_id)
{
    store_queue_drop(trial_of(store)->inner, queue_id);
}

static void trial_trim_go(struct store *store)
{
    store_trim_go(trial_of(store)->inner);
}

static bool trial_pressure(struct store *store)
{
    return store_pressure(trial_of(store)->inner);
}

static void trial_stats(struct store *store, struct store_stats *ret_stats)
{
    trial_of(store)->inner->ops->stats(trial_of(store)->inner, ret_stats);
}

static struct store *trial_close(struct store *store)
{
    struct trial *trial = trial_of(store);
    deferred_cancel(&trial->step);
    (void)store_close(trial->inner);
    mem_free(trial);
    return NULL;
}

static const struct store_ops trial_ops = {
    .abi = STORE_ABI,
    .name = "mem",
    .watch = trial_watch,
    .append = trial_append,
    .read = trial_read,
    .release = trial_release,
    .queue_bounds = trial_queue_bounds,
    .queue_drop = trial_queue_drop,
    .trim_go = trial_trim_go,
    .pressure = trial_pressure,
    .stats = trial_stats,
    .close = trial_close,
};

int trial_store_open(struct loop *loop, struct store **ret_store, struct meta **ret_meta)
{
    struct store *inner;
    const int err = mem_store_open(&inner, ret_meta);
    if (err < 0) {
        return err;
    }
    struct trial *trial = mem_new(sizeof(*trial));
    trial->base.ops = &trial_ops;
    trial->inner = inner;
    trial->loop = loop;
    trial->step.run = on_step;
    list_init(&trial->step.node);
    *ret_store = &trial->base;
    return 0;
}
