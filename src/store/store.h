/* The storage engine interface. Engines: store/local, store/mem; store/rocketmq is to come.
 *
 * An engine keeps one log of records. A record carries a message, the ids of the queues it belongs
 * to, and metadata operations (store/meta.h), each optional; it becomes durable as a whole.
 * A queue is an ordered index over the log: its entries are numbered by `seq` from 0 without gaps;
 * the first-level topic of a message is one of its queues too (message.topic_id).
 *
 * Contract (test/conformance, run over every engine):
 *  - a submit that returns < 0 never calls done; one that returns 0 calls done exactly once, later,
 *    on the loop, never inside the submit; a read or get that returns 1 has its result already and
 *    will not call done;
 *  - done(0) of a STORE_SYNC append means durable: it survives kill -9 and power loss;
 *  - appends become durable and are numbered in the order of submission; dones run in that order;
 *  - when one fails, all that are under way fail with it, and none is accepted before they have
 * been told: nothing becomes durable that was submitted in the belief that it comes behind another;
 *  - a failed append may or may not be found after a restart, but never in part;
 *  - reads see what was acknowledged, at once.
 *
 * Thread: everything here is for the loop thread; engines use threads of their own behind it.
 */
#pragma once

#include "store/message.h"
#include "store/meta.h"

#define STORE_ABI           1
#define STORE_QUEUES_MAX    4096 /* queue ids in one record, the topic's not counted */
#define STORE_READ_MAX      64   /* entries in one read */
#define STORE_POSITION_NONE UINT64_MAX

struct store;
struct store_append;
struct store_read;

enum store_level {
    STORE_SYNC, /* done when durable */
    STORE_LAZY, /* goes out with the next write, 100 ms at most; never forces a sync.
                 * done may be NULL; when set it runs once the record is written, durable or not. */
};

typedef void store_append_fn(struct store_append *req, int err);
typedef void store_read_fn(struct store_read *req, int err);

/* One append; embed it, fill the first block, keep the struct in place until done.
 * All bytes and arrays it points to are borrowed for the submit only: the engine copies them. */
struct store_append {
    const struct message *message; /* NULL: metadata operations only */
    const uint32_t *queue_ids;     /* ascending, without message->topic_id */
    const struct meta_op *ops;
    uint16_t queue_count;
    uint16_t op_count;
    uint8_t level; /* enum store_level */
    store_append_fn
        *done; /* may be NULL with STORE_LAZY: then the struct is not used after the submit */

    /* Results, valid inside done(0) only; slices lie in engine memory and name their buf. */
    struct message stored;
    const uint64_t *seqs;      /* the entry's number in each queue of queue_ids */
    struct store_append *next; /* the engine's while pending */
    uint64_t engine_value;     /* the engine's while pending */
};

/* One entry of a queue as read back. Slices name the buf they lie in. */
struct store_entry {
    uint64_t seq;
    struct message message;
    const uint32_t *queue_ids; /* all queues of the record, ascending; not the topic's */
    uint16_t queue_count;
};

/* Where a message lies. */
struct store_place {
    uint64_t position;
    uint32_t size; /* bytes of topic, properties and payload together, 0: unknown; planning only */
};

/* Reads entries [from_seq, …) of a queue; or, with queue_id 0, the one message at `position`, or
 * those at several places. From done (or from a submit that returned 1) until store_release the
 * entries stay valid.
 *
 * Of several places the entries are the first ones, in the order of the places: fewer than asked
 * for when bytes_max is reached or one cannot be read. Only when that is the first does the read
 * fail, so whoever goes on behind the last entry learns of it then. */
struct store_read {
    uint32_t queue_id;
    uint16_t entries_max; /* 1 to STORE_READ_MAX */
    uint32_t bytes_max;   /* of messages together; the first is returned whatever its size */
    uint64_t from_seq;    /* when trimmed: reading begins at the first entry kept */
    uint64_t position;    /* with queue_id 0 and no places: the message to get */
    const struct store_place *places; /* place_count of them, borrowed until done or release */
    uint16_t place_count;             /* with queue_id 0; at most entries_max */
    store_read_fn *done;

    uint16_t entry_count;        /* results; 0 entries: from_seq is at the queue's end */
    struct store_entry *entries; /* a number left out between them: that entry is lost */
    uint64_t lost_until;         /* with 0 entries: those before this number are lost, 0: none */
    void *engine_state;          /* the engine's, until store_release */
};

/* What the engine tells its owner, on the loop. */
struct store_watcher {
    /* Messages below `position` will be freed: re-append the live ones (retained messages) with
     * MESSAGE_COPY, then call store_trim_go. Called again only after that. */
    void (*on_trim)(void *data, uint64_t position);
    /* The log takes writes again, or does not (reason: what to tell the administrator). */
    void (*on_writable)(void *data, bool writable, const char *reason);
    /* Pressure has fallen: publishers that were told to wait may go on. */
    void (*on_drained)(void *data);
    void *data;
};

struct store_stats {
    uint64_t log_bytes;        /* of live log, from the oldest record kept to the end */
    uint64_t disk_bytes;       /* all files of the engine */
    uint64_t head_position;    /* where the next record goes */
    uint64_t first_position;   /* oldest record kept */
    uint64_t applied_position; /* metadata checkpointed up to here */
    uint32_t segment_count, index_file_count;
    bool writable;
    char reason[128]; /* why not writable */
};

struct store_ops {
    uint16_t abi; /* STORE_ABI when compiled */
    const char *name;
    void (*watch)(struct store *store, const struct store_watcher *watcher);
    int (*append)(struct store *store, struct store_append *req);
    int (*read)(struct store *store, struct store_read *req);
    void (*release)(struct store *store, struct store_read *req);
    void (*queue_bounds)(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                         uint64_t *ret_next);
    void (*queue_drop)(struct store *store, uint32_t queue_id);
    void (*trim_go)(struct store *store);
    bool (*pressure)(struct store *store);
    void (*stats)(struct store *store, struct store_stats *ret_stats);
    struct store *(*close)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

/* Submits an append. Returns 0; ERR_UNAVAILABLE: the log takes no writes (disk full or failed);
 * ERR_FULL: too much is waiting for the disk already (see store_pressure); ERR_NOMEM;
 * ERR_INVALID: larger than a record may be. */
MUST_CHECK static inline int store_append(struct store *store, struct store_append *req)
{
    ASSERT(req->message || req->op_count > 0);
    ASSERT(req->done || req->level == STORE_LAZY);
    ASSERT(req->queue_count <= STORE_QUEUES_MAX);
    return store->ops->append(store, req);
}

/* Submits a read. Returns 1: done at once; 0: done will be called; ERR_NOMEM. The done of a read
 * gets 0, ERR_TRIMMED (a get whose position is gone), ERR_CORRUPT or -errno. */
MUST_CHECK static inline int store_read(struct store *store, struct store_read *req)
{
    ASSERT(req->entries_max >= 1 && req->entries_max <= STORE_READ_MAX);
    ASSERT(req->place_count <= req->entries_max);
    return store->ops->read(store, req);
}

/* Gives the entries of a finished read back; harmless when there are none. A read that is still
 * pending is cancelled: its done will not be called. */
static inline void store_release(struct store *store, struct store_read *req)
{
    store->ops->release(store, req);
}

/* First entry kept and the number the next one will get; 0 and 0 for an unknown queue. */
static inline void store_queue_bounds(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                                      uint64_t *ret_next)
{
    store->ops->queue_bounds(store, queue_id, ret_first, ret_next);
}

/* Forgets a queue's index; the id is never used again. Messages stay in the log. */
static inline void store_queue_drop(struct store *store, uint32_t queue_id)
{
    store->ops->queue_drop(store, queue_id);
}

static inline void store_trim_go(struct store *store)
{
    store->ops->trim_go(store);
}

/* true while more is waiting for the disk than should be: stop reading from publishers until
 * on_drained. */
static inline bool store_pressure(struct store *store)
{
    return store->ops->pressure(store);
}

/* Writes out and syncs everything, ends every pending request (those that could not be written with
 * -ECANCELED), frees the store and its meta. Blocking. Returns NULL. */
static inline struct store *store_close(struct store *store)
{
    return store ? store->ops->close(store) : NULL;
}
