#include "net/tls_source.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct tls_source {
    _Atomic uint32_t count;
    struct tls_override *override;
    gnutls_datum_t ticket_key;
    pthread_mutex_t lock; /* guards `current` */
    struct tls_credentials *current, *staged;
};

static int load(const struct tls_source *source, const struct tls_options *defaults,
                struct tls_credentials **ret_credentials, struct errmsg *reterr)
{
    const struct tls_options options = tls_override_apply(source->override, defaults);
    return tls_credentials_load(&options, time(NULL), source->current, ret_credentials, reterr);
}

int tls_source_new(const char *query, const struct tls_options *defaults,
                   struct tls_source **ret_source, struct errmsg *reterr)
{
    struct tls_source *source = mem_new(sizeof *source);
    atomic_init(&source->count, 1);
    (void)pthread_mutex_init(&source->lock, NULL);
    int err = tls_override_new(query, &source->override, reterr);
    if (err == 0)
        err = load(source, defaults, &source->current, reterr);
    if (err == 0 && gnutls_session_ticket_key_generate(&source->ticket_key) < 0) {
        errmsg_wrap(reterr, "could not make a key for session tickets");
        err = ERR_NOMEM;
    }
    if (err < 0) {
        (void)tls_source_unref(source);
        return err;
    }
    *ret_source = source;
    return 0;
}

struct tls_source *tls_source_ref(struct tls_source *source)
{
    (void)atomic_fetch_add_explicit(&source->count, 1, memory_order_relaxed);
    return source;
}

struct tls_source *tls_source_unref(struct tls_source *source)
{
    if (!source || atomic_fetch_sub_explicit(&source->count, 1, memory_order_acq_rel) > 1)
        return NULL;
    (void)tls_override_free(source->override);
    if (source->ticket_key.data)
        gnutls_memset(source->ticket_key.data, 0, source->ticket_key.size);
    gnutls_free(source->ticket_key.data);
    (void)tls_credentials_unref(source->current);
    (void)tls_credentials_unref(source->staged);
    (void)pthread_mutex_destroy(&source->lock);
    mem_free(source);
    return NULL;
}

struct tls_credentials *tls_source_get(struct tls_source *source)
{
    (void)pthread_mutex_lock(&source->lock);
    struct tls_credentials *current = tls_credentials_ref(source->current);
    (void)pthread_mutex_unlock(&source->lock);
    return current;
}

const gnutls_datum_t *tls_source_ticket_key(const struct tls_source *source)
{
    return &source->ticket_key;
}

int tls_source_stage(struct tls_source *source, const struct tls_options *defaults,
                     struct errmsg *reterr)
{
    tls_source_discard(source);
    return load(source, defaults, &source->staged, reterr);
}

void tls_source_commit(struct tls_source *source)
{
    if (!source->staged)
        return;
    (void)pthread_mutex_lock(&source->lock);
    struct tls_credentials *before = source->current;
    source->current = TAKE(source->staged);
    (void)pthread_mutex_unlock(&source->lock);
    (void)tls_credentials_unref(before);
}

void tls_source_discard(struct tls_source *source)
{
    source->staged = tls_credentials_unref(source->staged);
}

static void each_name(const struct tls_names *names, tls_path_fn *each, void *data)
{
    for (size_t i = 0; i < names->count; i++)
        each(data, names->items[i]);
}

void tls_source_paths(const struct tls_source *source, const struct tls_options *defaults,
                      tls_path_fn *each, void *data)
{
    const struct tls_options options = tls_override_apply(source->override, defaults);
    each_name(&options.certificates, each, data);
    each_name(&options.private_keys, each, data);
    each_name(&options.ocsp_responses, each, data);
    if (options.client_ca && *options.client_ca)
        each(data, options.client_ca);
    if (options.crl && *options.crl)
        each(data, options.crl);
}
