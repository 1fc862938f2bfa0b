/* Codes of Apache RocketMQ's remoting protocol: what can be asked for, what comes back, and what it
 * means to who asked.
 *
 * Spec: [RMQ RequestCode.java] [RMQ ResponseCode.java]. Thread: any.
 */
#pragma once

#include "base/base.h"

enum rmq_request_code {
#define REQUEST(name, code) RMQ_##name = (code),
#include "rocketmq/rmq_codes.def"
};

enum rmq_result_code {
#define RESULT(name, code, outcome, advice) RMQ_R_##name = (code),
#include "rocketmq/rmq_codes.def"
};

/* What a request came to. */
enum rmq_outcome {
    RMQ_DONE,    /* as asked; of a message: durable under the Broker's configuration */
    RMQ_STORED,  /* of a message: stored, but not as durably as configured; must not be acknowledged
                  * as durable, and must not be sent again without looking for duplicates */
    RMQ_NOTHING, /* there is nothing of that kind, or nothing yet */
    RMQ_MOVED,   /* of a pull: go on at the offset that came back */
    RMQ_BUSY,    /* not done: the server holds back load; later */
    RMQ_NO_ROUTE,    /* not done: the topic or its master is somewhere else, or nowhere */
    RMQ_GO_AWAY,     /* not done: the server is about to stop */
    RMQ_UNAVAILABLE, /* not done: no connection, or the server does not take it at present */
    RMQ_DENIED,      /* not done: keys or permission */
    RMQ_REFUSED,     /* not done, and will not be */
    RMQ_UNKNOWN, /* may or may not have been done: the answer got lost, was late, or is malformed */
};

struct rmq_result_row {
    int32_t code;
    const char *name;
    enum rmq_outcome outcome;
    const char *advice; /* what to do next, for people */
};

/* The row of a result's code. One that is not in the table comes as a refusal named "unknown". */
const struct rmq_result_row *rmq_codes_result(int32_t code);
/* The name of a request's code; "unknown". */
const char *rmq_codes_request(int32_t code);
const char *rmq_codes_outcome(enum rmq_outcome outcome);
