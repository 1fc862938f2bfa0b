/* The core's own structures, shared by the files of broker/ only.
 *
 * Ownership: a broker owns its sessions, filters, groups and topics. A session owns its
 * subscriptions, in-flight entries and will. A filter lives while a subscription names it; a group
 * while it has a member. Everything is the loop thread's.
 *
 * Words: a *cursor* is a position in a queue with the entries below it that are not finished; a
 * *sub* is one session's subscription to one filter; a *live* sub or group is at its queue's head
 * and is fed from events; a *lagging* one reads its queue when its session can take more.
 */
#pragma once

#include "auth/access.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "base/tree.h"
#include "broker/broker.h"
#include "broker/inspect.h"
#include "broker/link.h"
#include "broker/outbound.h"
#include "broker/pidmap.h"
#include "broker/quota.h"
#include "broker/quota_bucket.h"
#include "broker/retained.h"
#include "broker/trie.h"
#include "broker/txn.h"

#define FILTER_MATCH_MAX  4096u      /* filters one publish may match, = STORE_QUEUES_MAX */
#define QUEUE_ID_BLOCK    1024u      /* queue numbers reserved by one row */
#define SESSION_NO_EXPIRY UINT32_MAX /* as in the Session Expiry Interval */
#define CURSOR_OPEN_MAX   65535u     /* entries in flight over one cursor: they go into its row */
#define FULL_WINDOW       16u        /* messages in flight, each way, while core_is_full */
#define PASSING_NUMBERS   (UINT64_C(1) << 62) /* from here on: see core_passing_number */

/* --- topics (topics.c) ------------------------------------------------------------------- */
struct topic {
    struct hashnode by_name, by_id;
    struct treenode by_order;  /* broker->topics_sorted */
    struct slice name, remark; /* owned */
    uint64_t created_ms;
    uint64_t sub_count; /* subscriptions whose filter begins with this name */
    uint64_t retained_count;
    uint32_t id;
    bool row_missing; /* its row could not be written yet */
};

/* --- queues and cursors -------------------------------------------------------------------- */
struct inflight;

/* Progress in a queue. Entries below next_seq that are still open are in `open`, in order. */
struct cursor {
    uint64_t owner; /* number of the session or group: names the row */
    uint32_t queue_id;
    bool durable; /* has a row */
    bool dirty;   /* in broker->dirty_cursors */
    uint64_t next_seq;
    struct list open; /* struct inflight.cursor_node, and redeliver entries of groups */
    uint32_t open_count;
    uint32_t ended_count; /* of them, INFLIGHT_ENDED */
    struct list dirty_node;
};

/* A topic filter with at least one subscription. */
struct filter {
    struct slice text; /* owned; of a private one the session's client_id */
    struct hashnode by_queue;
    uint32_t queue_id;                   /* 0: nobody subscribes at QoS 1 or 2 */
    uint32_t sub_count, queue_sub_count; /* of all subs and groups; of those that read the queue */
    bool is_private;                     /* a client's point-to-point queue: not in the trie */
    bool queue_has_rows;                 /* one that reads or read it is durable */
    struct list live; /* subs of connected sessions (sub.live_node), groups excepted */
    struct list groups;
};

enum sub_flags {
    SUB_NO_LOCAL = 1,
    SUB_RETAIN_AS_PUBLISHED = 2,
    SUB_RETAIN_PENDING = 4, /* retained messages still to be sent */
};

/* What each delivery looks at comes first, in as few cache lines as it takes. */
struct sub {
    struct list live_node;
    struct session *session;
    uint32_t id; /* Subscription Identifier, 0 = none */
    uint8_t qos, flags;
    bool lagging;
    bool drained;        /* read up to end_position */
    bool denied;         /* not allowed any more: it gets nothing, see rights.c */
    bool unwritten;      /* point-to-point: its row goes with each message until one is durable */
    struct group *group; /* shared subscription, else NULL */
    uint64_t begin_position; /* messages before it were published before the subscription */
    uint64_t end_position;   /* unsubscribed, to be drained up to here; UINT64_MAX otherwise */
    uint64_t hole_begin, hole_end; /* between them it was unsubscribed; both 0: never */
    struct cursor cursor;          /* unused when shared or QoS 0 */
    struct filter *filter;
    struct hashnode by_key; /* broker->subs: (session, filter, group) */
    struct list session_node;
    struct list lag_node;    /* session->lagging; when shared: session->shared */
    struct list member_node; /* of group->members */
    uint64_t retained_from;  /* with SUB_RETAIN_PENDING: messages from here on come from events */
    struct reader *reader;   /* a read under way, or NULL */
};

/* A shared subscription: one cursor for all members. */
struct group {
    struct broker *broker;
    struct list filter_node; /* filter->groups */
    struct slice name;       /* owned */
    struct filter *filter;
    struct list members; /* struct sub.member_node; the front is asked first */
    uint32_t member_count, durable_count;
    struct cursor cursor;
    uint64_t number; /* as a session's: names rows */
    uint64_t begin_position;
    struct list redeliver; /* struct inflight given back by members that left */
    uint64_t reading;      /* position of the one the reader is for */
    bool lagging;
    struct reader *reader;
};

/* --- in flight to a client ------------------------------------------------------------------ */
enum inflight_state {
    INFLIGHT_STORING,   /* QoS 2: its row is not durable yet, nothing was sent */
    INFLIGHT_SENT,      /* waits for PUBACK or PUBREC */
    INFLIGHT_RELEASING, /* PUBREC came, the row is being changed */
    INFLIGHT_RELEASED,  /* PUBREL sent, waits for PUBCOMP */
    INFLIGHT_FREE,      /* in group->redeliver, nobody's */
    INFLIGHT_ENDED, /* recovered and finished before its cursor came to it: to be skipped there */
    INFLIGHT_DROPPING, /* QoS 2: it was never sent and will not be, its row is being removed */
};

struct inflight {
    struct list node; /* session->inflight, in the order sent; group->redeliver; broker->finished */
    struct list cursor_node; /* cursor->open; detached when the cursor is gone */
    struct session *session;
    struct cursor *cursor; /* NULL: its subscription was removed */
    uint64_t seq;          /* in the queue; the position for retained messages */
    uint16_t packet_id;
    uint8_t qos, state;
    uint8_t writes; /* of its row, under way */
    bool retain;
    bool has_row;         /* see inflight_needs_row */
    bool unsent : 1;      /* to be sent, again or for the first time */
    bool sent_before : 1; /* with DUP */
    bool counted : 1;     /* in session->awaited */
    bool alone : 1;       /* with the identifier of its own subscription, not of all that match */
    bool dead : 1;        /* ended while a write is under way: freed by its done */
    struct group *group;  /* whose entry it is, or NULL */
    uint64_t number;      /* of the session, for rows that outlive it */
    uint64_t owner; /* of the cursor, which may be a group's: with queue_id and seq its name */
    uint64_t position;
    uint32_t queue_id; /* 0: a retained message */
    uint32_t sub_id;   /* of the subscription it was sent for; 0 none */
};

/* --- sessions --------------------------------------------------------------------------------- */
struct will {
    struct slice topic, payload, props; /* owned */
    uint32_t expiry_s;
    uint32_t delay_s;
    uint8_t qos;
    bool retain;
};

/* A will whose time has come, until it is stored. */
struct will_job {
    struct list node; /* broker->wills_due, while it waits to be tried again */
    struct will *will;
    struct slice client_id; /* owned */
    uint64_t number;        /* of its session */
    struct txn rows;        /* of a session that has ended: the removal of its rows */
    struct access *access;  /* of who left it, or NULL; owned */
    bool delivered;         /* at QoS 0: it is not sent again */
    bool storing;           /* a write is under way */
};

/* Retained messages being sent to one new subscription. */
struct retained_job {
    struct list node;
    struct sub *sub;
    struct slice after;    /* owned: the topic done last */
    struct slice sending;  /* borrowed: the topic being sent, done with what is written now */
    uint8_t *next;         /* owned: room for any topic of the read under way, or NULL */
    uint32_t next_room;    /* bytes of it */
    uint32_t reading;      /* places of the read under way, counted in broker->retained_reading */
    struct list wait_node; /* broker->retained_waiting or ->retained_line */
    uint64_t wait_for;     /* publishes with RETAIN that came before, see retained_storing */
    struct reader *reader;
    uint16_t held_by; /* packet ID of the SUBSCRIBE whose SUBACK must go first, or 0 */
    bool blocked;     /* what was read could not all be sent */
    bool no_window;   /* because the client's window was full: not read again before it opens */
    bool stepping;    /* the read is being made */
};

/* What each delivery looks at comes first, in as few cache lines as it takes. */
struct session {
    struct broker *broker;
    struct link *link; /* NULL: offline */
    uint64_t number;
    struct list inflight; /* in the order sent */
    struct list *resend;  /* in flight: where entries that are unsent begin, or NULL */
    struct outbound outbound;
    uint32_t awaited; /* PUBLISH sent on this link, not finished */
    uint32_t sub_count;
    bool durable;        /* outlives its connection: its state has rows */
    bool blocked;        /* the link has no room; link_writable will come */
    bool opening;        /* link_connect is not answered yet */
    struct list lagging; /* subs with something to read, served in turn */
    struct hashnode by_id, by_number;
    struct treenode by_order;         /* broker->sessions_sorted */
    struct list node;                 /* broker->session_list */
    struct slice client_id, username; /* owned */
    uint32_t connection;              /* counts links, whose addresses may come again */
    struct list subs;
    struct list retained_jobs;
    struct list shared;   /* subs that are members of groups */
    struct cursor direct; /* retained messages in flight; its queue number is 0 */
    struct reader *resend_reader;
    struct access *access;    /* of the link, or the last one while its will waits; may be NULL */
    struct pidmap inbound;    /* QoS 2: see publish.h */
    struct list publishing;   /* struct publish of the present link */
    uint32_t publish_pending; /* QoS 1 and 2 of this link without their last answer */
    uint32_t storing;         /* of them, those that wait for the store */
    struct sub *p2p;          /* its own queue, or NULL */
    struct will *will;
    struct lost *lost; /* what was lost with a failed write, or NULL */
    struct timer expiry_timer, will_timer, retry_timer;
    struct deferred pump;       /* once per turn of the loop */
    struct timer pump_later;    /* goes on in the next turn, so that others get theirs */
    struct list throttle_node;  /* broker->throttled */
    struct quota_bucket bucket; /* limits.client_tps */
    uint32_t expiry_s;
    uint64_t created_ms, connected_ms, disconnected_ms; /* wall; disconnected 0 while online */
    uint64_t trimmed;
    uint16_t keep_alive_s;
    uint8_t version;
    bool clean_start;
    bool has_row;     /* a session row is written, or on its way, or was and failed */
    bool row_written; /* one surely is */
    uint8_t kick;     /* reason to close the link with at the end of this turn, or 0 */
    bool any_denied;  /* of its subscriptions */
};

struct broker {
    struct broker_config config;
    struct broker_deps deps;
    struct hashmap topics_by_name, topics_by_id;
    struct topic
        *topic_latest; /* found by ID the last time, or NULL: messages ask again and again */
    struct tree topics_sorted; /* by name */
    uint32_t topic_count;

    struct trie *trie;
    struct hashmap filters_by_queue;
    struct hashmap subs;
    uint64_t sub_count;
    struct retained_index *retained;
    uint64_t retained_bytes;
    uint64_t retained_submitted, retained_finished; /* publishes with RETAIN, ever */
    struct list retained_waiting; /* jobs for which one of them is still under way */
    struct list retained_line;    /* jobs that have to wait for their turn, the next first */
    struct timer retained_timer;  /* when that is */
    uint64_t retained_ms;         /* jobs have asked for messages last in this millisecond ... */
    uint32_t retained_used;       /* ... for so many, with those not here yet at its begin */
    uint32_t retained_reading;    /* those not here yet */

    struct hashmap sessions;
    struct hashmap sessions_by_number;
    struct list session_list;
    struct tree sessions_sorted; /* by client ID */
    uint32_t session_count;

    struct list dirty_cursors;
    struct timer progress_timer; /* writes dirty cursors */
    struct list finished;        /* struct inflight whose rows go with the next progress record */
    struct list dropped_queues;  /* struct dropped_queue */
    struct list wills_due;       /* struct will_job: wills whose write has failed */
    struct timer wills_timer;    /* tries them again */
    struct hashmap removals;     /* struct removed: ended sessions whose row may still be there */
    struct list removed;         /* those of them that the store has failed to remove */
    struct list lost;            /* struct lost: sessions whose rows were */
    struct timer review_timer;   /* sessions are looked at again after a change of the rulebook */
    struct slice reviewed;       /* owned: the client ID of the last one; empty: none yet */
    struct rule_change *rule_change; /* of a stored policy or block rule, under way, or NULL */
    struct timer blocks_timer;       /* removes stored block rules that have expired */

    uint64_t next_number, number_limit; /* of sessions and groups */
    uint64_t next_passing;
    uint32_t next_queue_id, queue_id_limit;

    uint32_t pending; /* appends with a done under way */
    bool draining, writable;
    bool retrying; /* lost rows are being written again */
    bool closing;  /* being freed: rows are left as they are */
    void (*idle)(void *data);
    void *idle_data;
    uint64_t started_ms;

    struct quota quota;
    struct list throttled; /* sessions that wait for tokens, the next first */
    struct timer throttle_timer;
    uint32_t online_count; /* sessions with a link */

    struct txn txn;                     /* the one under construction */
    const struct trie_matches *matches; /* of the message being handed to live subs, or NULL */
    uint64_t fanout;                    /* counts messages handed to live subs */
    struct sys *sys;
    struct trim *trim;              /* retained messages being copied forward, or NULL */
    uint32_t *queue_ids;            /* FILTER_MATCH_MAX: scratch of one publish */
    struct publish *free_publishes; /* kept for reuse */
    struct list spare_inflights;    /* likewise */
    uint32_t spare_inflight_count;
};

/* --- core.c ------------------------------------------------------------------------------------
 */
typedef void core_write_fn(struct broker *broker, void *data, int err);
/* Submits what broker->txn holds, and clears it. done: may be NULL; runs later, never inside the
 * call. Returns 0 or what store_append returned (then done will not run). */
MUST_CHECK int core_write(struct broker *broker, uint8_t level, core_write_fn *done, void *data);
/* The same for rows nobody waits for, if there are any: when the store takes none, the old ones
 * stand, and what they leave behind is swept at the next start. */
void core_write_lazy(struct broker *broker);
uint64_t core_head(const struct broker *broker);   /* position behind all that was acknowledged */
uint64_t core_now_ms(const struct broker *broker); /* monotonic */
uint64_t core_wall_ms(const struct broker *broker);
/* A number never used before; 0 when the store takes no writes. */
uint64_t core_new_number(struct broker *broker);
/* The same for a session without rows of its own: needs no store. */
uint64_t core_passing_number(struct broker *broker);
uint32_t core_new_queue_id(struct broker *broker);
/* Ends one pending append; calls idle when it was the last of a draining broker. */
void core_ended(struct broker *broker);
/* Copies what a client chose: ret_copy is owned, to be freed with core_free. Returns 0 or
 * ERR_NOMEM.
 */
MUST_CHECK int core_copy(struct slice bytes, struct slice *ret_copy);
/* Whether what clients have made the server keep has come to config.memory_max: nothing that would
 * stay is begun then. */
bool core_is_full(const struct broker *broker);
void core_free(struct slice *slice);

/* --- throttle.c ---------------------------------------------------------------------------------
 */
void throttle_init(struct broker *broker);
void throttle_done(struct broker *broker);
/* Whether a client's PUBLISH is within the limits; if not it is answered, as far as it can be. Only
 * to be asked when broker->quota.messages. */
bool throttle_publish(struct link *link, uint8_t qos, uint16_t packet_id);
/* See session_send. */
int throttle_send(struct session *session, const struct delivery *delivery, bool stored);
/* Why a client may not connect now, a reason with a text, or 0: then it is counted. */
uint8_t throttle_connect(struct broker *broker, bool has_will, const char **ret_text);
/* Whether a SUBSCRIBE, an UNSUBSCRIBE is within the limits; counts it then. */
bool throttle_subscribe(struct broker *broker);
bool throttle_unsubscribe(struct link *link);

/* Passes a message to the link, within the limits. Returns what link_ops.publish does. stored: it
 * can be sent later, for which ERR_AGAIN asks when a limit is reached; otherwise it is dropped. */
static inline int session_send(struct session *session, const struct delivery *delivery,
                               bool stored)
{
    if (session->broker->quota.messages)
        return throttle_send(session, delivery, stored);
    return session->link->ops->publish(session->link, delivery);
}

/* --- topics.c ----------------------------------------------------------------------------------
 */
void topics_init(struct broker *broker);
struct topic *topic_find(const struct broker *broker, struct slice name);
struct topic *topic_by_id(struct broker *broker, uint32_t id);
/* Puts a topic into the tables; used by creation and recovery. NULL: out of memory. */
struct topic *topic_add(struct broker *broker, struct slice name, uint32_t id, uint64_t created_ms,
                        struct slice remark);
void topic_remove(struct broker *broker, struct topic *topic);
/* The first topic by name, and the one behind a name; NULL: there is none. */
struct topic *topic_first_of(const struct broker *broker);
struct topic *topic_above(const struct broker *broker, struct slice name);
struct topic *topic_next(const struct topic *topic);
/* Finds the topic a name or filter needs, creating it when the configuration says so.
 * Returns 0; ERR_NOTFOUND; ERR_INVALID: may not be created by clients; ERR_FULL; ERR_UNAVAILABLE.
 */
MUST_CHECK int topic_admit(struct broker *broker, struct slice name, struct topic **ret_topic);
/* Why a name may not be a first-level topic, or NULL when it may. */
const char *topic_refusal(const struct broker *broker, struct slice first);
/* Tells in `text` (TOPIC_TEXT_SIZE bytes) that a first-level topic does not exist and how to create
 * it, by its name unless that is long. Returns `text`. */
#define TOPIC_TEXT_SIZE 256u
const char *topic_missing_text(struct slice first, char *text);
/* true for names that need no topic: $SYS and $events. */
bool topic_is_system(struct slice first);

/* --- filters.c ---------------------------------------------------------------------------------
 */
struct filter *filter_find(struct broker *broker, struct slice text);
/* Finds or makes; queue_id: from a row, or 0. Returns NULL when out of memory. */
struct filter *filter_get(struct broker *broker, struct slice text, uint32_t queue_id);
struct filter *filter_by_queue(const struct broker *broker, uint32_t queue_id);
/* client_id: the session's own, which outlives it. */
struct filter *filter_new_private(struct broker *broker, struct slice client_id, uint32_t queue_id);
/* Gives the filter a queue if it has none. Returns 0 or ERR_UNAVAILABLE. */
MUST_CHECK int filter_need_queue(struct broker *broker, struct filter *filter);
/* Frees the filter when nobody subscribes, its queue when nobody reads it. */
void filter_tidy(struct broker *broker, struct filter *filter);

/* --- subs.c ------------------------------------------------------------------------------------
 */
struct sub *sub_find(const struct session *session, const struct filter *filter,
                     const struct group *group);
struct sub *sub_new(struct session *session, struct filter *filter, struct group *group);
/* Detaches and frees; rows are the caller's affair. */
void sub_free(struct sub *sub);
bool sub_reads_queue(const struct sub *sub);
/* The session connects or disconnects. */
void sub_attach(struct sub *sub);
void sub_detach(struct sub *sub);
void sub_mark_lagging(struct sub *sub);
/* Begins to read the queue, or has the pump stop it when nothing is waiting in it any more: what
 * waits for a subscription that is lowered to QoS 0 still comes. [MQTT5-3.8.4-4] */
void sub_set_qos(struct sub *sub, uint8_t qos);
/* Stops at once. The caller calls filter_tidy; rows go into broker->txn. */
void sub_read_stop(struct sub *sub);
/* Adds the rows of all its cursors that have changed to broker->txn, where a subscription goes
 * whose messages the others have passed over: or they would bring them after a crash. */
void session_put_cursors(struct session *session);
/* true when it was unsubscribed and has been drained. */
bool sub_is_drained(const struct sub *sub);
/* Adds the deletion of its rows to broker->txn when the session is durable, and frees it. */
void sub_remove(struct sub *sub);
uint64_t sub_lag(const struct sub *sub);

/* --- groups.c ----------------------------------------------------------------------------------
 */
struct group *group_find(const struct filter *filter, struct slice name);
/* NULL: out of memory. */
struct group *group_new(struct broker *broker, struct filter *filter, struct slice name,
                        uint64_t number);
void group_join(struct group *group, struct sub *sub);
void group_leave(struct group *group, struct sub *sub);
void group_event(struct group *group, const struct store_entry *entry);
void group_event_qos0(struct group *group, const struct message *message);
/* Takes an entry in flight back from its session, to be sent to another member. */
void group_take_back(struct inflight *inflight);
/* All that the session has in flight at QoS 1 for the group. [MQTT5-4.8.2-6] */
void group_take_all(struct group *group, struct session *session);
/* Likewise when the session ends, and what is at QoS 2 and has no row because none could be
 * written: that was sent to nobody. */
void group_take_ended(struct group *group, struct session *session);
void group_pump(struct group *group);
void group_mark_lagging(struct group *group);
/* Lets a member that can take more go on with the group. */
void group_wake(struct group *group);
/* A member's client left or came: what it had not acknowledged may go to others. */
void group_member_offline(struct group *group, struct session *session);
void group_member_online(struct group *group, struct session *session);

/* --- progress.c: cursors -------------------------------------------------------------------------
 */
void cursor_init(struct cursor *cursor, uint64_t owner, uint32_t queue_id, uint64_t next_seq);
/* Open entries lose the cursor; they are finished without it. */
void cursor_done(struct broker *broker, struct cursor *cursor);
/* The entries before next_seq have been dealt with. */
void cursor_advance(struct broker *broker, struct cursor *cursor, uint64_t next_seq);
/* It changed: its row is written within PROGRESS_MS, never at once. */
void cursor_touch(struct broker *broker, struct cursor *cursor);
/* true when an entry not yet reached is open already, as happens after a recovery. */
bool cursor_is_open(const struct cursor *cursor, uint64_t seq);
void progress_init(struct broker *broker);
void progress_soon(struct broker *broker);
/* Drops a queue once the deletion of the rows that name it is durable: a subscription that a crash
 * brings back must find its queue as it was. */
void progress_drop_queue(struct broker *broker, uint32_t queue_id);
void progress_free_finished(struct broker *broker);
void progress_free_dropped(struct list *dropped);
void progress_flush(struct broker *broker);

/* --- lost.c ------------------------------------------------------------------------------------
 */
/* Rows of the session were lost with a failed write, or may have been: all are written again. */
void lost_mark(struct broker *broker, struct session *session);
/* As core_write, for rows of the session that say what is so already: should they be lost, they are
 * written again, and deleted again, before anything else that the store takes. done may be NULL. */
int lost_write(struct session *session, uint8_t level, core_write_fn *done, void *data);
/* Does so now; broker->txn is left as it is. Returns false when the store takes nothing. */
bool lost_retry(struct broker *broker);
void lost_forget(struct session *session); /* its rows go, or stay for the next start */

/* --- inflight.c --------------------------------------------------------------------------------
 */
struct inflight *inflight_new(struct session *session, struct cursor *cursor,
                              const struct store_entry *entry);
/* QoS 2: who it went to must outlive a crash, for its session, or for the group it belongs to: what
 * was sent to a member whose session is gone goes to no other. [MQTT5-4.8.2-5] */
bool inflight_needs_row(const struct inflight *inflight);
/* Ends it: acknowledged, or given up. Its QoS 2 row goes with the next progress record. */
void inflight_end(struct inflight *inflight);
/* The same for one that is in no session. One recovered ahead of its cursor is remembered until the
 * cursor has passed it. */
void inflight_over(struct broker *broker, struct inflight *inflight);
/* Takes back one that could not be sent. */
void inflight_undo(struct inflight *inflight);
/* Frees one that is in no list, once no write is under way; its row, if it has one, goes with the
 * next progress record. */
void inflight_dispose(struct broker *broker, struct inflight *inflight);
/* QoS 2: writes its row with its state; then `unsent` or PUBREL. Or removes it, then ends it. */
void inflight_write(struct inflight *inflight);
/* Adds its row to txn, as it is once that is durable. */
void inflight_put_row(struct txn *txn, struct inflight *inflight);
/* Nothing behind it may be sent before its row is written. */
bool inflight_waits(const struct inflight *inflight);
/* QoS 2, sent: sends PUBREL, once that is durable. */
void inflight_release(struct inflight *inflight);
/* Its message cannot be sent, or not again. A client that may hold the packet ID of a QoS 2 message
 * lets go of it first: it would take the next message with that ID for a repetition. One that was
 * never sent leaves the log before anything behind it is sent: a crash would make it one that may
 * have been, and it would come behind what is newer. */
void inflight_give_up(struct inflight *inflight);
/* Zeroed. It is freed by inflight_free, which keeps some for the next. */
struct inflight *inflight_alloc(struct broker *broker);
void inflight_free(struct broker *broker, struct inflight *inflight);
void inflight_free_spare(struct broker *broker);
void inflight_open(struct cursor *cursor, struct inflight *inflight); /* keeps the order by seq */
uint32_t inflight_window(const struct session *session); /* how many more may be sent */
/* Takes it out of its cursor. */
void inflight_close(struct inflight *inflight);
/* The PUBLISH went out on the present link. */
void inflight_was_sent(struct inflight *inflight);
/* Its subscription is being removed, but what was begun is finished: entries of `session` leave the
 * cursor, those of QoS 1 for the session's own. Their row goes into broker->txn. */
void inflight_hand_over(struct cursor *cursor, struct session *session);
/* What is unsent goes out from `place` in session->inflight on. */
void inflight_resend_from(struct session *session, struct list *place);
/* Takes it out of its session, cursor and group untouched. */
void inflight_leave_session(struct inflight *inflight);
/* Puts a recovered or taken-back one into a session with its packet ID. */
void inflight_adopt(struct session *session, struct inflight *inflight);

/* --- reader.c: one read from the store that may outlive who asked
 * ---------------------------------- */
struct reader;
/* err as store_read's; entries valid during the call. */
typedef void reader_fn(void *owner, int err, const struct store_read *read);
/* Entries of a queue to read: from from_seq on, at most entries_max. */
struct reader_span {
    uint64_t from_seq;
    uint32_t queue_id, entries_max;
};
struct reader_plan {
    const struct store_place *places; /* borrowed for the call */
    uint32_t count;                   /* 1 to STORE_READ_MAX */
};

/* Reads; fn runs inside the call when the entries are in memory, else later, unless reader_cancel
 * comes first. *slot points to the reader while it is under way and is NULL when fn runs. fn must
 * not free what holds the slot. */
void reader_queue(struct broker *broker, struct reader **slot, struct reader_span span,
                  reader_fn *fn, void *owner);
void reader_message(struct broker *broker, struct reader **slot, uint64_t position, reader_fn *fn,
                    void *owner);
/* Several messages, see struct store_read. */
void reader_places(struct broker *broker, struct reader **slot, struct reader_plan plan,
                   reader_fn *fn, void *owner);
void reader_cancel(struct reader **slot); /* harmless when none is under way */

/* --- deliver.c ---------------------------------------------------------------------------------
 */
enum deliver_result {
    DELIVER_DONE,    /* sent, or on its way */
    DELIVER_SKIPPED, /* not for this session, expired, too large: go on */
    DELIVER_BLOCKED, /* no room or no window: stays where it is */
};

/* An entry of the queue of `cursor` to the session of `sub`; shared: the cursor is its group's. */
enum deliver_result deliver_entry(struct sub *sub, struct cursor *cursor,
                                  const struct store_entry *entry);
/* A stored message reached the head of queues: hands it to whoever is live. */
void deliver_event(struct broker *broker, const struct message *message, const uint32_t *queue_ids,
                   const uint64_t *seqs, uint16_t queue_count);
/* QoS 0, straight from memory. Returns how many subscriptions matched. */
uint32_t deliver_qos0(struct broker *broker, const struct message *message);
enum deliver_result deliver_retained(struct sub *sub, const struct store_entry *entry);
/* Sends an in-flight entry whose `unsent` is set; entry: its message with its queues. */
enum deliver_result deliver_again(struct inflight *inflight, const struct store_entry *entry);
/* true when it is past its expiry, or its topic was deleted. */
bool message_gone(struct broker *broker, const struct message *message);
/* The session may take one more QoS 1 or 2 message now. */
bool session_ready(const struct session *session);
/* A subscription that was ended still has messages from before to be sent. */
bool session_drains(const struct session *session);

/* --- pump.c -------------------------------------------------------------------------------------
 */
/* At the end of this turn of the loop, sends the session what it can take: what was in flight, then
 * lagging queues in turn, then retained messages. */
void session_pump(struct session *session);
void session_pump_later(struct session *session); /* in the next turn */
void session_pump_init(struct session *session);
void session_pump_stop(struct session *session); /* cancels reads under way */

/* --- publish.c ----------------------------------------------------------------------------------
 */
struct publish_request {
    struct slice topic, payload, props;
    struct session *session; /* who published, or NULL */
    struct link *link;       /* who gets the answer, or NULL */
    struct slice client_id;
    uint32_t expiry_s;
    uint16_t packet_id;
    uint8_t qos;
    bool retain;
    uint64_t publisher;
    struct access *access; /* the publisher's rights; NULL: all */
    struct will_job *will; /* whose will it is: told the outcome of the write; else NULL */
};

/* Routes and stores one message; broker->txn may hold operations that go with it. Refusals are
 * answered to request->link. Returns 0 or why it was refused. */
int publish_submit(struct broker *broker, const struct publish_request *request);
/* Forgets who waits for answers: the link is gone. */
void publish_detach(struct session *session);
/* The session is gone too. */
void publish_forget(struct session *session);
void publish_free_all(struct broker *broker);

/* --- rights.c -----------------------------------------------------------------------------------
 */
void rights_init(struct broker *broker); /* watches the rulebook */
void rights_done(struct broker *broker);
/* Why a client may not connect: a reason, with text, or 0. access may be NULL. */
uint8_t rights_connect(const struct broker *broker, struct access *access,
                       const struct packet_connect *packet, const char **ret_text);
/* Whether it may be published, subscribed to; a no is logged and counted. */
bool rights_publish(const struct broker *broker, struct access *access,
                    const struct publish_request *publish);
bool rights_subscribe(const struct session *session, struct slice filter, uint8_t qos);
/* Sets `denied` of all subscriptions of a session with a link. */
void rights_judge(struct session *session);
/* Whether a message that is in flight may be sent (again): a subscription that brings it is
 * allowed. group: whose it is, or NULL. */
bool rights_may_receive(struct session *session, const struct group *group, struct slice topic);

/* --- stored_rules.c -----------------------------------------------------------------------------
 */
/* Fills the rulebook, if there is one. */
MUST_CHECK int stored_rules_recover(struct broker *broker, struct errmsg *reterr);
/* Waits for the next stored block rule to expire. */
void stored_blocks_watch(struct broker *broker);

/* --- retained_jobs.c ----------------------------------------------------------------------------
 */
/* retained_from: see struct sub; held_by: see struct retained_job. */
void retained_job_start(struct sub *sub, uint64_t retained_from, uint16_t held_by);
void retained_jobs_pause(struct session *session); /* until the next connection */
void retained_jobs_cancel(struct session *session, const struct sub *sub); /* sub NULL: all */
void retained_jobs_release(struct session *session, uint16_t packet_id);
/* As the row of a subscription says: its retained messages are still to be sent, those behind the
 * topic `after`. Goes on with the next connection. */
void retained_job_recover(struct sub *sub, struct slice after);
/* How far the subscription has got: what its row says. Empty when there is nothing to be sent. */
struct slice retained_job_after(const struct sub *sub);
/* Adds to broker->txn how far all of the session's jobs have got, with what they have in flight. */
void retained_jobs_put(struct session *session);
void retained_jobs_pump(struct session *session);
void retained_jobs_init(struct broker *broker);
/* A publish with RETAIN goes to the store: adds its row to broker->txn. Returns NULL when out of
 * memory. */
/* ret_topic: a copy of its name, owned. Returns NULL when out of memory. */
struct retained *retained_storing(struct broker *broker, const struct message *message,
                                  struct slice *ret_topic);
/* Its outcome: stored is NULL when it failed. */
void retained_stored(struct broker *broker, struct slice topic, struct retained *retained,
                     const struct message *stored);
/* Fills an entry from a row or a stored message. */
void retained_set(struct broker *broker, struct retained *retained, const struct retained *value);
/* Forgets a retained message that is gone; its row is deleted lazily. */
void retained_drop(struct broker *broker, struct slice topic);

/* --- will.c -------------------------------------------------------------------------------------
 */
/* ret_will: NULL when it has none. Returns 0 or ERR_NOMEM. */
MUST_CHECK int will_new(const struct packet_connect *packet, struct will **ret_will);
/* Copies what a will says. Returns 0 or ERR_NOMEM, with a part of it copied. */
MUST_CHECK int will_fill(struct will *will, struct slice topic, struct slice payload,
                         struct slice props);
struct will *will_free(struct will *will);
/* Now; clears it. When the store takes no writes, or the write fails, it is tried again. */
void will_publish(struct session *session);
/* The connection is gone: after its delay. Returns true when that was now. */
bool will_due(struct session *session);
/* Takes the session's will. */
struct will_job *will_job_new(struct session *session);
/* Publishes it with what broker->txn holds: the removal of the session's rows. */
void will_publish_ended(struct broker *broker, struct will_job *job);
/* The outcome of its write. */
void will_stored(struct broker *broker, struct will_job *job, int err);
struct will_job *will_job_free(struct will_job *job);
/* A message with RETAIN is stored: a will that was delivered before it is not retained later. */
void wills_replaced(struct broker *broker, struct slice topic);
/* Tries those again that could not be written. */
void wills_retry(struct broker *broker);
void wills_init(struct broker *broker);
void wills_done(struct broker *broker);

/* --- sessions.c ---------------------------------------------------------------------------------
 */
void sessions_init(struct broker *broker);
struct session *session_find(const struct broker *broker, struct slice client_id);
/* The first session whose client ID is above `client_id`, NULL: there is none; and the next one. */
struct session *session_above(const struct broker *broker, struct slice client_id);
struct session *session_next(const struct session *session);
struct session *session_by_number(const struct broker *broker, uint64_t number);
struct session *session_new(struct broker *broker, struct slice client_id, uint64_t number);
void session_free(struct session *session); /* memory only */
/* Ends an offline session: publishes its pending will, adds the deletion of its rows to broker->txn
 * (which must be empty), frees it. The caller submits the transaction when it has something in it.
 */
void session_discard(struct session *session);
/* The same, and writes. Should that fail it is done again, or the session would be back after the
 * next start. */
void session_remove(struct session *session, uint8_t level);
/* Writes its row; when the store takes none, the old one stands. */
void session_write(struct session *session, uint8_t level);
/* The link is gone: subs detach, timers start. */
void session_offline(struct session *session, bool publish_will);
void session_start_expiry(struct session *session, uint64_t elapsed_ms);
/* Ended sessions whose rows were not removed: tries again. Returns false when that is not possible.
 */
bool sessions_remove_again(struct broker *broker);
/* true when the removal of such a session, with this client ID, has not been written yet. */
bool session_lingers(const struct broker *broker, struct slice client_id);
void sessions_forget_removed(struct broker *broker);
/* Closes the client's connection with a reason of ours. */
void session_kick(struct session *session, uint8_t reason, const char *text);
/* The same at the end of this turn, for callers in the middle of a delivery. */
void session_kick_later(struct session *session, uint8_t reason);

/* --- recover.c, sys.c, trim.c
 * --------------------------------------------------------------------- */
MUST_CHECK int recover_all(struct broker *broker, struct errmsg *reterr);
struct sys *sys_new(struct broker *broker);
struct sys *sys_free(struct sys *sys);
void sys_configure(struct sys *sys);                   /* the interval may have changed */
void sys_subscribed(struct sys *sys, struct sub *sub); /* sends the present values */
void trim_begin(struct broker *broker, uint64_t position);
struct trim *trim_free(struct broker *broker, struct trim *trim);
