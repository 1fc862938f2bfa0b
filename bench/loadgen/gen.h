/* The load generator's core: clients on one epoll loop, counters, and flow control.
 *
 * A pattern (pattern.c) sets up clients, then runs the loop until its goal is reached:
 *
 *     gen_connect()  ──▶  gen_run_to_goal()  ──▶  report
 *
 * Each turn of the loop waits once for events, reads each ready socket once into a shared buffer,
 * answers everything in it with one write, and then lets each publisher that may publish write one
 * batch. A publisher may publish when its window has room for a whole batch (so that batches do
 * not decay into single messages), its socket took all earlier bytes, and fewer than lag_max
 * published messages are still undelivered.
 *
 * Thread: there is only one.
 */
#pragma once
#include "frames.h"
#include "hist.h"
#include "options.h"
#include "packet.h"
#include "tls.h"

enum client_state {
    CLIENT_CLOSED,
    CLIENT_CONNECTING, /* TCP */
    CLIENT_SECURING,   /* the handshake of TLS begun */
    CLIENT_UPGRADING,  /* the request for WebSocket sent */
    CLIENT_LOGIN,      /* CONNECT sent */
    CLIENT_SUBSCRIBING,
    CLIENT_READY,
};

struct gen;

struct client {
    struct gen *gen;
    int fd;
    enum client_state state;
    bool wants_write; /* EPOLLOUT is armed */
    bool unflushed;   /* counted in gen->unflushed */
    bool clean;
    bool session_present;
    uint32_t index; /* among the clients of its kind, from 0 */
    uint64_t opened_ns;
    const char *id;  /* owned */
    struct bytes in; /* the beginning of a packet that has not wholly arrived */
    struct bytes out;
    struct bytes wire; /* with WebSocket: what is to be sent, while `out` has packets */
    struct frames frames;
    struct tls *tls;     /* owned; NULL: without TLS, or not connected */
    struct bytes ticket; /* of TLS, to resume with */

    const char *filter;     /* owned; NULL: does not subscribe; '*' stands for filter_next */
    uint32_t filter_next;   /* numbered filters: the next to subscribe to */
    uint32_t filter_end;    /* one past the last */
    uint32_t filter_step;   /* 0: there is one filter, without number */
    uint32_t filters_asked; /* in the SUBSCRIBE that is not answered yet */
    uint32_t *last_seqs; /* owned; per publisher from publisher_first; NULL: gen->copies counts */
    uint32_t publisher_first;
    uint32_t publisher_count;

    const char *topic; /* owned; NULL: does not publish */
    struct packet_template message;
    uint64_t published;
    uint64_t share;      /* how many it publishes in all; UINT64_MAX when the pace decides */
    uint32_t window;     /* packet identifiers 1..window are in use */
    uint32_t free_count; /* identifiers in free_ids */
    uint16_t *free_ids;
    uint64_t *sent_ns;   /* by identifier */
    bool *released;      /* by identifier: PUBREC arrived */
    bool queued;         /* in the queue of publishers */
    struct client *next; /* in that queue */
};

struct counters {
    uint64_t published;
    uint64_t acked;      /* PUBACK or PUBCOMP */
    uint64_t delivered;  /* each message once per subscriber */
    uint64_t subscribed; /* filters */
    uint64_t duplicates;
    uint64_t gaps; /* a sequence number was jumped over */
    uint64_t corrupt;
    uint64_t ready;
    uint64_t finished;  /* connections made and closed again, as their pattern wants */
    uint64_t resumed;   /* handshakes of TLS with a ticket */
    uint64_t forgotten; /* sessions that should have been there */
    uint64_t closed;    /* connections that the server closed */
    uint64_t reads;
    uint64_t writes;
};

/* When a run is over: all of these, and nothing left to write. */
struct gen_goal {
    uint64_t published;
    uint64_t acked;
    uint64_t delivered;
};

struct gen {
    const struct options *options;
    int epoll_fd;
    uint8_t *scratch;      /* every socket is read into it */
    struct bytes plain;    /* and what TLS made of it */
    struct tls_setup *tls; /* owned; NULL: without TLS */
    uint64_t now_ns;
    uint64_t progress_ns;
    uint64_t progress_mark;
    struct counters counters;
    uint32_t unflushed; /* clients with bytes in `out` */
    bool closing_is_fine;
    bool failed;
    char error[256];

    struct client *queue_head; /* publishers that may have something to write */
    struct client *queue_tail;
    struct gen_goal goal;
    uint64_t fan;         /* deliveries per published message; 0 while nobody is there */
    uint8_t *copies;      /* numbered patterns: deliveries so far of each message, in any order */
    uint32_t topic_count; /* numbered patterns: how many topics are published to */
    uint32_t topic_step;  /* and how far their numbers are apart */
    uint64_t paced_total; /* rate mode: messages to publish; 0: not in rate mode */
    uint64_t paced_start_ns;
    struct client *paced_publishers;
    uint32_t paced_count;
    uint64_t paced_turn; /* writes so far */

    struct hist delivery; /* write to delivery */
    struct hist ack;      /* write to PUBACK, or to PUBREC at QoS 2 */
    struct hist slip;     /* rate mode: how late the generator itself was */
    struct hist connack;  /* connect() to CONNACK */
};

#define GEN_SCRATCH_SIZE ((size_t)256 * 1024)

uint64_t gen_clock_ns(void);

void gen_init(struct gen *gen, const struct options *options);
void gen_done(struct gen *gen);

/* Notes the first error; later ones are dropped. */
void gen_fail(struct gen *gen, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Waits for events for at most `timeout_ns`, handles them, and lets publishers write. */
void gen_turn(struct gen *gen, int64_t timeout_ns);

/* Turns until gen->goal is reached. Returns false when something failed, or when nothing was
 * published, acknowledged or delivered for the time-out. */
bool gen_run_to_goal(struct gen *gen);

/* Turns for `duration_ms`. */
void gen_run_for(struct gen *gen, uint32_t duration_ms);

/* Connects (and subscribes) `count` clients, a limited number at a time. */
bool gen_connect(struct gen *gen, struct client *clients, uint32_t count);

/* Puts a publisher into the queue of those that may publish, unless it is there. */
void gen_enqueue(struct gen *gen, struct client *client);

/* From now on publishes `total` messages evenly at the rate of the options. */
void gen_pace(struct gen *gen, struct client *publishers, uint32_t count, uint64_t total);
