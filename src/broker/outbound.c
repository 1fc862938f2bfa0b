#include "broker/outbound.h"

#include "base/mem.h"
#include "broker/core_priv.h"

enum {
    SIZE_FIRST = 8,
    SIZE_KEPT = 512,              /* larger tables are freed when they become empty */
    IDENTIFIERS = UINT16_MAX + 1, /* a place for each identifier */
};

void outbound_done(struct outbound *outbound)
{
    mem_free(outbound->places);
    *outbound = (struct outbound){.last = outbound->last};
}

void outbound_shrink(struct outbound *outbound)
{
    if (outbound->count == 0)
        outbound_done(outbound);
}

static struct inflight **place_of(const struct outbound *outbound, uint16_t packet_id)
{
    return &outbound->places[packet_id & (outbound->size - 1)];
}

/* Those that had places of their own have them in a larger table, too. */
static void grow(struct outbound *outbound)
{
    struct outbound grown = *outbound;
    grown.size = outbound->size ? 2 * outbound->size : SIZE_FIRST;
    ASSERT(grown.size <= IDENTIFIERS);
    grown.places = mem_new(grown.size * sizeof *grown.places);
    for (uint32_t i = 0; i < outbound->size; i++) {
        if (outbound->places[i])
            *place_of(&grown, outbound->places[i]->packet_id) = outbound->places[i];
    }
    mem_free(outbound->places);
    *outbound = grown;
}

uint16_t outbound_next(struct outbound *outbound)
{
    if (outbound->count >= UINT16_MAX)
        return 0;
    if (2 * (outbound->count + 1) > outbound->size && outbound->size < IDENTIFIERS)
        grow(outbound);
    do {
        if (++outbound->last == 0)
            outbound->last = 1;
    } while (*place_of(outbound, outbound->last));
    return outbound->last;
}

/* One that was given out before a restart may find its place taken. */
void outbound_put(struct outbound *outbound, struct inflight *inflight)
{
    ASSERT(inflight->packet_id != 0);
    while (outbound->size == 0 || *place_of(outbound, inflight->packet_id))
        grow(outbound);
    *place_of(outbound, inflight->packet_id) = inflight;
    outbound->count++;
}

struct inflight *outbound_find(const struct outbound *outbound, uint16_t packet_id)
{
    if (outbound->size == 0)
        return NULL;
    struct inflight *inflight = *place_of(outbound, packet_id);
    return inflight && inflight->packet_id == packet_id ? inflight : NULL;
}

void outbound_remove(struct outbound *outbound, const struct inflight *inflight)
{
    struct inflight **place = place_of(outbound, inflight->packet_id);
    ASSERT(*place == inflight);
    *place = NULL;
    outbound->count--;
    if (outbound->count == 0 && outbound->size > SIZE_KEPT)
        outbound_done(outbound);
}
