/* Lane: one direction between two loops. Entries about streams, in order, many in one parcel.
 *
 * The sender gathers what an iteration produces; it goes as one mail at the end of the iteration,
 * or when a parcel is full. The receiver handles the entries and posts the parcel back. Bytes are
 * only taken while fewer than parcels_max parcels are under way: that bounds the memory, and
 * is the back pressure between the two. Entries without bytes always find room. A parcel has a
 * fixed size; there being no memory for it aborts.
 *
 * Thread: the sender's loop, except where it says receiver.
 */
#pragma once

#include "io/mailbox.h"

#define LANE_PARCEL_SIZE (256u * 1024)

struct parcel;

/* One entry as the receiver sees it. */
struct lane_entry {
    void *about;   /* the sender's and the receiver's business */
    uint32_t kind; /* likewise; LANE_BYTES has bytes */
    int32_t value; /* with LANE_BYTES their number */
};

enum { LANE_BYTES = 1, LANE_KIND_FREE = 2 }; /* from LANE_KIND_FREE on, kinds are the users' */

/* Thread: receiver. bytes: borrowed for the call; NULL with other kinds than LANE_BYTES. */
typedef void lane_entry_fn(void *data, const struct lane_entry *entry, const uint8_t *bytes);
/* A parcel came back after lane_reserve had found no room. */
typedef void lane_room_fn(void *data);

struct lane {
    struct loop *loop;    /* the sender's */
    struct mailbox *to;   /* the receiver's */
    struct mailbox *back; /* the sender's */
    lane_entry_fn *on_entry;
    void *entry_data; /* the receiver's */
    lane_room_fn *on_room;
    void *room_data; /* the sender's */
    uint32_t parcels_max;

    /* The lane's. */
    struct parcel *open;  /* being filled */
    struct parcel *spare; /* came back */
    uint32_t under_way;   /* parcels posted and not back */
    bool starved;         /* on_room is owed */
    struct deferred sending;
};

/* The caller has filled in the first block. */
void lane_init(struct lane *lane);
/* Frees the parcels. Nothing is under way any more. */
void lane_done(struct lane *lane);

/* Room for at least `size_min` bytes (at most LANE_PARCEL_SIZE / 2) behind an entry about `about`;
 * NULL: no room now, on_room will be called. ret_room: how many. Nothing else may be put in before
 * lane_commit. */
uint8_t *lane_reserve(struct lane *lane, uint32_t size_min, uint32_t *ret_room);
/* Makes an entry of the first `size` bytes of what was reserved; of 0 bytes, none. */
void lane_commit(struct lane *lane, void *about, uint32_t size);
/* Adds an entry without bytes. */
void lane_put(struct lane *lane, void *about, uint32_t kind, int32_t value);
/* Posts what was gathered, without waiting for the end of the iteration. */
void lane_send(struct lane *lane);
