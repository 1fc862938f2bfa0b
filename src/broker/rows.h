/* Rows: how the core's durable state is written into the metadata store.
 *
 *   N                                  numbers reserved
 *   T topic name                       first-level topic
 *   S client id                        session, with its will
 *   F session, filter                  subscription ($share/… included)
 *   G filter ($share/…)                shared group
 *   C owner, queue                     cursor: next entry, and the open ones before it
 *   I session, packet id               QoS 2 received, not released
 *   O session, owner, queue, seq       QoS 2 being sent; owner: of the cursor, a group or itself;
 *                                      queue 0, retained: the packet ID in its place
 *   R topic name                       retained message: position and what is needed to send it
 *   P id                               policy, as JSON (stored_rules.c)
 *   B name                             block rule, likewise
 *
 * Rows of a session carry its number, which is never used again: rows left behind by an interrupted
 * removal belong to nobody and are swept at the next start (recover.c).
 */
#pragma once

#include "broker/core_priv.h"
#include "broker/txn.h"

enum row_kind {
    ROW_NUMBERS = 'N',
    ROW_TOPIC = 'T',
    ROW_SESSION = 'S',
    ROW_SUB = 'F',
    ROW_GROUP = 'G',
    ROW_CURSOR = 'C',
    ROW_INBOUND = 'I',
    ROW_OUTBOUND = 'O',
    ROW_RETAINED = 'R',
    ROW_POLICY = 'P',
    ROW_BLOCK = 'B',
};

void row_put_numbers(struct txn *txn, uint64_t number_limit, uint32_t queue_id_limit);
void row_put_topic(struct txn *txn, const struct topic *topic);
void row_delete_topic(struct txn *txn, struct slice name);
void row_put_session(struct txn *txn, const struct session *session);
void row_delete_session(struct txn *txn, struct slice client_id);
void row_put_sub(struct txn *txn, const struct sub *sub);
void row_delete_sub(struct txn *txn, const struct sub *sub);
void row_put_group(struct txn *txn, const struct group *group);
void row_delete_group(struct txn *txn, const struct group *group);
void row_put_cursor(struct txn *txn, const struct cursor *cursor);
void row_delete_cursor(struct txn *txn, uint64_t owner, uint32_t queue_id);
void row_put_inbound(struct txn *txn, uint64_t number, uint16_t packet_id);
void row_delete_inbound(struct txn *txn, uint64_t number, uint16_t packet_id);
void row_put_outbound(struct txn *txn, const struct inflight *inflight);
void row_delete_outbound(struct txn *txn, const struct inflight *inflight);
/* position is filled in by the engine (META_PUT_AT). */
void row_put_retained(struct txn *txn, struct slice topic, const struct retained *retained);
void row_delete_retained(struct txn *txn, struct slice topic);
/* The filter text as subscribed, with $share/group/ in front. */
void row_filter_text(struct txn *txn, const struct filter *filter, const struct group *group);

/* Decoded forms where the struct needs looking up first. Slices borrow the row. */
struct row_sub {
    uint64_t number;
    struct slice filter;
    uint64_t begin_position, end_position, hole_begin, hole_end, retained_from;
    struct slice retained_after;
    uint32_t queue_id, id;
    uint8_t qos, flags;
    bool is_private;
};

struct row_open {
    uint64_t seq, position;
    uint64_t owner; /* this and the queue: of a QoS 2 row only */
    uint32_t queue_id, sub_id;
    uint16_t packet_id;
    uint8_t qos, state;
    bool retain, alone;
};

MUST_CHECK int row_get_sub(struct slice key, struct slice value, struct row_sub *ret);
/* Reads the will in a session's row. ret_will: owned; NULL when there is none. Returns 0 or
 * ERR_NOMEM.
 */
MUST_CHECK int row_get_will(struct row_reader *reader, struct will **ret_will);
/* As written in the row of a QoS 2 delivery, and in a cursor's. */
void row_open_flags(struct row_open *open, uint8_t flags);
/* Reads the next open entry of a cursor row after its next_seq; false at the end. */
bool row_open_next(struct row_reader *reader, struct row_open *ret);
