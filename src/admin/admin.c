/* How libmicrohttpd is nested: its epoll descriptor is watched; `pump` runs it; a timer covers its
 * idle connections. Connections are accepted outside and handed in.
 *
 * MHD calls on_request once when the headers are there, then for each piece of the body, then once
 * with none: that is when a request is answered. A suspended connection is called again, likewise
 * with none, after its resumption.
 */
#include "admin/request.h"
#include "admin/route.h"
#include "base/mem.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_TIMEOUT_S 30u

static enum MHD_Result send_answer(struct request *request)
{
    ASSERT(request->state == REQUEST_ANSWERED);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(
        request->size, request->text ? request->text : "", request->text ? mem_free : NULL);
    if (!response) {
        return MHD_NO;
    }
    request->text = NULL;
    const bool unauthorised = request->status == MHD_HTTP_UNAUTHORIZED;
    enum MHD_Result sent = MHD_YES;
    if (request->content_type) {
        sent =
            MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, request->content_type);
    }
    if (sent == MHD_YES && unauthorised) {
        sent = MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    }
    if (sent == MHD_YES) {
        sent = MHD_queue_response(request->connection, request->status, response);
    }
    MHD_destroy_response(response);
    return sent;
}

/* Handles a request that is complete. */
static enum MHD_Result run_request(struct request *request)
{
    if (request->state == REQUEST_READING) {
        request->state = REQUEST_WAITING;
        route_request(request);
    }
    if (request->state == REQUEST_ANSWERED) {
        return send_answer(request);
    }
    ASSERT(request->waiting);
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

/* NOLINTNEXTLINE(readability-function-size): the signature is libmicrohttpd's. */
static enum MHD_Result on_request(void *data, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    (void)version;
    struct request *request = *state;
    if (!request) {
        request = request_new(data, connection, url, method);
        request->authorised = route_is_authorised(request);
        *state = request;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        /* Of strangers nothing is kept. */
        if (request->authorised) {
            strbuf_add_bytes(&request->body, upload, *upload_size);
        }
        *upload_size = 0;
        return MHD_YES;
    }
    return run_request(request);
}

static void on_completed(void *data, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)data;
    (void)connection;
    (void)code;
    if (*state) {
        request_gone(*state);
        *state = NULL;
    }
}

PRINTF(2, 0)
static void on_mhd_log(void *data, const char *fmt, va_list va)
{
    const struct admin *admin = data;
    char text[200];
    (void)vsnprintf(text, sizeof(text), fmt, va);
    log_write(admin->deps.log, LOG_DEBUG, "admin", "%s", text);
}

static void pump(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    (void)MHD_run(admin->daemon);
    if (MHD_get_timeout(admin->daemon, &timeout_ms) == MHD_YES) {
        timer_start(loop_timers(admin->deps.loop), &admin->timer, MAX(timeout_ms, 1u));
    } else {
        timer_stop(loop_timers(admin->deps.loop), &admin->timer);
    }
}

static void on_event(struct io_watch *watch, unsigned events)
{
    (void)events;
    pump(CONTAINER_OF(watch, struct admin, watch));
}

static void on_timer(struct timer *timer)
{
    pump(CONTAINER_OF(timer, struct admin, timer));
}

static void on_deferred(struct deferred *deferred)
{
    pump(CONTAINER_OF(deferred, struct admin, pump));
}

static int start_daemon(struct admin *admin)
{
    const unsigned flags =
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    admin->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, admin, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, admin,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
        ADMIN_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)ADMIN_HEADER_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_END);
    if (!admin->daemon) {
        return ERR_UNAVAILABLE;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info) {
        return ERR_UNAVAILABLE;
    }
    admin->watch.fd = info->epoll_fd;
    return io_watch_start(admin->deps.loop, &admin->watch, IO_READ);
}

int admin_new(const struct admin_config *config, const struct admin_deps *deps,
              struct admin **ret_admin, struct errmsg *reterr)
{
    if (sodium_init() < 0) {
        errmsg_wrap(reterr, "could not start the admin endpoint: libsodium does not start");
        return ERR_UNAVAILABLE;
    }
    struct admin *admin = mem_new(sizeof(*admin));
    admin->config = *config;
    admin->deps = *deps;
    admin->watch = (struct io_watch){.fd = -1, .on_event = on_event};
    admin->timer.on_due = on_timer;
    admin->pump.run = on_deferred;
    list_init(&admin->pump.node);
    list_init(&admin->requests);
    const int err = start_daemon(admin);
    if (err < 0) {
        errmsg_wrap(reterr, "could not start the admin endpoint: %s", err_text(err));
        (void)admin_free(admin);
        return err;
    }
    *ret_admin = admin;
    return 0;
}

void admin_configure(struct admin *admin, const struct admin_config *config)
{
    admin->config = *config;
}

void admin_accept(struct admin *admin, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0) {
        (void)close(fd);
        return;
    }
    /* MHD closes the descriptor when it refuses it. */
    (void)MHD_add_connection(admin->daemon, fd, (struct sockaddr *)&address, size);
    loop_defer(admin->deps.loop, &admin->pump);
}

void admin_drain(struct admin *admin)
{
    admin->draining = true;
}

/* MHD cannot stop while connections are suspended. */
static void answer_waiting(struct admin *admin)
{
    list_each_safe (node, &admin->requests) {
        struct request *request = CONTAINER_OF(node, struct request, node);
        if (request->suspended) {
            request_reply_problem(request, MHD_HTTP_SERVICE_UNAVAILABLE,
                                  "the server is shutting down");
        }
    }
}

struct admin *admin_free(struct admin *admin)
{
    if (!admin) {
        return NULL;
    }
    if (admin->watch.fd >= 0) {
        io_watch_stop(admin->deps.loop, &admin->watch);
    }
    if (admin->daemon) {
        answer_waiting(admin);
        (void)MHD_run(admin->daemon);
        MHD_stop_daemon(admin->daemon);
    }
    timer_stop(loop_timers(admin->deps.loop), &admin->timer);
    deferred_cancel(&admin->pump);
    ASSERT(list_empty(&admin->requests));
    mem_free(admin);
    return NULL;
}
