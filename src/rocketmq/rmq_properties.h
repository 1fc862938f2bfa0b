/* Properties of a message: one text "name\1value\2name\1value\2…" of 32,767 bytes at most.
 *
 * Spec: [RMQ MessageDecoder.java] [RMQ MessageConst.java]. Thread: any.
 */
#pragma once

#include "base/buf.h"
#include "base/strbuf.h"

#define RMQ_PROPERTIES_SIZE_MAX  32767u

#define RMQ_PROPERTY_KEYS        "KEYS" /* separated by blanks; a Broker indexes them */
#define RMQ_PROPERTY_TAGS        "TAGS"
#define RMQ_PROPERTY_UNIQUE_KEY  "UNIQ_KEY" /* the sender's own ID of the message */
#define RMQ_PROPERTY_WAIT        "WAIT" /* "false": the answer does not wait for disk or replica */
#define RMQ_PROPERTY_LMQ_NAMES   "INNER_MULTI_DISPATCH"
#define RMQ_PROPERTY_LMQ_OFFSETS "INNER_MULTI_QUEUE_OFFSET"
#define RMQ_PROPERTY_POP_CHECK   "POP_CK" /* what an acknowledgement of a popped message needs */
#define RMQ_LMQ_PREFIX           "%LMQ%"

struct rmq_property {
    struct slice name, value;
};

/* Takes the next property off `rest`. Returns whether there was one. A piece without a name or a
 * separator, which a Broker ignores, is ignored. */
bool rmq_properties_next(struct slice *rest, struct rmq_property *ret_property);
/* The value of the first of that name, or one whose bytes are NULL. */
struct slice rmq_properties_find(struct slice properties, const char *name);

/* Prepares `strbuf` for properties of a message that goes to so many LMQs: its maximum leaves room
 * for what the Broker adds, which is the offset in each of them among others. */
void rmq_properties_init(struct strbuf *strbuf, uint32_t lmq_count);
/* Adds one; strbuf_err tells ERR_FULL: too many bytes. Returns 0, or ERR_INVALID: the name is
 * empty, or it or the value has a byte 1 or 2, which separate them. */
MUST_CHECK int rmq_properties_add(struct strbuf *strbuf, struct slice name, struct slice value);
