/* How the results of requests read. Each function is for results with an answer (command is there),
 * and returns 0, or ERR_MALFORMED: the answer lacks what it should have.
 *
 * Slices and messages lie in the result. Thread: any.
 */
#pragma once

#include "rocketmq/rmq_client.h"
#include "rocketmq/rmq_message.h"

/* Of rmq_send, RMQ_DONE and RMQ_STORED. */
struct rmq_sent {
    struct slice message_id; /* for rmq_view */
    uint32_t queue_id;
    uint64_t queue_offset; /* in the topic's queue; not in LMQs */
};
MUST_CHECK int rmq_result_sent(const struct rmq_result *result, struct rmq_sent *ret_sent);

/* Of rmq_pull, RMQ_DONE, RMQ_NOTHING and RMQ_MOVED. The messages are in the result's body, for
 * rmq_message_next. */
struct rmq_pulled {
    uint64_t next_offset; /* where to go on */
    uint64_t first_offset, end_offset;
};
MUST_CHECK int rmq_result_pulled(const struct rmq_result *result, struct rmq_pulled *ret_pulled);

/* Of rmq_edge, rmq_search, rmq_progress. */
MUST_CHECK int rmq_result_offset(const struct rmq_result *result, uint64_t *ret_offset);

/* The value of rmq_kv_get. */
struct slice rmq_result_value(const struct rmq_result *result);

/* Of rmq_pop, RMQ_DONE: the receipt of one message of the body. lmq: as in the place that was
 * popped, or NULL. Adds the handle to `handle`, whose strbuf_err is the caller's to check. */
MUST_CHECK int rmq_result_receipt(const struct rmq_result *result,
                                  const struct rmq_message *message, const char *lmq,
                                  struct strbuf *handle, uint64_t *ret_offset);
/* Of rmq_hide: the handle that takes the place of the old one. */
MUST_CHECK int rmq_result_hidden(const struct rmq_result *result, struct slice old_handle,
                                 struct strbuf *handle);
