#include "admin/request.h"

#include "base/mem.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX (64u * 1024 * 1024)

static void make_id(char id[37])
{
    uint8_t bytes[16];
    char hex[33];
    randombytes_buf(bytes, sizeof(bytes));
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40); /* version 4, RFC 4122 */
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    (void)sodium_bin2hex(hex, sizeof(hex), bytes, sizeof(bytes));
    (void)snprintf(id, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

struct request *request_new(struct admin *admin, struct MHD_Connection *connection, const char *url,
                            const char *method)
{
    struct request *request = mem_new(sizeof(*request));
    request->admin = admin;
    request->connection = connection;
    request->url = url;
    request->is_post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    request->is_head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    strbuf_init(&request->body, ADMIN_BODY_MAX);
    make_id(request->id);
    list_init(&request->node);
    list_push_back(&admin->requests, &request->node);
    return request;
}

static void request_free(struct request *request)
{
    list_remove(&request->node);
    strbuf_done(&request->body);
    mem_free(request->text);
    mem_free(request);
}

void request_gone(struct request *request)
{
    request->connection = NULL;
    request->url = NULL;
    if (request->waiting && request->cancel) {
        request->cancel(request, request->cancel_data);
    } else if (request->waiting) {
        /* The core still holds it; admin may be freed before the core answers. */
        list_remove(&request->node);
        request->admin = NULL;
    } else {
        request_free(request);
    }
}

void request_wait(struct request *request, request_cancel_fn *cancel, void *data)
{
    ASSERT(!request->waiting);
    request->waiting = true;
    request->cancel = cancel;
    request->cancel_data = data;
}

void request_done_waiting(struct request *request)
{
    ASSERT(request->waiting);
    request->waiting = false;
    if (!request->connection) {
        request_free(request);
    }
}

bool request_argument(const struct request *request, const char *name, struct slice *ret_value)
{
    const char *value;
    size_t size;
    if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name,
                                      strlen(name), &value, &size) != MHD_YES ||
        !value) {
        return false;
    }
    *ret_value = slice_of(value, size);
    return true;
}

const char *request_header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* Takes over `text`; lets the connection go on when it was suspended. */
static void answer(struct request *request, unsigned status, const char *content_type, char *text,
                   size_t size)
{
    if (!request->connection) {
        mem_free(text);
        return;
    }
    ASSERT(request->state != REQUEST_ANSWERED);
    request->state = REQUEST_ANSWERED;
    request->status = status;
    request->content_type = content_type;
    request->text = text;
    request->size = size;
    if (request->suspended) {
        request->suspended = false;
        MHD_resume_connection(request->connection);
        loop_defer(request->admin->deps.loop, &request->admin->pump);
    }
}

void request_reply_strbuf(struct request *request, unsigned status, const char *content_type,
                          struct strbuf *out)
{
    char *text;
    size_t size;
    if (strbuf_take(out, &text, &size) < 0) {
        strbuf_done(out);
        answer(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", NULL, 0);
        return;
    }
    answer(request, status, content_type, text, size);
}

void request_reply_text(struct request *request, unsigned status, const char *text)
{
    struct strbuf out;
    strbuf_init(&out, ANSWER_MAX);
    strbuf_add(&out, text);
    request_reply_strbuf(request, status, "text/plain; charset=utf-8", &out);
}

static int add_chunk(const char *bytes, size_t size, void *data)
{
    strbuf_add_bytes(data, bytes, size);
    return 0;
}

void request_reply_json(struct request *request, unsigned status, json_t *value)
{
    struct strbuf out;
    strbuf_init(&out, ANSWER_MAX);
    if (!value || json_dump_callback(value, add_chunk, &out, JSON_COMPACT) < 0) {
        out.err = ERR_NOMEM;
    }
    json_decref(value);
    /* Exactly this type: Tencent's SDK takes one with a charset for something else. */
    request_reply_strbuf(request, status, "application/json", &out);
}

void request_reply_problem(struct request *request, unsigned status, const char *fmt, ...)
{
    char text[256];
    va_list va;
    va_start(va, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, va);
    va_end(va);
    request_reply_json(request, status, json_pack("{s:s}", "error", text));
}

json_t *request_json_text(struct slice text)
{
    return json_stringn(text.size > 0 ? (const char *)text.bytes : "", text.size);
}
