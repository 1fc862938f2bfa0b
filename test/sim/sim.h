/* The simulation: histories of clients, engine and faults, and a model that judges what the core
 * sends.
 *
 *   model.c    what TideMQ promises, as a program: the specification. It is told what clients ask
 *              for, what the engine and the clock do, and judges each packet the core sends
 *   judge.c    its part for PUBLISH: who may get a message, who must, how often, in which order
 *   world.c    the core on the model engine, and clients that are structs
 *   history.c  draws one history: a step depends on the seed and its number only
 *   main.c     runs seeds, replays and shrinks what failed
 *
 * Everything a history does is a function of its seed, so a failure comes again at the same step.
 */
#pragma once

#include "base/base.h"

#include <stdio.h>

enum {
    CLIENTS = 6,
    NOBODY = CLIENTS, /* publisher of nothing */
    TOPICS = 7,
    FILTERS = 10,
    SHARED = 8, /* filters from here on are shared subscriptions */
    GROUPS = FILTERS - SHARED,
    WAYS = 1 + GROUPS, /* on which a message comes: ordinary, or for one of the groups */
    MESSAGES_MAX = 1200,
    SLOTS = 6, /* publishes of one client without their last answer; packet ID = slot + 1 */
    SPANS = 4,
    OUTS = 80, /* deliveries to one client that are not finished */
    GRACE_MS = 10000,
    RETRY_MS = 1500,   /* what could not be written is tried again within */
    PROGRESS_MS = 300, /* an acknowledgement of a subscriber is submitted within */
};

#define NEVER UINT64_MAX

extern const char *const sim_topics[TOPICS];
extern const char *const sim_filters[FILTERS];

/* One packet that the core sent, or the end of the connection. */
struct packet {
    uint8_t type; /* enum packet_type */
    uint8_t reason, qos, way;
    bool dup, retain, present;
    uint16_t packet_id;
    uint8_t topic;
    uint32_t number; /* of the message */
    uint32_t expiry_s, id_count;
    uint32_t ids[8];
};

struct connect {
    uint8_t version;
    bool clean;
    uint32_t expiry_s;
    uint16_t receive_max;
    int64_t will; /* number of its message, or -1 */
    uint32_t will_delay_s;
};

struct ask {    /* SUBSCRIBE or UNSUBSCRIBE of one filter */
    int filter; /* -1: none under way */
    bool off;
    uint8_t qos, handling;
    bool no_local, as_published;
    uint32_t id;
    uint16_t packet_id;
};

/* --- model: what is known --------------------------------------------------------------------- */
struct model_message {
    uint8_t topic, qos, publisher;
    bool retain, empty, will;
    uint32_t expiry_s; /* 0: none */
    uint32_t submits;  /* times it was handed to the server; 0: a will that is not due */
    uint32_t first_tick, last_tick; /* of them */
    uint64_t first_ms, last_ms;
    uint64_t head;      /* end of the log at the first: it lies behind that */
    uint32_t done_tick; /* when it was acknowledged; 0: it is not */
    bool promised;      /* acknowledged, or a will whose time has surely come */
    bool refused;       /* answered with a failure: nobody waits for it */
    bool doubtful;      /* a will whose write has failed since the last start: tried again */
    bool trimmed;       /* retention may have removed it */
    uint32_t trim_tick; /* when */
    bool match_sure, match_may; /* somebody subscribed when it was sent */
    bool must[CLIENTS];
    bool must_group[GROUPS];
    struct receipt {
        uint16_t sent, sent0;   /* PUBLISH, repetitions included; of them, at QoS 0 */
        uint16_t got, walked;   /* receptions that were no repetitions of QoS 2; with RETAIN */
        uint16_t got2, walked2; /* at QoS 2: without RETAIN, and with */
        uint32_t last_tick, sent0_tick; /* of the last reception; sending at QoS 0 */
        uint32_t walk1_tick;            /* sending with RETAIN at QoS 1 */
        bool settled;                   /* its acknowledgement has survived a kill */
        uint64_t acked_ms;              /* PUBACK was sent; 0: not */
    } to[CLIENTS][WAYS];
    uint8_t holder[GROUPS]; /* client + 1 that was sent it at QoS 2 for the group */
};

struct span {
    uint32_t begin, end; /* ticks; end UINT32_MAX: still subscribed */
};

struct model_sub {
    struct span spans[SPANS]; /* the youngest last; none: not subscribed in this session */
    uint8_t span_count;
    bool sure; /* acknowledged, and nothing was asked since */
    struct ask now;
    uint8_t qos_most;                /* of all that was asked for */
    uint32_t stored_tick;            /* since when it has been above QoS 0; 0: it is not */
    bool rap_ever;                   /* likewise */
    uint32_t walks;                  /* SUBSCRIBEs that may send retained messages */
    uint32_t walk_tick, walk_before; /* of the two youngest; 0: none */
    bool walk_sure;                  /* the youngest surely does, for as long as it lasts */
    bool nl_before;                  /* No Local was asked for last */
};

enum out_state { OUT_SENT, OUT_RECEIVED, OUT_RELEASED };

/* A delivery at QoS 1 or 2 that the server has to finish. */
struct out {
    bool used, stale; /* stale: the server was killed since */
    bool restarted;   /* it was started again since, orderly or not */
    bool walk;
    uint8_t qos, way, state;
    uint16_t packet_id;
    uint32_t number, connection;
    uint32_t order; /* of its first PUBLISH */
};

enum slot_state { SLOT_FREE, SLOT_PUBLISHED, SLOT_RELEASED };

struct slot {
    uint8_t state;
    uint32_t number;
    uint32_t releases; /* PUBREL sent */
};

enum session_state { SESSION_NONE, SESSION_MAYBE, SESSION_SURE };
enum will_state { WILL_NONE, WILL_ARMED, WILL_WAITING, WILL_FIRED };

struct model_client {
    bool online;  /* CONNACK came and the connection is there */
    bool opening; /* CONNECT was sent */
    bool removes; /* and the server has to end a durable session first */
    struct connect how;
    uint32_t connection, connect_tick;
    uint8_t state;           /* enum session_state */
    bool wild;               /* one that had ended may be back, with all it had */
    uint32_t ended_tick;     /* of the end of the last one; 0: that is in the log */
    uint32_t ended_expiry_s; /* the longest its row may say */
    uint32_t expiry_s;
    uint32_t row_expiry_s, row_least_s; /* what its row says may be between */
    uint32_t begun_tick;                /* of the session */
    uint32_t left_tick; /* of the end of the connection; what it says is in the log behind */
    uint64_t end_lo_ms, end_hi_ms; /* the session ends between; NEVER while connected */
    uint64_t row_end_ms; /* the end that its row says, as no write took it back; 0: none */
    uint32_t kill_tick;  /* of the last kill that it survived */
    uint32_t start_tick; /* of the last start of the server, orderly or not */
    struct model_sub subs[FILTERS];
    struct ask asked;
    uint32_t changed_tick; /* of the last SUBSCRIBE or UNSUBSCRIBE, or when one became uncertain */
    struct out outs[OUTS];
    uint32_t next_order, resent_order[3]; /* by QoS */
    uint32_t awaited;                     /* PUBLISH on this connection, not finished */
    uint8_t completed[65536 / 8]; /* packet IDs of QoS 2 deliveries finished in this session */
    struct slot slots[SLOTS];
    struct received {
        uint16_t packet_id; /* 0: free */
        uint32_t number;
    } received[OUTS];                         /* by the client at QoS 2; waits for PUBREL */
    uint32_t last[CLIENTS + 1][TOPICS][3][3]; /* number + 1 of the last first reception */
    int64_t will;
    uint8_t will_state;
    uint32_t will_delay_s, will_tick; /* tick: of what brought it into its state */
    uint64_t due_lo_ms, due_hi_ms;
};

extern struct model {
    uint32_t tick, call_tick; /* call: at the end of the last call of the core */
    uint32_t proved;          /* all that was submitted up to this tick is durable */
    uint64_t proved_ms;
    uint32_t failed_tick; /* of the last write that failed */
    uint32_t trim_tick;   /* of the last retention */
    uint64_t failed_ms, now_ms;
    uint32_t message_count;
    struct model_message messages[MESSAGES_MAX];
    struct model_client clients[CLIENTS];
} model;

/* --- model.c: what happens ---------------------------------------------------------------------
 */
void model_begin(void);
void model_clock(uint64_t now_ms);
bool model_matches(int filter, int topic);
int model_target(int topic);                          /* client of a point-to-point topic, or -1 */
uint32_t model_message(struct model_message message); /* a new one; returns its number */
void model_connect(int index, const struct connect *how);
void model_connack(int index, const struct packet *packet);
void model_submit(int index, uint32_t number, uint64_t head); /* PUBLISH is being sent */
void model_qos0_sent(uint32_t number);                        /* what was to go out at once has */
/* The will of a client that the server is closing the connection of has come. */
void model_will_early(int index);
void model_asked(int index, const struct ask *ask);
void model_lost(int index, bool taken_over); /* the connection broke */
void model_disconnected(int index, bool with_will, bool has_expiry, uint32_t expiry_s);
void model_answer(int index, const struct packet *packet); /* PUBACK, PUBREC, PUBCOMP, SUBACK … */
void model_sends_ack(int index, uint8_t type, uint16_t packet_id); /* to the server */
void model_write_failed(void);                                     /* in the call just made */
void model_killed(bool orderly, uint64_t down_ms);                 /* and started again */
void model_trimmed(uint64_t position);

/* --- judge.c -------------------------------------------------------------------------------------
 */
void judge_publish(int index, const struct packet *packet);
void judge_pubrel(int index, const struct packet *packet);
/* The client reads a PUBLISH. Returns false when it repeats a QoS 2 message. */
bool judge_reception(int index, const struct packet *packet);
void judge_finish(void);
void judge_released(int index, uint16_t packet_id); /* the client reads PUBREL */
struct out *judge_find(struct model_client *client, uint16_t packet_id);

/* --- world.c -------------------------------------------------------------------------------------
 */
void world_open(void);
void world_close(void);
bool world_connected(int index);
void world_connect(int index, const struct connect *how);
void world_lose(int index);
void world_disconnect(int index, bool with_will, bool has_expiry, uint32_t expiry_s);
void world_publish(int index, uint32_t number, bool dup);
void world_ask(int index, struct ask ask);
void world_ack(int index, uint8_t type, uint16_t packet_id);
/* The next packet the client has not read, or NULL; valid until the client sends something. */
struct packet *world_next(int index);
bool world_unread(int index);
void world_fill(int index, bool full);
bool world_is_full(int index);
bool world_turn(uint32_t completions); /* true when the engine did something */
void world_settle(void);               /* until nothing is due any more */
void world_pass(uint64_t ms);
void world_kill(bool lazy_survives, uint64_t down_ms);
void world_restart(uint64_t down_ms);
void world_fail_append(uint32_t n);
void world_slow_reads(bool slow);
void world_trim(uint32_t percent);

/* --- history.c -----------------------------------------------------------------------------------
 */
void history_run(uint64_t seed, uint32_t steps, const bool *without);

/* --- main.c --------------------------------------------------------------------------------------
 */
extern uint32_t sim_step;
extern bool sim_tracing;
extern uint64_t sim_digest; /* of all that was sent: the same for the same seed */
_Noreturn void sim_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            sim_failed(__VA_ARGS__);                                                               \
    } while (0)
