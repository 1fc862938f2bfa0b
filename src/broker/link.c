/* Links: connecting, taking over, and the end of a connection. */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define MEMORY_TEXT   "memory.limit is reached"
#define ASSIGNED_ROOM 40u

/* A connection whose answer waits for the log. */
struct opening {
    uint64_t number;
    uint32_t connection;
    struct connack connack;
    char assigned_id[ASSIGNED_ROOM];
};

static void link_refuse(struct link *link, uint8_t reason, const char *text)
{
    metric_add(&link->broker->deps.metrics->connects_refused, 1);
    const struct connack connack = {.reason = reason, .reason_string = text};
    link->ops->connack(link, &connack);
}

/* The session takes over the connection: answered, then fed. */
static void link_opened(struct session *session, const struct connack *connack)
{
    struct broker *broker = session->broker;
    struct link *link = session->link;
    session->opening = false;
    metric_add(&broker->deps.metrics->connects_accepted, 1);
    link->ops->connack(link, connack);
    rights_judge(session);
    list_each (it, &session->subs) {
        sub_attach(CONTAINER_OF(it, struct sub, session_node));
    }
    session->awaited = 0;
    list_each (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        inflight->unsent = true;
        inflight->counted = false;
    }
    inflight_resend_from(session, session->inflight.next);
    list_each (it, &session->shared) {
        group_member_online(CONTAINER_OF(it, struct sub, lag_node)->group, session);
    }
    if (link->version < 5 && broker->config.retry_interval_s > 0)
        timer_start(broker->deps.timers, &session->retry_timer,
                    (uint64_t)broker->config.retry_interval_s * 1000);
    session_pump(session);
}

/* Its row could not be written. A client that is refused has no session that it did not have. */
static void link_withdraw(struct session *session, const struct opening *opening)
{
    struct link *link = session->link;
    if (!opening->connack.session_present) {
        session->expiry_s = 0;
        session->has_row = true; /* perhaps that of the one before, whose removal failed with it */
    }
    session_offline(session, false);
    link_refuse(link, REASON_SERVER_UNAVAILABLE, "storage takes no writes at present");
}

/* While nothing can be written a session that was there goes on all the same, so that its messages
 * can be read; its row is written when that can be done. A will must be durable. */
static bool goes_on_unwritten(const struct session *session, const struct opening *opening)
{
    return opening->connack.session_present && session->row_written && !session->will;
}

static void opening_done(struct broker *broker, void *data, int err)
{
    struct opening *opening = data;
    struct session *session = session_by_number(broker, opening->number);
    if (session && session->link && session->connection == opening->connection) {
        ASSERT(session->opening);
        session->row_written |= session->has_row && err == 0;
        if (err < 0 && goes_on_unwritten(session, opening)) {
            lost_mark(broker, session);
            err = 0;
        }
        if (err == 0) {
            link_opened(session, &opening->connack);
        } else {
            link_withdraw(session, opening);
        }
    }
    mem_free(opening);
}

/* A session whose row is not there would take all its state with it: the client begins again. One
 * that had a row before goes on, and what has changed is written when that can be done. */
static void row_done(struct broker *broker, void *data, int err)
{
    struct opening *opening = data;
    struct session *session = session_by_number(broker, opening->number);
    if (session && err == 0)
        session->row_written = true;
    else if (session && session->row_written)
        lost_mark(broker, session);
    else if (session && session->connection == opening->connection)
        session_kick(session, REASON_QUOTA_EXCEEDED, "storage takes no writes at present");
    mem_free(opening);
}

static uint32_t granted_expiry(const struct broker *broker, const struct packet_connect *packet)
{
    const uint32_t expiry_max_s = broker->config.session_expiry_max_s;
    if (packet->version < 5)
        return packet->clean_start ? 0 : expiry_max_s;
    return MIN(packet->props.session_expiry_s, expiry_max_s);
}

/* Copies of what a CONNECT wants kept, made before anything is changed. */
struct wants {
    struct will *will;
    struct slice username;
};

static void wants_done(struct wants *wants)
{
    wants->will = will_free(wants->will);
    core_free(&wants->username);
}

/* Also makes room for the rows. Returns 0 or ERR_NOMEM. */
static int wants_copy(struct broker *broker, const struct link *link,
                      const struct packet_connect *packet, struct wants *ret_wants)
{
    struct wants wants = {.username = slice_of("", 0)};
    int err = will_new(packet, &wants.will);
    if (err == 0)
        err = core_copy(link->username, &wants.username);
    if (err == 0)
        err =
            txn_reserve(&broker->txn, TXN_ROW_ROOM + packet->client_id.size + link->username.size +
                                          packet->will_topic.size + packet->will_payload.size +
                                          packet->will_props.forward_size);
    if (err == 0)
        *ret_wants = wants;
    else
        wants_done(&wants);
    return err;
}

/* What the new connection says replaces what the session had. */
static void session_take_link(struct session *session, struct link *link,
                              const struct link_connect *req, struct wants *wants)
{
    struct broker *broker = session->broker;
    const struct packet_connect *packet = req->packet;
    timer_stop(broker->deps.timers, &session->expiry_timer);
    timer_stop(broker->deps.timers, &session->will_timer);
    session->link = link;
    link->session = session;
    session->opening = true;
    session->connection++;
    session->publish_pending = 0;
    session->expiry_s = granted_expiry(broker, packet);
    session->version = packet->version;
    session->clean_start = packet->clean_start;
    session->keep_alive_s = req->keep_alive_s;
    session->connected_ms = core_wall_ms(broker);
    session->disconnected_ms = 0;
    session->will = will_free(session->will); /* [MQTT5-3.1.3-9] */
    session->will = TAKE(wants->will);        /* [MQTT5-3.1.2-7] */
    session->access = access_unref(session->access);
    session->access = access_ref(link->access);
    core_free(&session->username);
    session->username = wants->username;
    wants->username = slice_of("", 0);
    metric_add(&broker->deps.metrics->sessions_online, 1);
    broker->online_count++;
}

/* A session that outlives its connection has rows for all its state from its first connection on;
 * one that will end with its connection keeps those it has until then. */
static void session_make_durable(struct session *session)
{
    if (session->expiry_s > 0 && !session->durable) {
        ASSERT(session->sub_count == 0 || session->p2p);
        session->durable = true;
        session->direct.durable = true;
    }
}

/* Ends what the client ID had, if it must. Returns the session to go on with, or NULL.
 * Spec: [MQTT3-3.1.2-4] [MQTT3-3.1.3-2] [MQTT3-3.1.4-3] [MQTT5-3.1.2-5] [MQTT5-3.1.2-6]
 * [MQTT5-3.1.3-2] [MQTT5-3.1.4-4] */
static struct session *link_resume(struct broker *broker, const struct packet_connect *packet,
                                   bool *ret_discarded)
{
    struct session *session = session_find(broker, packet->client_id);
    if (session && session->link) {
        /* [MQTT3-3.1.4-2] [MQTT5-3.1.4-3] */
        const uint64_t number = session->number;
        metric_add(&broker->deps.metrics->sessions_taken_over, 1);
        session_kick(session, REASON_SESSION_TAKEN_OVER, NULL);
        session = session_by_number(broker, number);
    }
    /* One without expiry is only kept for its will, after a restart. */
    if (!session || (!packet->clean_start && session->expiry_s > 0))
        return session;
    /* [MQTT3-3.1.2-6] [MQTT5-3.1.2-4] */
    *ret_discarded = session->has_row;
    session_discard(session);
    return NULL;
}

/* 96 random bits: no other session has it. Spec: [MQTT5-3.2.2-16] */
static const char *assign_id(char *room, size_t size)
{
    uint8_t random[12];
    const ssize_t got = getrandom(random, sizeof random, 0);
    ASSERT(got == (ssize_t)sizeof random);
    size_t used = (size_t)snprintf(room, size, "auto-");
    for (size_t i = 0; i < sizeof random; i++)
        used += (size_t)snprintf(room + used, size - used, "%02x", random[i]);
    return room;
}

/* Why the connection is refused before a session is looked at, or 0.
 * Spec: [MQTT3-3.1.3-9] [MQTT5-3.1.3-8] */
static uint8_t link_check(const struct broker *broker, const struct link_connect *req,
                          const char **ret_text)
{
    const struct packet_connect *packet = req->packet;
    const struct session *session = session_find(broker, packet->client_id);
    if (broker->draining) {
        *ret_text = "the server is shutting down";
        return REASON_SERVER_UNAVAILABLE;
    }
    if (packet->client_id.size == 0 && packet->version < 5 && !packet->clean_start) {
        *ret_text = "an empty client identifier needs a clean session"; /* [MQTT3-3.1.3-8] */
        return REASON_CLIENT_ID_INVALID;
    }
    if (session && session->link && broker->config.duplicate_client_id == DUPLICATE_REJECT) {
        *ret_text = "a client with this identifier is connected";
        return REASON_CLIENT_ID_INVALID;
    }
    if (!session && broker->session_count >= broker->config.sessions_max) {
        *ret_text = "the server holds as many sessions as it may (sessions.max)";
        return REASON_QUOTA_EXCEEDED;
    }
    if ((!session || packet->has_will) && core_is_full(broker)) {
        *ret_text = MEMORY_TEXT;
        return REASON_QUOTA_EXCEEDED;
    }
    const bool takes_over = session && session->link;
    if (broker->config.clients_max > 0 && !takes_over &&
        broker->online_count >= broker->config.clients_max) {
        metric_add(&broker->deps.metrics->limit_clients, 1);
        *ret_text = "as many clients are online as may be (limits.clients)";
        return REASON_QUOTA_EXCEEDED;
    }
    return 0;
}

/* What the rulebook says. packet: with the client ID that counts. */
static uint8_t link_rights(const struct broker *broker, struct link *link,
                           const struct packet_connect *packet, const char **ret_text)
{
    if (!link->access)
        return 0;
    const struct slice known = access_facts(link->access).values[FACT_CLIENT_ID];
    if (!slice_equal(known, packet->client_id) &&
        access_set_client_id(link->access, packet->client_id) < 0) {
        *ret_text = MEMORY_TEXT;
        return REASON_QUOTA_EXCEEDED;
    }
    return rights_connect(broker, link->access, packet, ret_text);
}

/* Answers now, or when what must be durable is: a discarded session, a will, that a session which
 * was away is not any more. broker->txn may hold the deletion of the old session. */
static void link_answer(struct session *session, struct opening *opening, bool must_wait)
{
    struct broker *broker = session->broker;
    const bool wants_row = session->durable || session->has_row || session->will;
    opening->number = session->number;
    opening->connection = session->connection;
    int err = 0;
    if (wants_row || broker->txn.count > 0) {
        if (wants_row) {
            row_put_session(&broker->txn, session);
            session->has_row = true;
        }
        if (must_wait || session->will) {
            err = core_write(broker, STORE_SYNC, opening_done, opening);
            if (err == 0)
                return;
        } else {
            err = core_write(broker, STORE_LAZY, row_done, opening);
            if (err == 0) {
                link_opened(session, &opening->connack);
                return;
            }
        }
    }
    if (err < 0 && goes_on_unwritten(session, opening)) {
        lost_mark(broker, session);
        err = 0;
    }
    if (err < 0) {
        link_withdraw(session, opening);
    } else {
        link_opened(session, &opening->connack);
    }
    mem_free(opening);
}

/* The session to go on with: the one there is, or a new one. NULL: none can be made, see
 * *ret_reason.
 */
static struct session *link_session(struct broker *broker, const struct packet_connect *packet,
                                    bool *ret_discarded, bool *ret_present, uint8_t *ret_reason)
{
    struct session *session = link_resume(broker, packet, ret_discarded);
    *ret_present = session != NULL;
    if (session)
        return session;
    /* The one before has ended, but a crash could bring it back with its will: CONNACK waits. */
    if (!*ret_discarded && session_lingers(broker, packet->client_id)) {
        row_delete_session(&broker->txn, packet->client_id);
        *ret_discarded = true;
    }
    uint64_t number = core_new_number(broker);
    if (number == 0 && granted_expiry(broker, packet) == 0 && !packet->has_will)
        number = core_passing_number(broker); /* it will have no rows */
    if (number > 0)
        session = session_new(broker, packet->client_id, number);
    *ret_reason = number > 0 ? REASON_QUOTA_EXCEEDED : REASON_SERVER_UNAVAILABLE;
    return session;
}

void link_connect(struct broker *broker, struct link *link, const struct link_connect *req)
{
    struct packet_connect packet = *req->packet;
    link->broker = broker;
    const char *text = NULL;
    struct wants wants = {.will = NULL};
    char assigned_id[ASSIGNED_ROOM];
    uint8_t reason = link_check(broker, req, &text);
    if (reason == 0 && packet.client_id.size == 0) {
        /* [MQTT3-3.1.3-6] [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] */
        packet.client_id = slice_str(assign_id(assigned_id, sizeof assigned_id));
    }
    if (reason == 0)
        reason = link_rights(broker, link, &packet, &text);
    if (reason == 0)
        reason = throttle_connect(broker, packet.has_will, &text);
    if (reason == 0 && wants_copy(broker, link, &packet, &wants) < 0) {
        reason = REASON_QUOTA_EXCEEDED;
        text = MEMORY_TEXT;
    }
    if (reason) {
        link_refuse(link, reason, text);
        return;
    }
    struct opening *opening = mem_new(sizeof *opening);
    if (req->packet->client_id.size == 0) {
        memcpy(opening->assigned_id, assigned_id, sizeof assigned_id);
        packet.client_id = slice_str(opening->assigned_id);
        opening->connack.assigned_id = packet.client_id;
    }
    bool discarded = false, present = false;
    if (!list_empty(&broker->wills_due))
        wills_retry(broker); /* a row without the will comes behind it */
    struct session *session = link_session(broker, &packet, &discarded, &present, &reason);
    if (!session) {
        wants_done(&wants);
        core_write_lazy(broker); /* the old session is gone all the same */
        mem_free(opening);
        link_refuse(link, reason,
                    reason == REASON_QUOTA_EXCEEDED ? MEMORY_TEXT
                                                    : "storage takes no writes at present");
        return;
    }
    const struct link_connect taken = {.packet = &packet, .keep_alive_s = req->keep_alive_s};
    session_take_link(session, link, &taken, &wants);
    session_make_durable(session);
    /* [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3] [MQTT5-3.2.2-2] [MQTT5-3.2.2-3] */
    opening->connack.session_present = present;
    opening->connack.session_expiry_s = session->expiry_s;
    opening->connack.keep_alive_s = req->keep_alive_s;
    opening->connack.receive_max = broker->config.receive_max;
    link_answer(session, opening, discarded || present);
}

uint8_t link_disconnect(struct link *link, uint8_t reason, bool has_expiry, uint32_t expiry_s)
{
    struct session *session = link->session;
    if (!session)
        return 0;
    if (has_expiry && session->expiry_s == 0 && expiry_s > 0) {
        link_lost(link, REASON_PROTOCOL_ERROR);
        return REASON_PROTOCOL_ERROR; /* [MQTT5-4.13.1-1] */
    }
    if (has_expiry)
        session->expiry_s = MIN(expiry_s, session->broker->config.session_expiry_max_s);
    /* [MQTT3-3.14.4-3] [MQTT5-3.14.4-3]: only a normal disconnection takes the will back. */
    session_offline(session, reason != REASON_SUCCESS);
    return 0;
}

void link_lost(struct link *link, uint8_t reason)
{
    (void)reason;
    if (link->session)
        session_offline(link->session, true);
}

void link_writable(struct link *link)
{
    struct session *session = link->session;
    if (!session)
        return;
    session->blocked = false;
    session_pump(session);
}
