/* Front: a loop with a thread of its own that reads and writes sockets, for streams whose users
 * live on another loop (home).
 *
 * A relay is such a stream as its user sees it, a stage like any other: what the front has read is
 * read from it, what is written to it goes to the front, both many streams at a time (net/lane.h).
 * System calls, and what later stages below it cost, are then spent on the front's thread.
 *
 *   home:  user ── relay ──lane──▶ front: stages below, socket
 *                        ◀──lane──
 *
 * Back pressure: the front reads no stream whose user has left bytes unread, and none at all while
 * its lane is full. A relay takes bytes up to a window that the front has not written yet.
 *
 * Memory beyond the lanes' is charged to a budget that home keeps: bytes that a user has left
 * unread, bytes given to the front and not written yet.
 *
 * Thread: home, every function here.
 */
#pragma once

#include "base/budget.h"
#include "net/stack.h"
#include "net/stream.h"

struct front;

/* Starts the thread. budget: home's, borrowed until front_free. name: at most 15 characters, for
 * the thread. Returns 0, or -errno with the reason in reterr. */
MUST_CHECK int front_new(struct loop *home, struct budget *budget, const char *name,
                         struct front **ret_front, struct errmsg *reterr);
/* Ends the thread. Every relay must have been closed. NULL is fine; returns NULL. */
struct front *front_free(struct front *front);
/* Relays not closed yet. */
uint32_t front_relays(const struct front *front);

/* A relay to the accepted, non-blocking socket `fd`, which it takes over, as it does the reference
 * to `peer`. stack: what the front is to put on the socket; borrowed for the call. */
struct stream *relay_new(struct front *front, struct stack *stack, int fd, const struct peer *peer);
