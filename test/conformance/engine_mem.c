#include "engine.h"

#include "base/mem.h"
#include "store/mem/mem.h"

#include <errno.h>

static void prepare(struct engine *engine)
{
    if (engine->options.pressure_bytes)
        mem_store_set_pressure(engine->store, engine->options.pressure_bytes);
    mem_store_attach(engine->store, engine->loop);
}

static void engine_open(struct engine *engine)
{
    ASSERT(loop_new(&engine->loop, NULL) == 0);
    ASSERT(mem_store_open(&engine->store, &engine->meta) == 0);
    prepare(engine);
}

static void engine_reopen(struct engine *engine, bool crash)
{
    while (!crash && mem_store_pending(engine->store) > 0)
        (void)mem_store_step(engine->store, 1);
    mem_store_crash(&engine->store, &engine->meta, !crash);
    prepare(engine);
}

static void engine_close(struct engine *engine)
{
    engine->store = store_close(engine->store);
    engine->loop = loop_free(engine->loop);
}

static void engine_make_reads_slow(struct engine *engine)
{
    mem_store_slow_reads(engine->store, true);
}

static void engine_make_trim(struct engine *engine)
{
    struct store_stats stats;
    engine->store->ops->stats(engine->store, &stats);
    mem_store_trim(engine->store, stats.first_position + stats.log_bytes / 2);
}

static void engine_fail_append(struct engine *engine)
{
    mem_store_fail_append(engine->store, 1, -EIO);
}

const struct engine_kind engine_kind = {
    .name = "mem",
    .record_max = 64 << 20,
    .open = engine_open,
    .reopen = engine_reopen,
    .close = engine_close,
    .make_reads_slow = engine_make_reads_slow,
    .make_trim = engine_make_trim,
    .fail_append = engine_fail_append,
};
