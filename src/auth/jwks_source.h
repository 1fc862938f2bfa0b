/* A set of keys at a URL: fetched at the start, again and again, and sooner when a token names a
 * key that is not in it. The last good set counts until there is a better one.
 *
 * Private to auth/. Thread: the loop's.
 */
#pragma once

#include "auth/auth.h"
#include "auth/jws.h"

struct http_client;
struct jwks_source;

struct jwks_source_config {
    const char *url, *ca_file; /* copied */
    uint64_t refresh_ms;
    uint32_t allowed; /* bits of algorithms */
};

/* http, and loop and log of deps, are borrowed until the last reference is gone. */
struct jwks_source *jwks_source_new(const struct jwks_source_config *config,
                                    const struct auth_deps *deps, struct http_client *http);
struct jwks_source *jwks_source_ref(struct jwks_source *source);
struct jwks_source *jwks_source_unref(struct jwks_source *source); /* NULL is fine; returns NULL */
bool jwks_source_is(const struct jwks_source *source, const struct jwks_source_config *config);

/* The keys now, borrowed; NULL while none have arrived. */
struct jws_keys *jwks_source_keys(const struct jwks_source *source);
/* A token names a key that is not there. true: the set is being fetched, so asking again may help.
 */
bool jwks_source_hurry(struct jwks_source *source);
