#include "broker/pidmap.h"

#include "base/mem.h"

struct pidslot {
    void *value; /* NULL: free */
    uint16_t pid;
};

#define PIDMAP_SIZE_FIRST 8u
#define PIDMAP_SIZE_KEPT  16u /* larger tables are freed when they become empty */
#define PIDMAP_SIZE_LAST  65536u

void pidmap_done(struct pidmap *map)
{
    mem_free(map->slots);
    *map = (struct pidmap){.last = map->last};
}

static struct pidslot *pidmap_slot(const struct pidmap *map, uint16_t pid)
{
    return &map->slots[pid & (map->size - 1)];
}

void *pidmap_find(const struct pidmap *map, uint16_t pid)
{
    if (map->size == 0)
        return NULL;
    const struct pidslot *slot = pidmap_slot(map, pid);
    return slot->value && slot->pid == pid ? slot->value : NULL;
}

/* Moves everything into a table of `size` slots; false when two identifiers collide in it. */
static bool pidmap_resize(struct pidmap *map, uint32_t size)
{
    struct pidmap grown = {.size = size, .count = map->count, .last = map->last};
    grown.slots = mem_new(size * sizeof *grown.slots);
    for (uint32_t i = 0; i < map->size; i++) {
        if (!map->slots[i].value)
            continue;
        struct pidslot *slot = pidmap_slot(&grown, map->slots[i].pid);
        if (slot->value) {
            mem_free(grown.slots);
            return false;
        }
        *slot = map->slots[i];
    }
    mem_free(map->slots);
    *map = grown;
    return true;
}

void pidmap_put(struct pidmap *map, uint16_t pid, void *value)
{
    ASSERT(pid != 0);
    ASSERT(value);
    uint32_t size = map->size;
    if (size == 0)
        (void)pidmap_resize(map, size = PIDMAP_SIZE_FIRST);
    while (pidmap_slot(map, pid)->value) {
        ASSERT(pidmap_slot(map, pid)->pid != pid);
        do {
            size *= 2;
            ASSERT(size <= PIDMAP_SIZE_LAST);
        } while (!pidmap_resize(map, size));
    }
    *pidmap_slot(map, pid) = (struct pidslot){.value = value, .pid = pid};
    map->count++;
}

void pidmap_set(struct pidmap *map, uint16_t pid, void *value)
{
    struct pidslot *slot = pidmap_slot(map, pid);
    ASSERT(slot->value && slot->pid == pid);
    ASSERT(value);
    slot->value = value;
}

void pidmap_remove(struct pidmap *map, uint16_t pid)
{
    if (!pidmap_find(map, pid))
        return;
    pidmap_slot(map, pid)->value = NULL;
    map->count--;
    if (map->count == 0 && map->size > PIDMAP_SIZE_KEPT)
        pidmap_done(map);
}

uint16_t pidmap_next(struct pidmap *map)
{
    if (map->count >= UINT16_MAX)
        return 0;
    if (map->size && map->count >= map->size / 2 && map->size < PIDMAP_SIZE_LAST)
        (void)pidmap_resize(map, map->size * 2);
    /* Growing never collides, so a free slot is found within one round of the table. */
    for (uint32_t tries = 0; tries <= UINT16_MAX; tries++) {
        if (++map->last == 0)
            map->last = 1;
        if (map->size == 0 || !pidmap_slot(map, map->last)->value)
            return map->last;
    }
    return 0;
}
