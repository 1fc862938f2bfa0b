/* Topic aliases of one connection, both directions (MQTT 5 only).
 *
 * In: the client names a topic by number after saying it once. Out: the server gives numbers to the
 * first topics it sends, as many as the client allows. Tables are made when first used.
 * Thread: owner loop.
 */
#pragma once

#include "base/budget.h"
#include "base/buf.h"

struct alias_topic {
    uint8_t *bytes; /* owned; NULL = not set */
    uint32_t size;
};

struct alias_table {
    struct alias_topic *topics; /* [max], NULL until first used; alias n lies at n - 1 */
    uint16_t max;
    uint16_t count; /* out: how many are given; in: not used */
};

void alias_done(struct alias_table *table, struct budget *budget);
/* Sets alias `number` (1..max) to a copy of `topic`. Returns 0 or ERR_NOMEM. */
MUST_CHECK int alias_set(struct alias_table *table, struct budget *budget, uint16_t number,
                         struct slice topic);
/* The topic of alias `number` (1..max), size 0 when it was never set; lies in the table. */
struct slice alias_get(const struct alias_table *table, uint16_t number);
/* The alias of a topic that alias_set was given, or 0. */
uint16_t alias_find(const struct alias_table *table, struct slice topic);
