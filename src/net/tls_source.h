/* TLS source: where the connections of one listener get their credentials from.
 *
 * It holds those that were read last. Reading anew goes in two steps, so that several sources can
 * be renewed together or not at all: stage reads, commit has connections that begin later use it.
 * What has begun keeps what it has. The key of session tickets stays the same.
 *
 * Thread: the home loop's, except where it says any.
 */
#pragma once

#include "net/tls_credentials.h"

struct tls_source;

/* One reference. query: the options in the listener's URL. Returns 0, or an error with the reason
 * in reterr. */
MUST_CHECK int tls_source_new(const char *query, const struct tls_options *defaults,
                              struct tls_source **ret_source, struct errmsg *reterr);
struct tls_source *tls_source_ref(struct tls_source *source);   /* Thread: any */
struct tls_source *tls_source_unref(struct tls_source *source); /* NULL is fine. Thread: any */

/* A reference to what was read last. Thread: any. */
struct tls_credentials *tls_source_get(struct tls_source *source);
/* The key for gnutls_session_ticket_enable_server; lives as long as the source. Thread: any. */
const gnutls_datum_t *tls_source_ticket_key(const struct tls_source *source);

/* Reads the files as `defaults` and the URL name them, beside those in use. Replaces what an
 * earlier stage has read. */
MUST_CHECK int tls_source_stage(struct tls_source *source, const struct tls_options *defaults,
                                struct errmsg *reterr);
/* Takes what was staged into use; harmless without. */
void tls_source_commit(struct tls_source *source);
/* Forgets it. */
void tls_source_discard(struct tls_source *source);

/* Calls `each` with the name of every file that stage would read. */
typedef void tls_path_fn(void *data, const char *path);
void tls_source_paths(const struct tls_source *source, const struct tls_options *defaults,
                      tls_path_fn *each, void *data);
