/* The stage of the PROXY protocol: takes the header off the front of a stream, and says from then
 * on that the other end is whom the header names. Reading gives ERR_AGAIN until it has come.
 */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "net/stream.h"

enum proxy_header {
    PROXY_HEADER_NONE,     /* there is no such stage */
    PROXY_HEADER_OPTIONAL, /* a stream without a header is taken as it is */
    PROXY_HEADER_REQUIRED,
};

/* Puts itself on `below`, which it takes over. log, metrics: where a wrong header is logged and
 * counted; may be NULL. Thread: the loop's. */
struct stream *proxy_header_new(struct loop *loop, struct stream *below, enum proxy_header mode,
                                struct log *log, struct metrics *metrics);
