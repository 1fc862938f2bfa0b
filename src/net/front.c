#include "net/front_priv.h"

#include "base/mem.h"

#include <signal.h>

#define PARCELS_MIN UINT64_C(2)
#define PARCELS_MAX UINT64_C(16)

static void *front_main(void *data)
{
    struct front *front = data;
    /* Fails only when epoll itself does: then no socket is served, as on the home loop. */
    return loop_run(front->loop) < 0 ? front : NULL;
}

static void on_stop(struct mail *mail)
{
    struct front *front = CONTAINER_OF(mail, struct front, stop);
    loop_stop(front->loop);
}

/* Signals belong to the home loop. */
static int start_thread(struct front *front, const char *name)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int err = -pthread_create(&front->thread, NULL, front_main, front);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err < 0)
        return err;
    (void)pthread_setname_np(front->thread, name);
    front->running = true;
    return 0;
}

/* Parcels under way in one direction: all of them take a thirty-second of the budget at most. */
static uint32_t parcels_max(const struct budget *budget)
{
    return (uint32_t)MAX(PARCELS_MIN, MIN(budget->max / 32 / LANE_PARCEL_SIZE, PARCELS_MAX));
}

static void open_lanes(struct front *front)
{
    const uint32_t parcels = parcels_max(front->budget);
    front->out = (struct lane){
        .loop = front->home,
        .to = front->box,
        .back = front->home_box,
        .on_entry = relay_socket_on_entry,
        .entry_data = front,
        .on_room = relay_on_room,
        .room_data = front,
        .parcels_max = parcels,
    };
    front->in = (struct lane){
        .loop = front->loop,
        .to = front->home_box,
        .back = front->box,
        .on_entry = relay_on_entry,
        .entry_data = front,
        .on_room = relay_socket_on_room,
        .room_data = front,
        .parcels_max = parcels,
    };
    lane_init(&front->out);
    lane_init(&front->in);
}

int front_new(struct loop *home, struct budget *budget, const char *name, struct front **ret_front,
              struct errmsg *reterr)
{
    struct front *front = mem_new(sizeof *front);
    front->home = home;
    front->budget = budget;
    front->stop.deliver = on_stop;
    list_init(&front->stuck);
    list_init(&front->starved);
    list_init(&front->written);
    list_init(&front->reporting.node);
    front->reporting.run = relay_socket_report;
    int err = loop_new(&front->loop, reterr);
    if (err == 0)
        err = mailbox_new(front->loop, &front->box, reterr);
    if (err == 0)
        err = mailbox_new(home, &front->home_box, reterr);
    open_lanes(front);
    if (err == 0) {
        err = start_thread(front, name);
        if (err < 0)
            errmsg_wrap(reterr, "could not start a thread for sockets: %s", err_text(err));
    }
    if (err < 0) {
        (void)front_free(front);
        return err;
    }
    *ret_front = front;
    return 0;
}

/* The thread first: then what it has posted is delivered, and what that sends back. */
struct front *front_free(struct front *front)
{
    if (!front)
        return NULL;
    if (front->running) {
        lane_send(&front->out);
        mailbox_post(front->box, &front->stop);
        (void)pthread_join(front->thread, NULL);
    }
    (void)mailbox_free(front->home_box);
    ASSERT(front->relay_count == 0);
    (void)mailbox_free(front->box);
    lane_done(&front->out);
    lane_done(&front->in);
    (void)loop_free(front->loop);
    mem_free(front);
    return NULL;
}

uint32_t front_relays(const struct front *front)
{
    return front->relay_count;
}
