/* Will messages. They are part of the session's row, so they outlive a crash of the server. */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#define WILL_RETRY_MS 1000u

int will_fill(struct will *will, struct slice topic, struct slice payload, struct slice props)
{
    int err = core_copy(topic, &will->topic);
    if (err == 0)
        err = core_copy(payload, &will->payload);
    if (err == 0)
        err = core_copy(props, &will->props);
    return err;
}

/* The properties that go with the message, copied together. */
static int copy_texts(struct will *will, const struct packet_connect *packet)
{
    const struct props *props = &packet->will_props;
    struct slice forward = slice_of("", 0);
    uint8_t *room = NULL;
    if (props->forward_size > 0) {
        room = mem_try_alloc(props->forward_size);
        if (!room)
            return ERR_NOMEM;
        const int err = props_forward(props, room, props->forward_size, &forward);
        ASSERT(err == 0);
    }
    const int err = will_fill(will, packet->will_topic, packet->will_payload, forward);
    mem_free(room);
    return err;
}

int will_new(const struct packet_connect *packet, struct will **ret_will)
{
    *ret_will = NULL;
    if (!packet->has_will)
        return 0; /* [MQTT3-3.1.2-12] */
    struct will *will = mem_new(sizeof *will);
    const int err = copy_texts(will, packet);
    if (err < 0) {
        (void)will_free(will);
        return err;
    }
    const struct props *props = &packet->will_props;
    will->qos = packet->will_qos;
    will->retain = packet->will_retain;
    will->delay_s = props->will_delay_s;
    will->expiry_s =
        PROPS_HAS(props, PROP_MESSAGE_EXPIRY) ? props->message_expiry_s : MESSAGE_NO_EXPIRY;
    *ret_will = will;
    return 0;
}

struct will *will_free(struct will *will)
{
    if (!will)
        return NULL;
    core_free(&will->topic);
    core_free(&will->payload);
    core_free(&will->props);
    mem_free(will);
    return NULL;
}

/* Spec: [MQTT3-3.1.2-8] [MQTT3-3.1.2-10] [MQTT3-3.1.2-16] [MQTT3-3.1.2-17] [MQTT5-3.1.2-8]
 * [MQTT5-3.1.2-10] [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] */
void will_publish(struct session *session, bool ending)
{
    struct broker *broker = session->broker;
    struct will *will = TAKE(session->will);
    ASSERT(will);
    timer_stop(broker->deps.timers, &session->will_timer);
    const struct publish_request request = {
        .topic = will->topic,
        .payload = will->payload,
        .props = will->props,
        .client_id = session->client_id,
        .publisher = session->number,
        .expiry_s = will->expiry_s,
        .qos = will->qos,
        .retain = will->retain,
    };
    /* The row without the will goes in the same record: published once, whatever happens. */
    if (session->has_row)
        row_put_session(&broker->txn, session);
    const int err = publish_submit(broker, &request);
    if ((err == ERR_UNAVAILABLE || err == ERR_AGAIN) && !ending) {
        session->will = will;
        timer_start(broker->deps.timers, &session->will_timer, WILL_RETRY_MS);
        return;
    }
    if (err == 0)
        metric_add(&broker->deps.metrics->wills_published, 1);
    else
        log_write(broker->deps.log, LOG_WARN, "will",
                  "the will of client '%.*s' was not published: %s", (int)session->client_id.size,
                  (const char *)session->client_id.bytes, err_text(err));
    if (err < 0 && session->has_row && !ending)
        session_write(session, STORE_LAZY); /* or it would be tried again after a restart */
    (void)will_free(will);
}

void will_due(struct session *session, uint64_t delay_min_ms)
{
    const uint64_t delay_ms = (uint64_t)session->will->delay_s * 1000;
    const uint64_t wait_ms = MAX(delay_ms, delay_min_ms);
    if (wait_ms == 0)
        will_publish(session, false);
    else
        timer_start(session->broker->deps.timers, &session->will_timer, wait_ms);
}
