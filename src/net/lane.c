#include "net/lane.h"

#include "base/mem.h"

#include <string.h>

struct parcel {
    struct mail mail;
    struct lane *lane;
    struct parcel *next; /* among the spare ones */
    uint32_t size;
    _Alignas(struct lane_entry) uint8_t bytes[LANE_PARCEL_SIZE];
};

static uint32_t padded(uint32_t size)
{
    return (size + 7) & ~7u;
}

/* On the sender's loop again. */
static void parcel_returned(struct mail *mail)
{
    struct parcel *parcel = CONTAINER_OF(mail, struct parcel, mail);
    struct lane *lane = parcel->lane;
    lane->under_way--;
    if (lane->under_way >= lane->parcels_max) {
        mem_free(parcel); /* one more than the usual number was needed */
    } else {
        parcel->next = lane->spare;
        lane->spare = parcel;
    }
    if (lane->starved && lane->under_way < lane->parcels_max) {
        lane->starved = false;
        lane->on_room(lane->room_data);
    }
}

/* On the receiver's loop. */
static void parcel_arrived(struct mail *mail)
{
    struct parcel *parcel = CONTAINER_OF(mail, struct parcel, mail);
    const struct lane *lane = parcel->lane;
    for (uint32_t offset = 0; offset < parcel->size;) {
        struct lane_entry entry;
        memcpy(&entry, parcel->bytes + offset, sizeof entry);
        offset += (uint32_t)sizeof entry;
        const bool has_bytes = entry.kind == LANE_BYTES;
        lane->on_entry(lane->entry_data, &entry, has_bytes ? parcel->bytes + offset : NULL);
        offset += has_bytes ? padded((uint32_t)entry.value) : 0;
    }
    parcel->mail.deliver = parcel_returned;
    mailbox_post(lane->back, &parcel->mail);
}

static void on_sending(struct deferred *sending)
{
    lane_send(CONTAINER_OF(sending, struct lane, sending));
}

void lane_init(struct lane *lane)
{
    ASSERT(lane->on_entry != NULL);
    ASSERT(lane->on_room != NULL);
    ASSERT(lane->parcels_max > 0);
    lane->open = lane->spare = NULL;
    lane->under_way = 0;
    lane->starved = false;
    list_init(&lane->sending.node);
    lane->sending.run = on_sending;
}

void lane_done(struct lane *lane)
{
    ASSERT(lane->under_way == 0);
    deferred_cancel(&lane->sending);
    mem_free(lane->open);
    lane->open = NULL;
    while (lane->spare) {
        struct parcel *parcel = lane->spare;
        lane->spare = parcel->next;
        mem_free(parcel);
    }
}

void lane_send(struct lane *lane)
{
    struct parcel *parcel = TAKE(lane->open);
    if (!parcel)
        return;
    lane->under_way++;
    parcel->mail.deliver = parcel_arrived;
    mailbox_post(lane->to, &parcel->mail);
}

/* The open parcel with room for an entry and `size` bytes. `whatever`: also beyond the usual number
 * of parcels. NULL: there is none. */
static struct parcel *parcel_with(struct lane *lane, uint32_t size, bool whatever)
{
    const uint32_t needed = (uint32_t)sizeof(struct lane_entry) + padded(size);
    ASSERT(needed <= LANE_PARCEL_SIZE);
    if (lane->open && LANE_PARCEL_SIZE - lane->open->size < needed)
        lane_send(lane);
    if (lane->open)
        return lane->open;
    if (!whatever && lane->under_way >= lane->parcels_max)
        return NULL;
    struct parcel *parcel = lane->spare;
    if (parcel)
        lane->spare = parcel->next;
    else
        parcel = mem_grow(NULL, sizeof *parcel);
    parcel->lane = lane;
    parcel->size = 0;
    lane->open = parcel;
    return parcel;
}

uint8_t *lane_reserve(struct lane *lane, uint32_t size_min, uint32_t *ret_room)
{
    struct parcel *parcel = parcel_with(lane, size_min, false);
    if (!parcel) {
        lane->starved = true;
        return NULL;
    }
    const uint32_t begin = parcel->size + (uint32_t)sizeof(struct lane_entry);
    *ret_room = LANE_PARCEL_SIZE - begin;
    return parcel->bytes + begin;
}

static void add_entry(struct lane *lane, const struct lane_entry *entry)
{
    struct parcel *parcel = lane->open;
    memcpy(parcel->bytes + parcel->size, entry, sizeof *entry);
    parcel->size += (uint32_t)sizeof *entry;
    loop_defer(lane->loop, &lane->sending);
}

void lane_commit(struct lane *lane, void *about, uint32_t size)
{
    ASSERT(lane->open != NULL);
    if (size == 0)
        return;
    add_entry(lane,
              &(struct lane_entry){.about = about, .kind = LANE_BYTES, .value = (int32_t)size});
    lane->open->size += padded(size);
    ASSERT(lane->open->size <= LANE_PARCEL_SIZE);
}

void lane_put(struct lane *lane, void *about, uint32_t kind, int32_t value)
{
    ASSERT(kind >= LANE_KIND_FREE);
    (void)parcel_with(lane, 0, true);
    add_entry(lane, &(struct lane_entry){.about = about, .kind = kind, .value = value});
}
