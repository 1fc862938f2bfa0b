/* The TLS stage of a client: TLS 1.2 and 1.3 over any stage, for connections that we make.
 *
 * The other end's certificate is verified: against the CAs given, or the system's, and for the name
 * by which it was dialled, or the one given instead. The handshake begins by itself; when it fails,
 * reading gives ERR_PROTOCOL and stream_fault says why.
 *
 * Thread: the loop's.
 */
#pragma once

#include "net/stream.h"

struct tls_client_options {
    const char *ca_file;     /* PEM: whom to trust; NULL or "": the system's CAs */
    const char *certificate; /* PEM: shown when it is asked for; NULL or "": none */
    const char *private_key; /* PEM, of that */
    const char *server_name; /* what its certificate is for; NULL or "": what was dialled */
};

struct tls_client;

/* Reads the files. Returns 0, or ERR_INVALID or ERR_NOMEM with what is wrong in reterr. */
MUST_CHECK int tls_client_new(const struct tls_client_options *options,
                              struct tls_client **ret_client, struct errmsg *reterr);
/* No stage of it may be open. NULL is fine; returns NULL. */
struct tls_client *tls_client_free(struct tls_client *client);

/* Puts TLS on `below`, which it takes over. client: borrowed until the stage is closed; a pointer
 * to anything, so that it can be handed to who knows nothing of TLS. */
struct stream *tls_client_stage(void *client, struct loop *loop, struct stream *below,
                                const char *host);
