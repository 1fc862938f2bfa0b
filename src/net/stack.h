/* Stack: how the connections of one listener are carried, stage upon stage.
 *
 *     socket ▶ [PROXY protocol] ▶ [TLS] ▶ [WebSocket] ▶ MQTT
 *
 * Made once for a listener from its URL, unchanged from then on but for what is read anew at a
 * reload, and counted: the front that opens a connection may do so after the listener is gone.
 *
 * Thread: any.
 */
#pragma once

#include "net/listener_url.h"
#include "net/peer.h"
#include "net/stream.h"
#include "net/tls_options.h"
#include "net/ws.h"

struct log;
struct metrics;
struct stack;
struct tls_source;

struct stack_config {
    const struct tls_options
        *tls; /* what holds where the URL says nothing; borrowed for the call */
    const struct ws_options *websocket; /* borrowed for the call */
    struct log *log; /* may be NULL, as may metrics; borrowed as long as the stack */
    struct metrics *metrics;
};

/* One reference. Returns 0, or an error with the reason in reterr. */
MUST_CHECK int stack_new(const struct listener_url *url, const struct stack_config *config,
                         struct stack **ret_stack, struct errmsg *reterr);
struct stack *stack_ref(struct stack *stack);   /* returns stack */
struct stack *stack_unref(struct stack *stack); /* NULL is fine; returns NULL */

/* Takes other options of WebSocket; harmless without it. */
void stack_configure(struct stack *stack, const struct ws_options *websocket);

/* The credentials of its TLS; NULL without TLS. Borrowed. */
struct tls_source *stack_tls(const struct stack *stack);
/* Whether its streams linger, see stream.h. */
bool stack_lingers(const struct stack *stack);

/* The topmost stage for the accepted, non-blocking socket `fd`, which it takes over, as it does the
 * reference to `peer`. Handshakes happen inside: reading gives ERR_AGAIN until they are done.
 * Thread: the loop's. */
struct stream *stack_open(const struct stack *stack, struct loop *loop, int fd,
                          const struct peer *peer);
