/* What the two sides of a relay share. Private to net/. */
#pragma once

#include "net/front.h"
#include "net/lane.h"

#include <pthread.h>
#include <stdatomic.h>

/* What entries about a relay say. */
enum {
    /* To the front. */
    RELAY_ADOPT = LANE_KIND_FREE, /* value: the descriptor */
    RELAY_HOLD,                   /* read no more: the user does not keep up */
    RELAY_GO,
    RELAY_SHUTDOWN, /* behind the bytes before it */
    RELAY_CLOSE,    /* the last about this relay */
    /* To home. */
    RELAY_END,     /* nothing more comes; value: 0, or the error, which may follow a 0 */
    RELAY_WRITTEN, /* value: bytes that went out */
    RELAY_CLOSED,  /* the last about this relay: home may free it */
};

#define RELAY_READ_MAX  (64u * 1024) /* bytes in one read */
#define RELAY_READ_LEAN (4u * 1024)  /* while the budget is short */

/* The part of a relay that only the front touches, between RELAY_ADOPT and RELAY_CLOSED. */
struct relay_socket {
    struct front *front;
    struct stack *stack; /* until RELAY_ADOPT */
    struct stream *below;
    const struct peer
        *told;         /* a reference, set before the first bytes go up, home's from then on */
    const char *fault; /* set before RELAY_END goes up, home's from then on */
    struct list node;  /* front->starved, or alone */
    struct list written_node; /* front->written, or alone */
    uint8_t *pending;         /* taken from the lane, and not written yet; NULL when none */
    uint32_t pending_begin, pending_end, pending_room;
    uint32_t written; /* bytes to report */
    bool held;        /* by RELAY_HOLD */
    bool ended;       /* nothing is read any more */
    bool broken;      /* nor written */
    bool shutdown_due;
};

struct relay {
    /* Home's. */
    struct stream stream;
    struct front *front;
    const struct peer *accepted;
    bool heard;          /* bytes have come: socket.told counts */
    struct list node;    /* front->stuck: a write found the lane full; or alone */
    const uint8_t *view; /* bytes being delivered; NULL outside of that */
    uint32_t view_size;
    uint8_t *kept; /* bytes delivered and not read; NULL when none */
    uint32_t kept_begin, kept_end;
    uint64_t unwritten; /* bytes with the front */
    int end;            /* 1 = not yet; 0 or the error: what reading says when nothing is kept */
    unsigned wanted;
    bool held; /* the front has been told */
    bool lingers;
    bool closed; /* by the user; waits for RELAY_CLOSED */
    struct deferred report;

    struct relay_socket socket;
};

struct front {
    /* Home's. */
    struct loop *home;
    struct budget *budget;
    struct mailbox *home_box;
    struct lane out; /* to the front */
    struct list stuck;
    uint32_t relay_count;
    pthread_t thread;
    bool running;
    struct mail stop;

    _Atomic bool lean; /* home sets it while the budget is short */

    /* The front's. */
    struct loop *loop;
    struct mailbox *box;
    struct lane in; /* to home */
    struct list starved;
    struct list written;
    struct deferred reporting;
};

/* relay.c: what home does with entries from the front, and when the lane has room again. */
void relay_on_entry(void *front, const struct lane_entry *entry, const uint8_t *bytes);
void relay_on_room(void *front);

/* relay_socket.c: the same on the front; and telling of what was written, at the end of a turn. */
void relay_socket_on_entry(void *front, const struct lane_entry *entry, const uint8_t *bytes);
void relay_socket_on_room(void *front);
void relay_socket_report(struct deferred *reporting);
