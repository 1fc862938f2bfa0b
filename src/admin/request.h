/* One HTTP request: what arrived, and its answer. Private to admin.
 *
 * A request belongs to its HTTP connection. A handler either answers before it returns or calls
 * request_wait and answers later; an answer to a request whose connection has gone is dropped. A
 * waiting request is kept until request_done_waiting, even beyond admin_free.
 */
#pragma once

#include "admin/admin.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/strbuf.h"

#include <jansson.h>
#include <microhttpd.h>

struct admin {
    struct admin_config config;
    struct admin_deps deps;
    struct MHD_Daemon *daemon;
    struct io_watch watch;
    struct timer timer;
    struct deferred pump;
    struct list requests; /* all of them */
    bool draining;
};

struct request;

/* The connection has gone while the request waited: end the wait (request_done_waiting). */
typedef void request_cancel_fn(struct request *request, void *data);

enum request_state { REQUEST_READING, REQUEST_WAITING, REQUEST_ANSWERED };

struct request {
    struct list node;
    struct admin *admin;
    struct MHD_Connection *connection; /* NULL once it is gone */
    const char *url;                   /* percent-decoded path; lives as long as the connection */
    bool is_post, is_head;
    bool authorised;
    bool waiting; /* for the core: keeps the request alive */
    bool suspended;
    enum request_state state;
    request_cancel_fn *cancel;
    void *cancel_data;
    struct strbuf body;
    char id[37];        /* RequestId */
    const char *action; /* its name in the table of actions; NULL: none */

    unsigned status; /* the answer */
    const char *content_type;
    char *text;
    size_t size;
};

struct request *request_new(struct admin *admin, struct MHD_Connection *connection, const char *url,
                            const char *method);
/* The connection has gone; frees the request unless it waits for the core. */
void request_gone(struct request *request);

/* The handler will answer later. cancel: NULL when the wait cannot be ended early. */
void request_wait(struct request *request, request_cancel_fn *cancel, void *data);
/* The core has answered: what follows is the last use of the request. */
void request_done_waiting(struct request *request);

/* A query argument, decoded; false when it is not there. Borrowed as long as the connection. */
bool request_argument(const struct request *request, const char *name, struct slice *ret_value);
const char *request_header(const struct request *request, const char *name); /* may be NULL */

/* Answers with a text that is copied. */
void request_reply_text(struct request *request, unsigned status, const char *text);
/* Answers with the text of `out`, which is emptied; 500 when it failed. */
void request_reply_strbuf(struct request *request, unsigned status, const char *content_type,
                          struct strbuf *out);
/* Answers with JSON; `value` is taken. NULL (out of memory): 500. */
void request_reply_json(struct request *request, unsigned status, json_t *value);
/* {"error": text}. */
void request_reply_problem(struct request *request, unsigned status, const char *fmt, ...)
    PRINTF(3, 4);

/* A JSON string of a slice that is UTF-8 already. */
json_t *request_json_text(struct slice text);
