/* etcd client: transactions, leases and watches over etcd's JSON gateway (HTTP), from the event
 * loop.
 *
 * Everything that is read or written is a transaction, so that there is one way in and one answer.
 * A transaction that only reads is sent to the next member when one fails; one that writes is sent
 * again only when it cannot have arrived, and otherwise answered with ERR_UNAVAILABLE and `unsure`:
 * it may have been carried out, and the caller looks before it tries again (compare a revision or a
 * value of its own).
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "io/loop.h"

#define ETCD_OPS_MAX 128u /* in one branch of a transaction: etcd's own limit */

struct etcd;
struct etcd_call;
struct etcd_watch;
struct etcd_lease;

struct etcd_config {
    struct loop *loop;
    struct log *log;
    const char *const *urls; /* http://host:port of the members */
    uint32_t url_count;
    const char *ca_file; /* for https; NULL or "": the system's */
    uint32_t timeout_ms; /* for one member to answer; 0: 2000 */
};

enum etcd_compare_kind {
    ETCD_ABSENT,     /* the key does not exist */
    ETCD_PRESENT,    /* it does */
    ETCD_CHANGED_AT, /* it was changed last at this revision */
    ETCD_VALUE_IS,
};

struct etcd_compare {
    enum etcd_compare_kind kind;
    struct slice key;
    uint64_t revision;
    struct slice value;
};

enum etcd_op_kind {
    ETCD_PUT,
    ETCD_DELETE, /* `key`, or all from it on and below `end` */
    ETCD_READ,   /* the same, in ascending order */
};

struct etcd_op {
    enum etcd_op_kind kind;
    struct slice key;
    struct slice end;   /* empty: the key alone; see etcd_prefix_end */
    struct slice value; /* PUT */
    uint64_t lease;     /* PUT; 0: none */
    uint32_t limit;     /* READ; 0: all */
    uint64_t revision;  /* READ: as it was then; 0: now */
};

/* When all comparisons hold `then` is carried out, else `otherwise`; all of it at one revision. */
struct etcd_txn {
    const struct etcd_compare *compares;
    const struct etcd_op *then, *otherwise;
    uint32_t compare_count, then_count, otherwise_count;
};

struct etcd_row {
    struct slice key, value;
    uint64_t created, changed; /* revisions */
    uint64_t lease;            /* 0: none */
};

/* What an op gave. */
struct etcd_result {
    struct etcd_row *rows; /* READ */
    uint32_t row_count;
    bool more; /* READ: the limit was reached */
    uint64_t deleted;
};

struct etcd_answer {
    int err;         /* 0; ERR_UNAVAILABLE: no member answered; ERR_INVALID: etcd refused it;
                      * ERR_FULL: it takes no more at present; ERR_MALFORMED: no answer of etcd's */
    const char *why; /* with an error, for people */
    bool unsure;     /* with an error: it may have been carried out all the same */
    bool held;       /* the comparisons did */
    uint64_t revision;
    struct etcd_result *results; /* of the branch that was carried out, in its order */
    uint32_t result_count;
};

/* answer and all in it: borrowed for the call, in which the client must not be freed. */
typedef void etcd_done_fn(void *data, const struct etcd_answer *answer);

/* config: borrowed for the call. Returns 0; ERR_INVALID: no URL, or one that is none; ERR_NOMEM. */
MUST_CHECK int etcd_new(const struct etcd_config *config, struct etcd **ret_etcd,
                        struct errmsg *reterr);
/* Cancels what is under way; watches and leases must be gone. NULL is fine; returns NULL. */
struct etcd *etcd_free(struct etcd *etcd);

/* txn and all in it: borrowed for the call. `done` runs once, later, unless cancelled. Returns 0;
 * ERR_FULL: more than ETCD_OPS_MAX ops in a branch, or comparisons; ERR_NOMEM. */
MUST_CHECK int etcd_submit(struct etcd *etcd, const struct etcd_txn *txn, etcd_done_fn *done,
                           void *data, struct etcd_call **ret_call);
/* done will not be called. */
void etcd_cancel(struct etcd_call *call);

/* The end of the range of all keys that begin with `prefix`, written to `room`, which has as many
 * bytes as the prefix. Empty (all keys from it on): no key is beyond them. */
struct slice etcd_prefix_end(struct slice prefix, uint8_t *room);

/* --- watches ---------------------------------------------------------------------------------- */

struct etcd_change {
    bool deleted;
    struct etcd_row row; /* of a deleted one only the key and `changed` */
};

struct etcd_watcher {
    /* The changes of one or more revisions, in order, each revision whole; `revision` is the last
     * of them. Changes are never left out and never repeated. */
    void (*on_changes)(void *data, const struct etcd_change *changes, uint32_t count,
                       uint64_t revision);
    /* What changed meanwhile has been compacted away: read everything anew, and watch anew from
     * there. The watch does nothing more; free it. */
    void (*on_gap)(void *data);
    void *data;
};

/* Watches the keys from `key` on and below `end` (copied), from a revision on. Connections that
 * break are made again, to the next member, where it left off. */
struct etcd_watch *etcd_watch_new(struct etcd *etcd, struct slice key, struct slice end,
                                  uint64_t from_revision, const struct etcd_watcher *watcher);
/* Goes on by another member: for an owner who knows that there are changes it was not told of, as
 * when the member has lost the others. */
void etcd_watch_renew(struct etcd_watch *watch);
struct etcd_watch *etcd_watch_free(struct etcd_watch *watch); /* NULL is fine; returns NULL */

/* --- leases ------------------------------------------------------------------------------------
 */

struct etcd_lease_owner {
    /* The lease is there; `id` for the puts. Called again after on_lost, with another. */
    void (*on_held)(void *data, uint64_t id);
    /* It may have ended: what was put under it may be gone, and others may have taken its place.
     * Called before etcd ends it, counted from when the last answer's request was sent. */
    void (*on_lost)(void *data);
    void *data;
};

/* Takes a lease of so many seconds and keeps it alive. owner: copied. */
struct etcd_lease *etcd_lease_new(struct etcd *etcd, uint32_t ttl_s,
                                  const struct etcd_lease_owner *owner);
/* Lets it go: etcd is told (but not waited for), so that what was put under it is gone at once.
 * NULL is fine; returns NULL. */
struct etcd_lease *etcd_lease_free(struct etcd_lease *lease);
