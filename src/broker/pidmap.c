#include "broker/pidmap.h"

#include "base/hashmap.h"
#include "base/mem.h"

struct pidslot {
    void *value; /* NULL: free */
    uint16_t pid;
};

#define PIDMAP_SIZE_FIRST 8u
#define PIDMAP_SIZE_KEPT  256u /* larger tables are freed when they become empty */

void pidmap_done(struct pidmap *map)
{
    mem_free(map->slots);
    *map = (struct pidmap){.size = 0};
}

void pidmap_shrink(struct pidmap *map)
{
    if (map->count == 0)
        pidmap_done(map);
}

/* Where a packet ID belongs: hashed with the process's seed, because clients choose them, and runs
 * of neighbours would make every removal walk over all of them. */
static uint32_t pidmap_home(const struct pidmap *map, uint16_t pid)
{
    return hash_u32(pid) & (map->size - 1);
}

/* The slot that holds pid, or the free one where it would go. The table has a free slot. */
static struct pidslot *pidmap_slot(const struct pidmap *map, uint16_t pid)
{
    uint32_t at = pidmap_home(map, pid);
    while (map->slots[at].value && map->slots[at].pid != pid)
        at = (at + 1) & (map->size - 1);
    return &map->slots[at];
}

void *pidmap_find(const struct pidmap *map, uint16_t pid)
{
    return map->size ? pidmap_slot(map, pid)->value : NULL;
}

static void pidmap_grow(struct pidmap *map)
{
    const uint32_t size = map->size ? 2 * map->size : PIDMAP_SIZE_FIRST;
    struct pidmap grown = {.size = size, .count = map->count};
    grown.slots = mem_new(size * sizeof *grown.slots);
    for (uint32_t i = 0; i < map->size; i++) {
        if (map->slots[i].value)
            *pidmap_slot(&grown, map->slots[i].pid) = map->slots[i];
    }
    mem_free(map->slots);
    *map = grown;
}

void pidmap_put(struct pidmap *map, uint16_t pid, void *value)
{
    ASSERT(pid != 0);
    ASSERT(value);
    if (2 * (map->count + 1) > map->size)
        pidmap_grow(map);
    struct pidslot *slot = pidmap_slot(map, pid);
    ASSERT(!slot->value);
    *slot = (struct pidslot){.value = value, .pid = pid};
    map->count++;
}

void pidmap_set(struct pidmap *map, uint16_t pid, void *value)
{
    ASSERT(pidmap_find(map, pid));
    ASSERT(value);
    pidmap_slot(map, pid)->value = value;
}

/* Moves entries back over the hole, so that each is found from its own slot on. */
static void pidmap_close_gap(struct pidmap *map, uint32_t hole)
{
    const uint32_t mask = map->size - 1;
    for (uint32_t at = (hole + 1) & mask; map->slots[at].value; at = (at + 1) & mask) {
        const uint32_t home = pidmap_home(map, map->slots[at].pid);
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        map->slots[hole] = map->slots[at];
        map->slots[at].value = NULL;
        hole = at;
    }
}

void pidmap_remove(struct pidmap *map, uint16_t pid)
{
    if (!pidmap_find(map, pid))
        return;
    struct pidslot *slot = pidmap_slot(map, pid);
    slot->value = NULL;
    pidmap_close_gap(map, (uint32_t)(slot - map->slots));
    map->count--;
    if (map->count == 0 && map->size > PIDMAP_SIZE_KEPT)
        pidmap_done(map);
}
