/* For the cases: appends and reads that can be waited for, and checks of whole queues. */
#pragma once

#include "base/unit.h"

#include "engine.h"

enum { SEQS_KEPT = 8, TEXT_MAX = 64 };

/* One append and its outcome; stays in place until done. */
struct ack {
    struct store_append req;
    struct engine *engine;
    void (*then)(struct ack *ack); /* called within done; may be NULL */
    bool done;
    int err;
    uint64_t order; /* dones before this one */
    uint64_t position;
    uint64_t seqs[SEQS_KEPT];
    struct slice kept; /* the case's own */
};

struct pull {
    struct store_read req;
    struct engine *engine;
    bool done;
    int err;
};

/* cmocka's; they open and close an engine. */
int set_up(void **state);
int set_up_small_retention(void **state);
int set_up_low_pressure(void **state);
int tear_down(void **state);

/* A message like any other; slices borrow. */
struct message plain_message(uint32_t topic_id, const char *payload);

/* engine_kind.reopen; what was still pending at a crash is not waited for any more. */
void restart(struct engine *engine, bool crash);

/* Fills in engine and done of `ack`, whose req is otherwise complete, and submits it. */
int submit(struct engine *engine, struct ack *ack);
/* Submits a message to `queue_count` queues. */
int submit_message(struct engine *engine, struct ack *ack, const struct message *message,
                   const uint32_t *queue_ids, uint16_t queue_count);
/* Turns the loop until `flag` is set. */
void wait_for(struct engine *engine, const bool *flag);
/* Turns the loop until all appends of the suite are done. */
void wait_all(struct engine *engine);

/* Appends "<prefix><n>" for n in [from, to) to queue (0: the topic's only) and topic, and waits. */
void append_many(struct engine *engine, uint32_t topic_id, uint32_t queue_id, const char *prefix,
                 uint64_t from, uint64_t to);
/* Appends one operation on a row and waits for it. */
void write_row(struct engine *engine, enum meta_kind kind, struct slice key, struct slice value);

/* Reads and waits. Returns the read's outcome; entries stay until store_release. */
int pull(struct engine *engine, struct pull *pull);
/* The queue has the entries [first, next) and reading it gives "<prefix><n>" for each, then
 * nothing. */
void check_queue(struct engine *engine, uint32_t queue_id, const char *prefix, uint64_t first,
                 uint64_t next);
void check_bounds(struct engine *engine, uint32_t queue_id, uint64_t first, uint64_t next);
/* All rows with that prefix, written "key=value;". */
void check_rows(struct engine *engine, const char *prefix, const char *expected);

uint32_t next_random(uint64_t *state);
