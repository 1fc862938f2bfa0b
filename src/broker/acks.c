/* Acknowledgements from clients, and the second half of QoS 2 in both directions. */
#include "broker/publish.h"

#include "base/mem.h"
#include "broker/rows.h"

/* A client's packet ID whose release is on its way to the log. */
struct release {
    uint64_t number;
    uint32_t connection; /* that sent PUBREL and gets PUBCOMP */
    uint16_t packet_id;
};

static void *release_mark(struct release *release)
{
    return (void *)((uintptr_t)release | INBOUND_RELEASING);
}

/* Whatever the reason: a refused message is not sent again either.
 * Spec: [MQTT3-4.3.2-1] [MQTT5-4.3.2-3] [MQTT5-4.4.0-2] */
static void on_puback(struct session *session, uint16_t packet_id)
{
    struct inflight *inflight = outbound_find(&session->outbound, packet_id);
    if (!inflight || inflight->qos != 1 || inflight->state != INFLIGHT_SENT)
        return;
    inflight_end(inflight);
    session_pump(session);
}

/* Spec: [MQTT3-4.3.3-1] [MQTT5-4.3.3-3] [MQTT5-4.3.3-4] [MQTT5-4.3.3-5] */
static void on_pubrec(struct session *session, uint16_t packet_id, uint8_t reason)
{
    struct link *link = session->link;
    struct inflight *inflight = outbound_find(&session->outbound, packet_id);
    if (!inflight || inflight->qos != 2) {
        if (reason < 0x80)
            link->ops->ack(link, PACKET_PUBREL, packet_id, REASON_PACKET_ID_NOT_FOUND, NULL);
        return;
    }
    if (inflight->state == INFLIGHT_RELEASED) {
        link->ops->ack(link, PACKET_PUBREL, packet_id, REASON_SUCCESS, NULL);
        return;
    }
    if (inflight->state != INFLIGHT_SENT)
        return;
    if (reason >= 0x80) { /* [MQTT5-4.4.0-2] */
        inflight_end(inflight);
        session_pump(session);
        return;
    }
    inflight_release(inflight);
}

static void on_pubcomp(struct session *session, uint16_t packet_id)
{
    struct inflight *inflight = outbound_find(&session->outbound, packet_id);
    if (!inflight || inflight->state != INFLIGHT_RELEASED)
        return;
    inflight_end(inflight);
    session_pump(session);
}

static void release_done(struct broker *broker, void *data, int err)
{
    const struct release release = *(struct release *)data;
    struct session *session = session_by_number(broker, release.number);
    const bool held =
        session && pidmap_find(&session->inbound, release.packet_id) == release_mark(data);
    mem_free(data);
    if (!held)
        return;
    if (err < 0) {
        pidmap_set(&session->inbound, release.packet_id, INBOUND_RECEIVED);
        session_kick(session, REASON_QUOTA_EXCEEDED, "storage takes no writes");
        return;
    }
    pidmap_remove(&session->inbound, release.packet_id);
    publish_answered(session);
    /* A connection that has not sent PUBREL itself will, and is answered then: two PUBCOMPs for one
     * PUBREL could end a later message with the same identifier. */
    if (session->link && session->connection == release.connection)
        session->link->ops->ack(session->link, PACKET_PUBCOMP, release.packet_id, REASON_SUCCESS,
                                NULL);
}

/* The identifier may be used again once PUBCOMP has left, so its release must be durable before.
 * Spec: [MQTT3-4.3.3-2] [MQTT5-4.3.3-11] [MQTT5-4.3.3-12] */
static void on_pubrel(struct session *session, uint16_t packet_id)
{
    struct link *link = session->link;
    void *held = pidmap_find(&session->inbound, packet_id);
    if (!held) {
        link->ops->ack(link, PACKET_PUBCOMP, packet_id, REASON_PACKET_ID_NOT_FOUND, NULL);
        return;
    }
    if (held != INBOUND_RECEIVED)
        return;
#ifdef MUTATION_KILL_RELEASE_UNWRITTEN
    if (true) {
#else
    if (!session->durable) {
#endif
        pidmap_remove(&session->inbound, packet_id);
        publish_answered(session);
        link->ops->ack(link, PACKET_PUBCOMP, packet_id, REASON_SUCCESS, NULL);
        return;
    }
    struct broker *broker = session->broker;
    row_delete_inbound(&broker->txn, session->number, packet_id);
    struct release *release = mem_new(sizeof *release);
    *release = (struct release){
        .number = session->number, .connection = session->connection, .packet_id = packet_id};
#ifdef MUTATION_PUBCOMP_BEFORE_SYNC
    pidmap_set(&session->inbound, packet_id, release_mark(release));
    release_done(broker, release, 0);
    core_write_lazy(broker);
#else
    if (core_write(broker, STORE_SYNC, release_done, release) < 0) {
        mem_free(release);
        session_kick(session, REASON_QUOTA_EXCEEDED, "storage takes no writes");
        return;
    }
    pidmap_set(&session->inbound, packet_id, release_mark(release));
#endif
}

void link_ack(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason)
{
    struct session *session = link->session;
    if (!session || session->opening)
        return;
    if (packet_type == PACKET_PUBACK)
        on_puback(session, packet_id);
    else if (packet_type == PACKET_PUBREC)
        on_pubrec(session, packet_id, reason);
    else if (packet_type == PACKET_PUBREL)
        on_pubrel(session, packet_id);
    else
        on_pubcomp(session, packet_id);
}
