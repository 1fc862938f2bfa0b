/* Deliveries in flight to one client, by packet identifiers that the server gives out.
 *
 * The low bits of an identifier are its place in the table, and only one whose place is free is
 * given out: whatever is looked for is there or nowhere. Identifiers that clients choose need
 * struct pidmap. A small table is kept when it becomes empty, which under load it does all the
 * time. Thread: owner.
 */
#pragma once

#include "base/base.h"

struct inflight;

struct outbound {
    struct inflight **places; /* NULL while size is 0 */
    uint32_t size;            /* power of two, or 0 */
    uint32_t count;
    uint16_t last; /* the identifier given out last */
};

void outbound_done(struct outbound *outbound);
/* Gives back what an empty table keeps for its next entries. */
void outbound_shrink(struct outbound *outbound);
/* Returns an identifier not in use, or 0 when all are. Spec: [MQTT3-2.3.1-2] [MQTT5-2.2.1-4] */
MUST_CHECK uint16_t outbound_next(struct outbound *outbound);
/* inflight->packet_id: not 0 and not in the table; borrowed. */
void outbound_put(struct outbound *outbound, struct inflight *inflight);
/* NULL: no such delivery. */
struct inflight *outbound_find(const struct outbound *outbound, uint16_t packet_id);
void outbound_remove(struct outbound *outbound, const struct inflight *inflight);
