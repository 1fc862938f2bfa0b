/* URL parsing, binding and accepting.
 *
 * Accepting takes at most a batch per readiness, so that a flood of connections does not hold up
 * those that are open. Out of descriptors: all sockets of the listener are left alone for a while
 * (the kernel queues up to the backlog), logged once until accepting works again.
 */
#include "net/listener.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SOCKETS_MAX = 8, ACCEPT_BATCH = 64, PAUSE_MS = 200, PORT_DEFAULT = 1883 };

struct listener_socket {
    struct io_watch watch;
    struct listener *listener;
};

struct listener {
    struct listener_config config;
    struct listener_url url; /* with the real port */
    struct timer resume;
    bool starved; /* out of descriptors, and logged */
    dev_t path_dev;
    ino_t path_ino; /* of the Unix socket's file we made */
    int socket_count;
    struct listener_socket sockets[SOCKETS_MAX];
    char bound[LISTENER_HOST_MAX + 32];
};

/* --- URLs --------------------------------------------------------------------------------- */

static int parse_port(const char *text, const char *url, uint16_t *ret_port, struct errmsg *reterr)
{
    uint32_t port = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && port <= UINT16_MAX; p++)
        port = port * 10 + (uint32_t)(*p - '0');
    if (p == text || *p != '\0' || port > UINT16_MAX) {
        errmsg_wrap(reterr, "'%s': port '%s' is not a number from 0 to 65535", url, text);
        return ERR_INVALID;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

static int parse_unix(const char *path, const char *url, struct listener_url *ret_url,
                      struct errmsg *reterr)
{
    if (strncmp(path, "//", 2) == 0)
        path += 2;
    const size_t size = strlen(path);
    if (size == 0 || size > LISTENER_PATH_MAX) {
        errmsg_wrap(reterr, "'%s': the socket's path must have 1 to %d bytes", url,
                    LISTENER_PATH_MAX);
        return ERR_INVALID;
    }
    ret_url->kind = LISTENER_UNIX;
    memcpy(ret_url->path, path, size + 1);
    return 0;
}

/* Finds where the host ends and what follows it; *ret_rest is "" or ":PORT". */
static int split_host(const char *text, const char *url, struct slice *ret_host,
                      const char **ret_rest, struct errmsg *reterr)
{
    const char *end;
    if (*text == '[') {
        end = strchr(text, ']');
        if (!end) {
            errmsg_wrap(reterr, "'%s': the ']' of the IPv6 address is missing", url);
            return ERR_INVALID;
        }
        *ret_host = slice_of(text + 1, (size_t)(end - text - 1));
        *ret_rest = end + 1;
        return 0;
    }
    end = text + strcspn(text, ":");
    if (*end == ':' && strchr(end + 1, ':')) {
        errmsg_wrap(reterr, "'%s': an IPv6 address must stand in [brackets]", url);
        return ERR_INVALID;
    }
    *ret_host = slice_of(text, (size_t)(end - text));
    *ret_rest = end;
    return 0;
}

static int parse_tcp(const char *text, const char *url, struct listener_url *ret_url,
                     struct errmsg *reterr)
{
    struct slice host;
    const char *rest;
    if (strchr(text, '/') || strchr(text, '@') || strchr(text, '?')) {
        errmsg_wrap(reterr, "'%s': only HOST:PORT may follow 'mqtt://'", url);
        return ERR_INVALID;
    }
    int err = split_host(text, url, &host, &rest, reterr);
    if (err < 0)
        return err;
    if (host.size == 0 || host.size > LISTENER_HOST_MAX) {
        errmsg_wrap(reterr, "'%s': the host is %s", url,
                    host.size == 0 ? "missing ('*' means all addresses)" : "too long");
        return ERR_INVALID;
    }
    memcpy(ret_url->host, host.bytes, host.size);
    ret_url->host[host.size] = '\0';
    struct in6_addr address;
    if (*text == '[' && inet_pton(AF_INET6, ret_url->host, &address) != 1) {
        errmsg_wrap(reterr, "'%s': '%s' is not an IPv6 address", url, ret_url->host);
        return ERR_INVALID;
    }
    ret_url->kind = LISTENER_TCP;
    ret_url->port = PORT_DEFAULT;
    if (*rest == '\0')
        return 0;
    if (*rest != ':') {
        errmsg_wrap(reterr, "'%s': ':PORT' is expected behind ']', not '%s'", url, rest);
        return ERR_INVALID;
    }
    return parse_port(rest + 1, url, &ret_url->port, reterr);
}

int listener_url_parse(const char *text, struct listener_url *ret_url, struct errmsg *reterr)
{
    static const char tcp_scheme[] = "mqtt://", unix_scheme[] = "mqtt+unix:";
    struct listener_url url = {0};
    int err = ERR_INVALID;
    if (strncmp(text, tcp_scheme, sizeof tcp_scheme - 1) == 0)
        err = parse_tcp(text + sizeof tcp_scheme - 1, text, &url, reterr);
    else if (strncmp(text, unix_scheme, sizeof unix_scheme - 1) == 0)
        err = parse_unix(text + sizeof unix_scheme - 1, text, &url, reterr);
    else
        errmsg_wrap(reterr, "'%s': a listener is 'mqtt://HOST:PORT' or 'mqtt+unix:PATH'", text);
    if (err == 0)
        *ret_url = url;
    return err;
}

/* --- addresses ------------------------------------------------------------------------------ */

/* One address to bind. */
struct bindable {
    struct sockaddr_storage address;
    socklen_t size;
    bool both_families;
};

static struct bindable everywhere(int family, uint16_t port)
{
    struct bindable to = {.both_families = family == AF_INET6};
    if (family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to.address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        to.size = sizeof *in6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&to.address;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        to.size = sizeof *in;
    }
    return to;
}

/* Fills up to SOCKETS_MAX addresses of a name or literal. Returns how many, or an EAI_ code. */
static int resolve(const struct listener_url *url, struct bindable *ret_list)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    const int gai = getaddrinfo(url->host, NULL, &hints, &found);
    if (gai != 0)
        return gai < 0 ? gai : -gai;
    int count = 0;
    for (const struct addrinfo *it = found; it && count < SOCKETS_MAX; it = it->ai_next) {
        struct bindable *to = &ret_list[count];
        *to = (struct bindable){.size = it->ai_addrlen};
        memcpy(&to->address, it->ai_addr, it->ai_addrlen);
        if (it->ai_family == AF_INET)
            ((struct sockaddr_in *)&to->address)->sin_port = htons(url->port);
        else if (it->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)&to->address)->sin6_port = htons(url->port);
        else
            continue;
        count++;
    }
    freeaddrinfo(found);
    return count;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

bool listener_url_is_local(const struct listener_url *url)
{
    if (url->kind == LISTENER_UNIX)
        return true;
    if (strcmp(url->host, "*") == 0)
        return false;
    struct bindable list[SOCKETS_MAX];
    const int count = resolve(url, list);
    for (int i = 0; i < count; i++) {
        if (!is_loopback(&list[i].address))
            return false;
    }
    return count > 0;
}

void listener_address_text(const struct sockaddr_storage *address, char *ret_text, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        (void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        (void)snprintf(ret_text, size, "%s:%u", text, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        if (mapped)
            (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], text, sizeof text);
        else
            (void)inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        (void)snprintf(ret_text, size, mapped ? "%s:%u" : "[%s]:%u", text, ntohs(in6->sin6_port));
    } else {
        (void)snprintf(ret_text, size, "unix");
    }
}

/* --- accepting ------------------------------------------------------------------------------ */

static void want_all(struct listener *listener, unsigned events)
{
    for (int i = 0; i < listener->socket_count; i++) {
        const int err = io_watch_change(listener->config.loop, &listener->sockets[i].watch, events);
        ASSERT(err == 0);
    }
}

static void on_resume(struct timer *timer)
{
    want_all(CONTAINER_OF(timer, struct listener, resume), IO_READ);
}

static void starve(struct listener *listener, int err)
{
    if (!listener->starved)
        log_write(listener->config.log, LOG_ERROR, "listener",
                  "could not accept connections on %s, retrying: %s", listener->bound,
                  err_text(err));
    listener->starved = true;
    want_all(listener, 0);
    timer_start(loop_timers(listener->config.loop), &listener->resume, PAUSE_MS);
}

static void on_incoming(struct io_watch *watch, unsigned events)
{
    (void)events;
    struct listener_socket *source = CONTAINER_OF(watch, struct listener_socket, watch);
    struct listener *listener = source->listener;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        const int fd =
            accept4(watch->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            const int err = errno;
            if (err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM)
                starve(listener, -err);
            if (err == EINTR || err == ECONNABORTED)
                continue;
            return;
        }
        listener->starved = false;
        char text[LISTENER_ADDRESS_MAX];
        listener_address_text(&address, text, sizeof text);
        listener->config.on_accept(listener->config.data, fd, text);
    }
}

/* --- binding -------------------------------------------------------------------------------- */

/* Starts listening on a bound socket and takes it over. */
static int add_socket(struct listener *listener, int fd)
{
    const int backlog = listener->config.backlog > 0 ? listener->config.backlog : SOMAXCONN;
    if (listen(fd, backlog) < 0)
        return -errno;
    struct listener_socket *added = &listener->sockets[listener->socket_count];
    added->listener = listener;
    added->watch.fd = fd;
    added->watch.on_event = on_incoming;
    const int err = io_watch_start(listener->config.loop, &added->watch, IO_READ);
    if (err == 0)
        listener->socket_count++;
    return err;
}

static int bind_tcp(struct listener *listener, struct bindable *to)
{
    const int fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int v6_only = !to->both_families;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (to->address.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
    int err = bind(fd, (struct sockaddr *)&to->address, to->size) < 0 ? -errno : 0;
    if (err == 0)
        err = add_socket(listener, fd);
    if (err < 0) {
        (void)close(fd);
        return err;
    }
    struct sockaddr_in6 bound = {0};
    socklen_t size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0)
        return -errno;
    /* Port first in both families: with port 0 the other addresses get the same one. */
    listener->url.port = ntohs(bound.sin6_port);
    return 0;
}

static int open_tcp(struct listener *listener, struct errmsg *reterr)
{
    struct listener_url *url = &listener->url;
    struct bindable list[SOCKETS_MAX] = {0};
    int count = 1;
    const bool all = strcmp(url->host, "*") == 0;
    if (all)
        list[0] = everywhere(AF_INET6, url->port);
    else
        count = resolve(url, list);
    if (count <= 0) {
        errmsg_wrap(reterr, "could not find an address of '%s': %s", url->host,
                    count == 0 ? "it has none" : gai_strerror(count));
        return ERR_NOTFOUND;
    }
    for (int i = 0; i < count; i++) {
        ((struct sockaddr_in *)&list[i].address)->sin_port = htons(url->port);
        int err = bind_tcp(listener, &list[i]);
        if (all && (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)) {
            list[i] = everywhere(AF_INET, url->port);
            err = bind_tcp(listener, &list[i]);
        }
        /* A name may stand for an IPv6 address on a machine that has none. */
        if (err == -EADDRNOTAVAIL && (i + 1 < count || listener->socket_count > 0))
            continue;
        if (err < 0) {
            char text[LISTENER_ADDRESS_MAX];
            listener_address_text(&list[i].address, text, sizeof text);
            errmsg_wrap(reterr, "could not listen on %s: %s", text, err_text(err));
            return err;
        }
    }
    const bool v6 = strchr(url->host, ':') != NULL;
    (void)snprintf(listener->bound, sizeof listener->bound, v6 ? "mqtt://[%s]:%u" : "mqtt://%s:%u",
                   url->host, url->port);
    return 0;
}

/* Removes a Unix socket's file that is ours and that nobody answers on. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat info;
    if (lstat(address->sun_path, &info) < 0)
        return -errno;
    if (!S_ISSOCK(info.st_mode) || info.st_uid != geteuid())
        return -EADDRINUSE;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int err = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    (void)close(fd);
    if (err != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_unix(struct listener *listener, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, listener->url.path, sizeof address.sun_path);
    /* The file is made with the mode of the socket: never open to others, not even for a moment. */
    if (fchmod(fd, 0660) < 0)
        return -errno;
    int err = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    if (err == -EADDRINUSE) {
        err = remove_stale(&address);
        if (err == 0)
            err = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    }
    struct stat info = {0};
    if (err == 0 && (chmod(address.sun_path, 0660) < 0 || lstat(address.sun_path, &info) < 0))
        err = -errno;
    if (err == 0) {
        listener->path_dev = info.st_dev;
        listener->path_ino = info.st_ino;
    }
    return err;
}

static int open_unix(struct listener *listener, struct errmsg *reterr)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? -errno : bind_unix(listener, fd);
    if (err == 0)
        err = add_socket(listener, fd);
    if (err < 0) {
        errmsg_wrap(reterr, "could not listen on the socket '%s': %s", listener->url.path,
                    err_text(err));
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    (void)snprintf(listener->bound, sizeof listener->bound, "mqtt+unix:%s", listener->url.path);
    return 0;
}

int listener_new(const struct listener_url *url, const struct listener_config *config,
                 struct listener **ret_listener, struct errmsg *reterr)
{
    ASSERT(config->on_accept != NULL);
    struct listener *listener = mem_new(sizeof *listener);
    listener->config = *config;
    listener->url = *url;
    listener->resume.on_due = on_resume;
    const int err =
        url->kind == LISTENER_UNIX ? open_unix(listener, reterr) : open_tcp(listener, reterr);
    if (err < 0) {
        (void)listener_free(listener);
        return err;
    }
    *ret_listener = listener;
    return 0;
}

struct listener *listener_free(struct listener *listener)
{
    if (!listener)
        return NULL;
    timer_stop(loop_timers(listener->config.loop), &listener->resume);
    for (int i = 0; i < listener->socket_count; i++) {
        io_watch_stop(listener->config.loop, &listener->sockets[i].watch);
        (void)close(listener->sockets[i].watch.fd);
    }
    struct stat info;
    if (listener->path_ino != 0 && lstat(listener->url.path, &info) == 0 &&
        info.st_dev == listener->path_dev && info.st_ino == listener->path_ino)
        (void)unlink(listener->url.path);
    mem_free(listener);
    return NULL;
}

const char *listener_bound(const struct listener *listener)
{
    return listener->bound;
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->url.port;
}
