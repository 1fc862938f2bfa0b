/* Packet identifiers that a client has in use, each with a pointer: a small table that grows with
 * what is in flight.
 *
 * Open addressing from a slot that depends on a secret of this process, at most half full, so that
 * a peer can make it neither large nor slow with identifiers of its choice. A small table is kept
 * when it becomes empty, which under load it does all the time. Thread: owner.
 */
#pragma once

#include "base/base.h"

struct pidmap {
    struct pidslot *slots; /* NULL while empty */
    uint32_t size;         /* power of two, or 0 */
    uint32_t count;
};

void pidmap_done(struct pidmap *map);
/* Gives back what an empty map keeps for its next entries. */
void pidmap_shrink(struct pidmap *map);
void *pidmap_find(const struct pidmap *map, uint16_t pid);
/* pid: not 0 and not in the map; value: not NULL. */
void pidmap_put(struct pidmap *map, uint16_t pid, void *value);
/* Changes the value of an identifier that is in the map. */
void pidmap_set(struct pidmap *map, uint16_t pid, void *value);
void pidmap_remove(struct pidmap *map, uint16_t pid); /* harmless when it is not there */
