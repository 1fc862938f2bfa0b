/* The TLS stage: TLS 1.2 and 1.3 as a server, over any stage.
 *
 * Its handshake begins by itself. A client that is refused is told why by an alert; the stage then
 * waits until the client closes, so that no reset destroys the alert, before it reports the end.
 */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "net/stream.h"
#include "net/tls_source.h"

/* Where a refused handshake is logged and counted; both may be NULL. */
struct tls_reports {
    struct log *log;
    struct metrics *metrics;
};

/* Puts TLS on `below`, which it takes over. source: borrowed for the call. alpn: the name of the
 * protocol inside, a constant; NULL: none. Thread: the loop's. */
struct stream *tls_new(struct loop *loop, struct stream *below, struct tls_source *source,
                       const char *alpn, const struct tls_reports *reports);
