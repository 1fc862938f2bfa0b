/* The WebSocket stage of a stream (RFC 6455): the HTTP request, then frames, over any stage below.
 *
 * Above it is a stream of bytes as any other: what binary messages carry, wherever they and their
 * frames begin. What is written at once goes as one frame. Pings are answered here, close frames
 * too; what breaks a rule is answered with a close frame (or an HTTP answer, before there are
 * frames) that says why, and ends the stream with ERR_PROTOCOL.
 *
 * Invariant for the user: what writev did not take is what the next writev begins with. The head of
 * its frame has gone out.
 *
 * Thread: the loop's, but for ws_service_*: any.
 */
#pragma once

#include "net/stream.h"

/* What a listener serves; counted. */
struct ws_service;

struct ws_options {
    const char *const *origins; /* of pages that may connect; none: all may */
    uint32_t origin_count;
    uint64_t frame_max; /* most bytes of payload in a frame of a client */
};

/* One reference. path: see http_upgrade_path_check. All is copied. */
struct ws_service *ws_service_new(const char *path, const struct ws_options *options);
/* Takes other options, for requests that are answered and connections that begin from now on. */
void ws_service_configure(struct ws_service *service, const struct ws_options *options);
struct ws_service *ws_service_ref(struct ws_service *service);   /* returns service */
struct ws_service *ws_service_unref(struct ws_service *service); /* NULL is fine; returns NULL */

/* Takes over `below`; refers to `service`. Reading gives ERR_AGAIN until the request is answered.
 */
struct stream *ws_new(struct loop *loop, struct stream *below, struct ws_service *service);
