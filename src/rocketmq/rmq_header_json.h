/* JSON headers of commands: an object of numbers and texts, and in it one object of texts.
 *
 * Every answer of a Broker has one, the acknowledgement of each message among them, so they are
 * read without a general parser: one pass, nothing allocated unless a text is escaped.
 *
 * Thread: any.
 */
#pragma once

#include "base/strbuf.h"
#include "rocketmq/rmq_command.h"

/* Fills a cleared command; results as rmq_command_decode. What it allocated before it failed is the
 * command's. Unknown members are skipped; of two with one name the last counts. */
MUST_CHECK int rmq_header_json_decode(struct slice header, struct rmq_command *command,
                                      const char **ret_why);
/* Adds the header; strbuf_err tells whether it is whole. */
void rmq_header_json_encode(const struct rmq_command *command, struct strbuf *strbuf);
