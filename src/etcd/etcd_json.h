/* What goes over etcd's JSON gateway: requests written, answers read. Keys and values are base64
 * there, and 64-bit numbers are strings. Private to etcd/. Thread: any.
 *
 * Spec: etcd API v3, rpc.proto and kv.proto, as grpc-gateway maps them to JSON.
 */
#pragma once

#include "base/strbuf.h"
#include "etcd/etcd.h"

/* The body of /v3/kv/txn. Failures stick to `out`. */
void etcd_txn_write(struct strbuf *out, const struct etcd_txn *txn);

/* The body of /v3/watch: changes of all keys from `key` on and below `end`, of from_revision and
 * later. */
void etcd_watch_write(struct strbuf *out, struct slice key, struct slice end,
                      uint64_t from_revision);

/* An answer to a txn. Returns 0; ERR_MALFORMED: not one, with the reason in *ret_why.
 * etcd_rows_done in any case. */
MUST_CHECK int etcd_txn_read(struct slice body, struct etcd_answer *ret_answer,
                             const char **ret_why);
void etcd_answer_done(struct etcd_answer *answer);

/* One object of the stream that a watch answers. */
struct etcd_changes {
    uint64_t compacted;      /* > 0: the watch is over, what is older than this is gone */
    bool over;               /* etcd has ended the watch */
    struct etcd_change *all; /* owned */
    uint32_t count;
};
MUST_CHECK int etcd_changes_read(struct slice body, struct etcd_changes *ret_changes,
                                 const char **ret_why);
void etcd_changes_done(struct etcd_changes *changes);

/* A lease in an answer to grant or keep-alive. ttl_s 0: there is no such lease (any more). */
MUST_CHECK int etcd_lease_read(struct slice body, uint64_t *ret_id, uint32_t *ret_ttl_s,
                               const char **ret_why);

/* etcd's words for an answer whose status is not 200, cut to fit; "" when there are none. */
void etcd_error_read(struct slice body, char *ret_text, size_t room);
