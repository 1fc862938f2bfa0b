/* What the suite needs of an engine beyond store.h: to open one that is empty, and to lose the
 * process. An engine_NAME.c defines `engine_kind`; nothing else in the suite knows engines. */
#pragma once

#include "io/loop.h"
#include "store/store.h"

/* How an engine is to be opened; the defaults are for most tests. */
struct engine_options {
    bool small_retention;    /* a few MiB of messages are too many */
    uint64_t pressure_bytes; /* 0: the engine's own default */
};

struct engine {
    struct engine_options options; /* set before open */
    struct loop *loop;             /* these three are set by open and reopen */
    struct store *store;
    struct meta *meta;
    void *own;             /* the engine_NAME.c's */
    bool gone;             /* the process this stands for is dead: dones are no longer meant */
    bool submitting;       /* within a submit */
    uint64_t append_count; /* of the suite's appends: submitted, and done */
    uint64_t done_count;
};

struct engine_kind {
    const char *name;
    uint64_t record_max; /* bytes of message that surely fit into one record */
    /* Opens a new, empty store, with a loop. */
    void (*open)(struct engine *engine);
    /* The same store in what is as good as a new process. crash: as after kill -9; dones called
     * all the same find `gone` set. Else pending requests end as store_close says. */
    void (*reopen)(struct engine *engine, bool crash);
    /* Closes the store and removes all traces. */
    void (*close)(struct engine *engine);
    /* Sees to it that the next reads are not answered at once. */
    void (*make_reads_slow)(struct engine *engine);
    /* Makes retention ask for a trim, if appending does not do that by itself. */
    void (*make_trim)(struct engine *engine);
    /* Makes the append fail that is submitted next. */
    void (*fail_append)(struct engine *engine);
};

extern const struct engine_kind engine_kind;
