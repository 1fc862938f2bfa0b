#include "net/quic_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* TLS 1.3 alone, with the ciphers that QUIC has header protection for. */
#define PRIORITIES                                                                                 \
    "%DISABLE_TLS13_COMPAT_MODE:NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:"           \
    "+AES-256-GCM:+CHACHA20-POLY1305"

/* --- memory of ngtcp2, so that it is counted ---------------------------------------------------
 */

static void *take(size_t size, void *data)
{
    (void)data;
    return mem_try_alloc(size);
}

static void give(void *ptr, void *data)
{
    (void)data;
    mem_free(ptr);
}

static void *take_zeroed(size_t count, size_t size, void *data)
{
    (void)data;
    size_t total;
    return __builtin_mul_overflow(count, size, &total) ? NULL : mem_try_zeroed(total);
}

static void *resize(void *ptr, size_t size, void *data)
{
    (void)data;
    return mem_try_realloc(ptr, size);
}

/* --- TLS ---------------------------------------------------------------------------------------
 */

/* Asked whether a ticket was used before: see quic_handshake.c for why nobody keeps a register. */
static int on_early_data(void *data, time_t expires, const gnutls_datum_t *key,
                         const gnutls_datum_t *value)
{
    (void)data;
    (void)expires;
    (void)key;
    (void)value;
    return 0;
}

static int set_tls_up(struct quic *quic, struct errmsg *reterr)
{
    int code = gnutls_priority_init(&quic->priority, PRIORITIES, NULL);
    if (code >= 0)
        code = gnutls_anti_replay_init(&quic->anti_replay);
    if (code < 0) {
        errmsg_wrap(reterr, "could not set QUIC's TLS up: %s", gnutls_strerror(code));
        return ERR_NOMEM;
    }
    gnutls_anti_replay_set_add_function(quic->anti_replay, on_early_data);
    return 0;
}

/* --- all endpoints -------------------------------------------------------------------------- */

int quic_new(const struct quic_config *config, struct quic **ret_quic, struct errmsg *reterr)
{
    struct quic *quic = mem_new(sizeof *quic);
    quic->config = *config;
    quic->config.dir = NULL;
    quic->mem =
        (ngtcp2_mem){.malloc = take, .free = give, .calloc = take_zeroed, .realloc = resize};
    list_init(&quic->endpoints);
    int err = quic_secrets_open(config->dir, &quic->secrets, reterr);
    if (err == 0)
        err = set_tls_up(quic, reterr);
    if (err < 0) {
        (void)quic_free(quic);
        return err;
    }
    *ret_quic = quic;
    return 0;
}

static void endpoint_free(struct quic_endpoint *endpoint)
{
    struct loop *loop = endpoint->quic->config.loop;
    list_remove(&endpoint->node);
    for (uint32_t i = 0; i < endpoint->socket_count; i++) {
        io_watch_stop(loop, &endpoint->sockets[i].watch);
        (void)close(endpoint->sockets[i].watch.fd);
    }
    ASSERT(endpoint->cids.count == 0);
    hashmap_done(&endpoint->cids);
    (void)tls_source_unref(endpoint->source);
    mem_free(endpoint);
}

void quic_endpoint_end(struct quic_endpoint *endpoint)
{
    endpoint->closed = false; /* so that its last conn leaves it here */
    list_each_safe (it, &endpoint->conns)
        quic_conn_free(CONTAINER_OF(it, struct quic_conn, node));
    endpoint_free(endpoint);
}

struct quic *quic_free(struct quic *quic)
{
    if (!quic)
        return NULL;
    list_each_safe (it, &quic->endpoints)
        quic_endpoint_end(CONTAINER_OF(it, struct quic_endpoint, node));
    if (quic->priority)
        gnutls_priority_deinit(quic->priority);
    if (quic->anti_replay)
        gnutls_anti_replay_deinit(quic->anti_replay);
    explicit_bzero(&quic->secrets, sizeof quic->secrets);
    mem_free(quic);
    return NULL;
}

/* --- an endpoint's life ----------------------------------------------------------------------- */

struct quic_endpoint *quic_endpoint_new(struct quic *quic,
                                        const struct quic_endpoint_config *config)
{
    struct quic_endpoint *endpoint = mem_new(sizeof *endpoint);
    endpoint->quic = quic;
    endpoint->config = *config;
    endpoint->source = tls_source_ref(config->source);
    hashmap_init(&endpoint->cids);
    list_init(&endpoint->conns);
    list_init(&endpoint->waiting);
    list_push_back(&quic->endpoints, &endpoint->node);
    return endpoint;
}

static void end_if_empty(struct quic_endpoint *endpoint)
{
    if (endpoint->closed && list_empty(&endpoint->conns))
        endpoint_free(endpoint);
}

struct quic_endpoint *quic_endpoint_close(struct quic_endpoint *endpoint)
{
    if (endpoint) {
        endpoint->closed = true;
        end_if_empty(endpoint);
    }
    return NULL;
}

void quic_endpoint_leave(struct quic_endpoint *endpoint, struct quic_conn *conn)
{
    list_remove(&conn->node);
    end_if_empty(endpoint);
}
