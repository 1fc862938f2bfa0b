/* Dial: gets a connected socket to "host:port", without ever holding up the loop.
 *
 * A host that is a number is used as it is; a name is resolved by a worker. Its addresses are tried
 * one after the other, and share the time there is. Thread: the loop's.
 */
#pragma once

#include "base/base.h"
#include "rocketmq/rmq_net.h"

#define RMQ_ADDRESS_SIZE_MAX 300 /* of "host:port" with its NUL */

struct rmq_dial;

/* fd: the callee's, or -1; then err is negative and why (borrowed for the call) says what to do. */
typedef void rmq_dial_fn(void *data, int fd, int err, const char *why);

/* Takes "host:port" or "[v6]:port" apart, into the caller's rooms. Returns 0, or ERR_INVALID. */
MUST_CHECK int rmq_dial_parse(const char *address, char ret_host[RMQ_ADDRESS_SIZE_MAX],
                              char ret_port[6]);
/* Starts. `done` runs once, later, unless cancelled. */
struct rmq_dial *rmq_dial_start(const struct rmq_net *net, const char *address, uint32_t timeout_ms,
                                rmq_dial_fn *done, void *data);
/* done will not be called. NULL is fine; returns NULL. */
struct rmq_dial *rmq_dial_cancel(struct rmq_dial *dial);
