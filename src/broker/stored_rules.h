/* Policies and block rules that administrators make while the server runs: each is a row, and in
 * the rulebook once that is durable. One change at a time: another one meanwhile is refused with
 * ERR_AGAIN. A block rule that has expired is removed by itself.
 *
 * All need a rulebook (broker_deps). done as with inspect.h: once durable, or inside the call when
 * it fails, with a sentence in detail. Thread: loop.
 */
#pragma once

#include "auth/rulebook.h"
#include "broker/inspect.h"

/* Told the id of what was stored; 0 when it failed. */
typedef void stored_done_fn(void *data, int err, const char *detail, uint64_t id);

/* Stores a policy: a new one when its id is 0, else in place of the one of that id. Takes it over.
 * ERR_EXISTS: name or priority in use; ERR_FULL; ERR_NOTFOUND: no such id; ERR_AGAIN;
 * ERR_UNAVAILABLE. */
void stored_policy_put(struct broker *broker, struct rule *rule, stored_done_fn *done, void *data);
/* Gives policies other priorities, all or none. ERR_NOTFOUND: no such id; ERR_EXISTS: an id twice
 * in the list, or two policies would have one priority; ERR_INVALID: no such priority; ERR_FULL:
 * more text than fits one change; ERR_AGAIN; ERR_UNAVAILABLE. */
struct policy_priority {
    uint64_t id;
    uint32_t priority;
};
void stored_policies_order(struct broker *broker, const struct policy_priority *priorities,
                           size_t count, stored_done_fn *done, void *data);
void stored_policy_remove(struct broker *broker, uint64_t id, stored_done_fn *done, void *data);
/* is_new: the name must not be in use, else it must be. Takes it over. */
void stored_block_put(struct broker *broker, struct block *block, bool is_new, stored_done_fn *done,
                      void *data);
void stored_block_remove(struct broker *broker, struct slice name, stored_done_fn *done,
                         void *data);
