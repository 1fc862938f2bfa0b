/* Staging, committing, listing; and closing those whose certificate was revoked meanwhile.
 *
 * The conns are looked through some at a time, because each look takes a certificate apart. The
 * list of conns is turned for that: who has been looked at goes to its end, marked with the number
 * of the round, so that whoever comes or goes in between does no harm.
 */
#include "proxy/proxy_tls.h"

#include "net/peer.h"
#include "net/stack.h"
#include "net/tls_source.h"
#include "proxy/proxy_priv.h"

enum { LOOKS_MAX = 32, PASSES_MAX = 4096, NEXT_MS = 1 };

/* --- reading anew --------------------------------------------------------------------------- */

static struct tls_source *source_of(const struct proxy_listener *listener)
{
    return listener->stack ? stack_tls(listener->stack) : NULL;
}

void proxy_tls_discard(struct proxy *proxy)
{
    list_each (it, &proxy->listeners) {
        struct tls_source *source = source_of(CONTAINER_OF(it, struct proxy_listener, node));
        if (source)
            tls_source_discard(source);
    }
}

int proxy_tls_stage(struct proxy *proxy, const struct tls_options *tls, struct errmsg *reterr)
{
    list_each (it, &proxy->listeners) {
        const struct proxy_listener *listener = CONTAINER_OF(it, struct proxy_listener, node);
        struct tls_source *source = source_of(listener);
        const int err = source ? tls_source_stage(source, tls, reterr) : 0;
        if (err < 0) {
            errmsg_wrap(reterr, "listener %s", listener_bound(listener->listener));
            proxy_tls_discard(proxy);
            return err;
        }
    }
    return 0;
}

void proxy_tls_commit(struct proxy *proxy)
{
    list_each (it, &proxy->listeners) {
        struct tls_source *source = source_of(CONTAINER_OF(it, struct proxy_listener, node));
        if (source)
            tls_source_commit(source);
    }
    proxy->tls_round++;
    proxy->revoking.on_due = proxy_on_revoking;
    timer_start(proxy->timers, &proxy->revoking, NEXT_MS);
}

/* --- revoked certificates --------------------------------------------------------------------- */

bool conn_is_revoked(const struct conn *conn, bool *ret_looked)
{
    struct tls_source *source = conn->stack ? stack_tls(conn->stack) : NULL;
    const struct peer *peer = source ? stream_peer(conn->stream) : NULL;
    *ret_looked = peer && peer->certificate;
    if (!*ret_looked)
        return false;
    struct tls_credentials *credentials = tls_source_get(source);
    const bool revoked = tls_credentials_revoke(credentials, peer->certificate);
    (void)tls_credentials_unref(credentials);
    return revoked;
}

/* Before CONNECT there is nothing to be closed in words; CONNECT asks again. */
static void close_if_revoked(struct conn *conn, uint32_t *looks)
{
    bool looked = false;
    const bool revoked = conn_is_revoked(conn, &looked);
    *looks += looked;
    if (!revoked)
        return;
    static const char why[] = "its certificate has been revoked";
    log_write(conn->proxy->deps.log, LOG_INFO, "conn", "closed the connection from %s: %s",
              conn->link.address, why);
    if (conn->state == CONN_NEW)
        conn_lost(conn);
    else
        conn_fail(conn, REASON_NOT_AUTHORIZED, why);
}

void proxy_on_revoking(struct timer *timer)
{
    struct proxy *proxy = CONTAINER_OF(timer, struct proxy, revoking);
    uint32_t looks = 0;
    for (uint32_t passes = 0; passes < PASSES_MAX && looks < LOOKS_MAX; passes++) {
        struct conn *conn = LIST_FIRST(&proxy->conns, struct conn, node);
        if (!conn || conn->tls_round == proxy->tls_round)
            return;
        conn->tls_round = proxy->tls_round;
        list_remove(&conn->node);
        list_push_back(&proxy->conns, &conn->node);
        close_if_revoked(conn, &looks);
    }
    timer_start(proxy->timers, &proxy->revoking, NEXT_MS);
}

/* --- listing -------------------------------------------------------------------------------- */

void proxy_tls_paths(const struct proxy *proxy, proxy_path_fn *each, void *data)
{
    list_each (it, &proxy->listeners) {
        const struct tls_source *source = source_of(CONTAINER_OF(it, struct proxy_listener, node));
        if (source)
            tls_source_paths(source, &proxy->config.tls, each, data);
    }
}

struct listing {
    const struct proxy_listener *listener;
    proxy_certificate_fn *each;
    void *data;
};

static void on_file(void *data, const struct tls_file *file)
{
    static const char *const uses[] = {
        [TLS_FILE_CERTIFICATE] = "server",
        [TLS_FILE_CLIENT_CA] = "client_ca",
        [TLS_FILE_CRL] = "crl",
        [TLS_FILE_OCSP] = "ocsp",
    };
    const struct listing *listing = data;
    const struct proxy_certificate certificate = {
        .listener = listener_bound(listing->listener->listener),
        .use = uses[file->kind],
        .file = file->path,
        .subject = file->subject,
        .names = file->names,
        .not_before_s = file->not_before_s,
        .not_after_s = file->not_after_s,
    };
    listing->each(listing->data, &certificate);
}

void proxy_tls_certificates(const struct proxy *proxy, proxy_certificate_fn *each, void *data)
{
    list_each (it, &proxy->listeners) {
        struct listing listing = {CONTAINER_OF(it, struct proxy_listener, node), each, data};
        struct tls_source *source = source_of(listing.listener);
        if (!source)
            continue;
        struct tls_credentials *credentials = tls_source_get(source);
        tls_credentials_files(credentials, on_file, &listing);
        (void)tls_credentials_unref(credentials);
    }
}
