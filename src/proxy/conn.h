/* Conn: one network connection: its stream, its state, its input and output.
 *
 *   NEW ──CONNECT──▶ AUTH ──allowed──▶ CONNECTING ──CONNACK──▶ OPEN
 *    └───────┬────────┴────────┬────────────┴──────────────────┤
 *            ▼                 ▼                               ▼
 *         CLOSING (output goes out) ──▶ LINGERING (for the client to close) ──▶ DEAD
 *
 * The core may call back from inside a call into it. Such a callback only appends output and marks:
 * an error it meets becomes FAILING and is acted upon in conn_work. conn_work runs at the end of
 * the iteration in which anything happened; there the output is written, once, and a DEAD conn is
 * freed.
 *
 * Reading stops in three cases: the state does not allow packets; output is above its limit;
 * `holds` is not empty. Interest in reading is withdrawn only when readiness comes while it stops,
 * so a short stop costs no system call.
 *
 * Invariants: link_connect is called at most once; link_lost exactly once unless the core detached
 * the link itself; `input` holds undecoded bytes only, and none while the conn is idle.
 *
 * Private to proxy/. Thread: owner loop.
 */
#pragma once

#include "auth/identity.h"
#include "broker/link.h"
#include "mqtt/encode.h"
#include "net/stream.h"
#include "proxy/alias.h"
#include "proxy/outbuf.h"
#include "proxy/proxy.h"

#define INPUT_SCRATCH_SIZE    (64u * 1024)
#define CONNECT_PACKET_MAX    (128u * 1024) /* nobody has been authenticated by then */
#define CONN_PAYLOAD_KEPT_MIN (8u * 1024)   /* payloads from here on are referenced, not copied */

enum conn_state {
    CONN_NEW,
    CONN_AUTH,
    CONN_CONNECTING,
    CONN_OPEN,
    CONN_FAILING,
    CONN_CLOSING,
    CONN_LINGERING,
    CONN_DEAD,
};

enum conn_hold {
    HOLD_STORE = 1,   /* a packet to be stored is next and the store takes none */
    HOLD_RECEIVE = 2, /* 3.x: too many publishes without an answer */
    HOLD_OUTPUT = 4,  /* the client does not read what it caused */
    HOLD_BURST = 8, /* what it caused for others is to go out first; ends with the next conn_work */
    HOLD_MEMORY = 16, /* a large packet is next and there is no memory for it */
    HOLD_RATE = 32,   /* 3.x: a packet is next that is over a rate of the core's, see pace.c */
};

/* Bytes received and not decoded yet. */
struct input {
    uint8_t *bytes; /* NULL when empty */
    uint32_t size, room;
    uint32_t wanted; /* size of the packet at the front, 0 while not known */
    bool held;       /* decoding stopped before the bytes were used up */
};

/* What each delivery looks at comes first, in as few cache lines as it takes. */
struct conn {
    struct proxy *proxy;
    struct deferred work;
    struct outbuf out;
    struct alias_table alias_in, alias_out;
    uint32_t packet_max; /* the client's Maximum Packet Size; 0 = none */

    uint8_t state;       /* enum conn_state */
    uint8_t holds;       /* enum conn_hold */
    bool linked;         /* the core knows the link and expects link_lost */
    bool welcomed;       /* CONNACK said yes */
    bool working;        /* inside conn_work */
    bool broken;         /* out of memory in the middle of a packet: nothing can follow */
    bool read_unwanted;  /* readiness came while reading was stopped */
    bool core_waits;     /* publish said ERR_AGAIN; link_writable is owed */
    bool write_stuck;    /* the stream took less than it was given */
    bool close_at_once;  /* CLOSING: no lingering, the client has said goodbye */
    bool problem_info;   /* reason strings are welcome */
    uint8_t fail_reason; /* with FAILING */

    struct link link;
    struct stream *stream;
    struct list node;      /* proxy->conns */
    struct list held_node; /* proxy->held, with HOLD_STORE; ->paced, with HOLD_RATE; ->newcomers */
    struct timer timer;    /* what it is for depends on the state */
    struct stack *stack;   /* what its listener makes streams of; NULL without a listener */
    uint32_t tls_round;    /* of proxy_tls.c: the last in which it was looked at */

    uint16_t keep_alive_s; /* that counts; 0 = none */
    uint16_t keep_alive_asked_s;
    uint32_t session_expiry_asked_s;
    uint64_t heard_ms;   /* when bytes came last */
    uint64_t moved_ms;   /* when output went last, or began */
    uint64_t waiting;    /* bytes of output when that was looked at last, see on_starved */
    uint64_t waiting_ms; /* since when a message of QoS 1 or 2 waits for room; 0: none does */
    uint64_t paced_ms;   /* since when a packet waits for a rate; 0: none does */
    uint64_t starved_ms; /* since when a large packet waits for memory; 0: none does */

    struct input input;
    uint64_t answers; /* bytes of `out` that the client itself caused, since it was nearly empty */
    struct auth_call *auth_call; /* with AUTH, until answered */
    struct slice connect_body;   /* with AUTH: a copy, owned, as is link.username */
    struct identity *identity;   /* NULL: nobody has said anything but that it may connect */
};

/* --- conn.c: life ----------------------------------------------------------------------------- */

/* Takes over the stream. */
struct conn *conn_new(struct proxy *proxy, struct stream *stream, const char *address);
/* The transport may know by now where the client really is. */
void conn_take_address(struct conn *conn);
/* Frees at once; tells the core when it does not know yet. */
struct conn *conn_free(struct conn *conn);
/* Asks for conn_work at the end of the iteration. */
void conn_schedule(struct conn *conn);
/* true while packets are to be decoded. */
bool conn_is_readable(const struct conn *conn);
void conn_hold(struct conn *conn, enum conn_hold hold);
/* Lets a conn that is held go on; harmless on others. */
void conn_release(struct conn *conn, enum conn_hold hold);

/* The stream has ended or failed: no more words. */
void conn_lost(struct conn *conn);
/* Memory is short and the client reads nothing: it goes, what was for it stays stored. */
void conn_evict(struct conn *conn);
/* Closes because of `reason`: DISCONNECT for MQTT 5 (a CONNACK before the session is there),
 * link_lost. Not from inside a callback of the core. detail: for the log and the reason string. */
void conn_fail(struct conn *conn, uint8_t reason, const char *detail);
/* The same from inside a callback of the core. */
void conn_fail_later(struct conn *conn, uint8_t reason);
/* Writes what is buffered, then closes. The core must have detached the link. */
void conn_close(struct conn *conn);
/* CONNACK has been sent: packets may follow, keep alive counts. */
void conn_open(struct conn *conn);

/* --- input.c ------------------------------------------------------------------------------------
 */

/* Reads once and decodes. Not while `held`. */
void input_read(struct conn *conn);
/* Decodes what was held back. */
void input_resume(struct conn *conn);
void input_clear(struct conn *conn);

/* --- proxy_tls.c ---------------------------------------------------------------------------- */

/* Whether the client's certificate is revoked by what its listener has read last. ret_looked: it
 * has one. */
bool conn_is_revoked(const struct conn *conn, bool *ret_looked);

/* --- pace.c -------------------------------------------------------------------------------------
 */

void pace_init(struct proxy *proxy);
/* Whether the conn is held, because the packet that is next is over a rate of the core's. */
bool pace_holds(struct conn *conn, const struct frame_head *head);

/* --- one packet each: on_x.c --------------------------------------------------------------------
 */

void on_connect(struct conn *conn, struct slice body);
/* Frees what on_connect copied. */
void on_connect_done(struct conn *conn);
void on_publish(struct conn *conn, struct slice body, uint8_t flags);
void on_ack(struct conn *conn, uint8_t packet_type, struct slice body);
void on_subscribe(struct conn *conn, struct slice body);
void on_unsubscribe(struct conn *conn, struct slice body);
void on_pingreq(struct conn *conn, struct slice body);
void on_disconnect(struct conn *conn, struct slice body);
void on_auth(struct conn *conn, struct slice body);

/* --- send.c -------------------------------------------------------------------------------------
 */

extern const struct link_ops send_link_ops;

/* A refusal before the core was asked. reason_string: may be NULL. */
void send_refusal(struct conn *conn, uint8_t reason, const char *reason_string);
void send_disconnect(struct conn *conn, uint8_t reason, const char *reason_string);
void send_pingresp(struct conn *conn);
