#include "rocketmq/rmq_dial.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PLACES_MAX = 8, WHY_SIZE = 400, SHARE_MIN_MS = 250 };

/* An address a name stands for. */
struct place {
    struct sockaddr_storage address;
    socklen_t size;
};

/* The work of a worker. It outlives a dial that is cancelled. */
struct resolution {
    struct work work;
    struct rmq_dial *dial; /* NULL: cancelled; only the loop reads it */
    char host[RMQ_ADDRESS_SIZE_MAX], port[6];
    struct place places[PLACES_MAX];
    uint32_t count;
    int result; /* of getaddrinfo */
};

struct rmq_dial {
    struct rmq_net net;
    rmq_dial_fn *done;
    void *data;
    struct resolution *resolution; /* while it is under way */
    struct place places[PLACES_MAX];
    uint32_t count, next;
    uint32_t timeout_ms;
    struct io_watch watch; /* fd -1: no attempt is under way */
    struct timer timer;    /* the next step, or the end of an attempt's time */
    int err;
    char address[RMQ_ADDRESS_SIZE_MAX];
    char why[WHY_SIZE];
};

int rmq_dial_parse(const char *address, char ret_host[RMQ_ADDRESS_SIZE_MAX], char ret_port[6])
{
    const char *host = address, *colon = strrchr(address, ':');
    if (!colon)
        return ERR_INVALID;
    size_t host_size = (size_t)(colon - address);
    if (*address == '[') {
        if (host_size < 3 || colon[-1] != ']')
            return ERR_INVALID;
        host++;
        host_size -= 2;
    } else if (memchr(address, ':', host_size)) {
        return ERR_INVALID; /* which colon is meant? */
    }
    const size_t port_size = strlen(colon + 1);
    if (host_size == 0 || host_size >= RMQ_ADDRESS_SIZE_MAX || port_size == 0 || port_size > 5 ||
        strspn(colon + 1, "0123456789") != port_size)
        return ERR_INVALID;
    memcpy(ret_host, host, host_size);
    ret_host[host_size] = '\0';
    memcpy(ret_port, colon + 1, port_size + 1);
    return 0;
}

/* Fills in places; flags: AI_NUMERICHOST for what needs no resolver. Thread: any. */
static int resolve(const char *host, const char *port, int flags, struct place *places,
                   uint32_t *ret_count)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *first = NULL;
    uint32_t count = 0;
    const int result = getaddrinfo(host, port, &hints, &first);
    if (result != 0)
        return result;
    for (const struct addrinfo *it = first; it && count < PLACES_MAX; it = it->ai_next) {
        if (it->ai_addrlen > sizeof places->address)
            continue;
        memcpy(&places[count].address, it->ai_addr, it->ai_addrlen);
        places[count++].size = it->ai_addrlen;
    }
    freeaddrinfo(first);
    *ret_count = count;
    return count > 0 ? 0 : EAI_NONAME;
}

static void dial_free(struct rmq_dial *dial)
{
    if (dial->watch.fd >= 0) {
        io_watch_stop(dial->net.loop, &dial->watch);
        (void)close(dial->watch.fd);
    }
    timer_stop(loop_timers(dial->net.loop), &dial->timer);
    if (dial->resolution)
        dial->resolution->dial = NULL;
    mem_free(dial);
}

static void finish(struct rmq_dial *dial, int fd)
{
    dial->done(dial->data, fd, fd >= 0 ? 0 : dial->err, dial->why);
    dial_free(dial);
}

static void note(struct rmq_dial *dial, int err, const char *what)
{
    struct errmsg message = {0};
    dial->err = err;
    errmsg_wrap(&message, "could not connect to %s: %s", dial->address, what);
    memcpy(dial->why, message.text, sizeof dial->why);
    dial->why[sizeof dial->why - 1] = '\0';
}

/* --- attempts -----------------------------------------------------------------------------------
 */

static void end_attempt(struct rmq_dial *dial)
{
    io_watch_stop(dial->net.loop, &dial->watch);
    (void)close(dial->watch.fd);
    dial->watch.fd = -1;
}

/* Begins the next attempt that does not fail at once; false: there is none. */
static bool attempt(struct rmq_dial *dial)
{
    while (dial->next < dial->count) {
        const struct place *place = &dial->places[dial->next++];
        const int fd =
            socket(place->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            note(dial, -errno, err_text(-errno));
            continue;
        }
        dial->watch.fd = fd;
        int err =
            connect(fd, (const struct sockaddr *)&place->address, place->size) < 0 ? -errno : 0;
        if (err == 0 || err == -EINPROGRESS || err == -EINTR)
            err = io_watch_start(dial->net.loop, &dial->watch, IO_WRITE);
        if (err == 0) {
            const uint32_t share = dial->timeout_ms / dial->count;
            timer_start(loop_timers(dial->net.loop), &dial->timer, MAX(share, SHARE_MIN_MS));
            return true;
        }
        note(dial, err, err_text(err));
        (void)close(fd);
        dial->watch.fd = -1;
    }
    return false;
}

static void go_on(struct rmq_dial *dial)
{
    if (!attempt(dial))
        finish(dial, -1);
}

static void on_event(struct io_watch *watch, unsigned events)
{
    struct rmq_dial *dial = CONTAINER_OF(watch, struct rmq_dial, watch);
    int error = 0;
    socklen_t size = sizeof error;
    (void)events;
    if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0) {
        const int fd = watch->fd;
        io_watch_stop(dial->net.loop, watch);
        watch->fd = -1;
        finish(dial, fd);
        return;
    }
    note(dial, -error, err_text(-error));
    end_attempt(dial);
    go_on(dial);
}

static void on_due(struct timer *timer)
{
    struct rmq_dial *dial = CONTAINER_OF(timer, struct rmq_dial, timer);
    if (dial->watch.fd >= 0) {
        note(dial, -ETIMEDOUT, "it does not answer; is the address right, is a firewall between?");
        end_attempt(dial);
    }
    go_on(dial);
}

/* --- names --------------------------------------------------------------------------------------
 */

static void run_resolution(struct work *work)
{
    struct resolution *it = CONTAINER_OF(work, struct resolution, work);
    it->result = resolve(it->host, it->port, AI_ADDRCONFIG, it->places, &it->count);
}

static void on_resolved(struct work *work)
{
    struct resolution *it = CONTAINER_OF(work, struct resolution, work);
    struct rmq_dial *dial = it->dial;
    if (dial) {
        dial->resolution = NULL;
        memcpy(dial->places, it->places, sizeof dial->places);
        dial->count = it->count;
        if (it->result != 0)
            note(dial, ERR_NOTFOUND, gai_strerror(it->result));
    }
    mem_free(it);
    if (dial)
        go_on(dial);
}

/* What is at hand is tried in the next turn of the loop. */
static void begin(struct rmq_dial *dial)
{
    char host[RMQ_ADDRESS_SIZE_MAX] = "", port[6] = "";
    timer_start(loop_timers(dial->net.loop), &dial->timer, 0);
    if (rmq_dial_parse(dial->address, host, port) < 0) {
        note(dial, ERR_INVALID, "write host:port, or [address]:port for IPv6");
        return;
    }
    if (resolve(host, port, AI_NUMERICHOST, dial->places, &dial->count) == 0)
        return;
    if (!dial->net.workers) {
        note(dial, ERR_NOTFOUND, "the host is not a number");
        return;
    }
    struct resolution *it = mem_new(sizeof *it);
    it->work.run = run_resolution;
    it->work.done = on_resolved;
    it->dial = dial;
    memcpy(it->host, host, sizeof host);
    memcpy(it->port, port, sizeof port);
    dial->resolution = it;
    timer_stop(loop_timers(dial->net.loop), &dial->timer);
    worker_submit(dial->net.workers, dial->net.mailbox, &it->work);
}

struct rmq_dial *rmq_dial_start(const struct rmq_net *net, const char *address, uint32_t timeout_ms,
                                rmq_dial_fn *done, void *data)
{
    struct rmq_dial *dial = mem_new(sizeof *dial);
    *dial = (struct rmq_dial){
        .net = *net, .done = done, .data = data, .timeout_ms = timeout_ms, .watch.fd = -1};
    dial->watch.on_event = on_event;
    dial->timer.on_due = on_due;
    memcpy(dial->address, address, MIN(strlen(address), sizeof dial->address - 1));
    begin(dial);
    return dial;
}

struct rmq_dial *rmq_dial_cancel(struct rmq_dial *dial)
{
    if (dial)
        dial_free(dial);
    return NULL;
}
