/* The client of a conn as the rulebook sees it: what CONNECT, authentication and transport say of
 * it. Private to proxy/. Thread: owner loop. */
#pragma once

#include "auth/access.h"
#include "proxy/conn.h"

/* Whether a block rule is about what the client says it is: asked before any work is done for it.
 * The core asks again once it knows better. */
bool client_is_blocked(const struct conn *conn, const struct packet_connect *packet);
/* Gives the link of an authenticated client its rights. Returns 0; ERR_NOMEM; ERR_INVALID: the
 * rules that its authenticator gave cannot be used, which is logged. */
MUST_CHECK int client_rights(struct conn *conn, const struct packet_connect *packet);
