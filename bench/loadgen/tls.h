/* TLS below a client's packets: bytes go in and out through memory, so that the client has one read
 * and one write for each turn with TLS as without. The server's certificate is not checked against
 * anybody: a load generator trusts its server.
 */
#pragma once
#include "bytes.h"
#include <stdbool.h>

/* What all connections have in common. */
struct tls_setup;

/* One connection. */
struct tls;

/* Returns NULL when GnuTLS cannot be set up. Owned by the caller. */
struct tls_setup *tls_setup_new(void);
void tls_setup_free(struct tls_setup *setup);

/* Begins a handshake, whose first bytes are in tls_sealed(). ticket: from an earlier connection to
 * resume, borrowed for the call; empty: none. Returns NULL when it cannot be begun. */
struct tls *tls_open(const struct tls_setup *setup, const struct bytes *ticket);

/* Drops the connection; what it would say goodbye with is told by tls_say_bye. */
void tls_close(struct tls *tls);

/* Takes what the socket brought; appends what it says to `plain`. Returns NULL, or why the
 * connection cannot go on (a constant text). */
const char *tls_receive(struct tls *tls, const uint8_t *data, size_t size, struct bytes *plain);

/* Whether the handshake is complete, and whether it was one of few messages with a ticket. */
bool tls_is_ready(const struct tls *tls);
bool tls_is_resumed(const struct tls *tls);

/* Moves everything behind what is to be sent. Returns NULL, or why not (a constant text). */
const char *tls_seal(struct tls *tls, struct bytes *plain);

/* Adds the orderly end. */
void tls_say_bye(struct tls *tls);

/* What is to be sent; whoever sends consumes it. Lives as long as the connection. */
struct bytes *tls_sealed(struct tls *tls);

/* Replaces the ticket by the last that the server gave on this connection, if it gave one. */
void tls_take_ticket(struct tls *tls, struct bytes *ticket);
