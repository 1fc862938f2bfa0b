/* HTTP client: requests to other servers (authentication, key sets) from the event loop, by
 * libcurl's multi interface. Nothing blocks but the set-up of a TLS session, which costs the loop
 * about a millisecond; connections are kept for the next request.
 *
 * http and https only, with the server's certificate verified; no redirects, no proxies, no
 * decompression. Neither URLs nor headers nor bodies get into error texts: they may hold secrets.
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/buf.h"
#include "io/loop.h"

struct http_client;
struct http_call;

/* A part of the body of an answer of status 200, in order. bytes: borrowed for the call, in which
 * the client must not be freed and this call not be cancelled. */
typedef void http_part_fn(void *data, struct slice bytes);

struct http_request {
    const char *url;
    struct slice body;          /* of a POST */
    bool is_post;               /* else GET */
    const char *const *headers; /* "Name: value" */
    uint32_t header_count;
    uint32_t connect_timeout_ms;
    uint32_t read_timeout_ms; /* from there to the end of the answer; 0: however long it takes */
    uint32_t answer_max;      /* bytes of its body */
    http_part_fn *on_part;    /* NULL, or: is given a body of status 200, which may be endless, and
                               * `done` an empty one. Such connections are kept alive (TCP), so that
                               * a peer that is gone is noticed within half a minute. */
    const char *ca_file;      /* certificates to trust; NULL or "": the system's */
};

struct http_answer {
    int err;         /* 0: the server has answered; ERR_FULL: more than answer_max bytes;
                      * -ETIMEDOUT; ERR_UNAVAILABLE: no connection, no trust, no HTTP */
    const char *why; /* with an error, for people */
    bool was_sent;   /* with an error: the server may have acted on the request */
    uint32_t status; /* 200 and so on */
    struct slice body;
};

/* answer: borrowed for the call. The client must not be freed inside. */
typedef void http_done_fn(void *data, const struct http_answer *answer);

MUST_CHECK int http_client_new(struct loop *loop, struct http_client **ret_client,
                               struct errmsg *reterr);
/* Cancels what is under way. NULL is fine; returns NULL. */
struct http_client *http_client_free(struct http_client *client);

/* Whether the text can be requested: http:// or https:// and a host. Thread: any. */
bool http_url_is_sound(const char *url);

/* Starts a request, all of which is borrowed for the call. `done` runs once, later, unless
 * cancelled. Returns 0; ERR_INVALID: not such a URL; ERR_NOMEM. */
MUST_CHECK int http_client_start(struct http_client *client, const struct http_request *request,
                                 http_done_fn *done, void *data, struct http_call **ret_call);
/* done will not be called. */
void http_call_cancel(struct http_call *call);
