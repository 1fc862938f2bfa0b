/* CONNECT: limits and capabilities of both sides, then the authenticator, then the core.
 *
 * An answer of the authenticator may come later; until then the packet's body is kept as a copy and
 * decoded again, so that no field of it needs a life of its own.
 */
#include "proxy/proxy_priv.h"

#include "base/mem.h"
#include "proxy/client.h"

/* Takes what the packet says about the connection itself. */
static void take_options(struct conn *conn, const struct packet_connect *packet)
{
    const struct proxy_config *config = &conn->proxy->config;
    const struct props *props = &packet->props;
    const bool v5 = packet->version >= MQTT_V5;
    conn->link.receive_max = UINT16_MAX; /* MQTT 5.0, section 3.1.2.11.3 */
    conn->problem_info = true;
    conn->keep_alive_asked_s = packet->keep_alive_s;
    conn->keep_alive_s = packet->keep_alive_s;
    const uint16_t most = config->keep_alive_max_s;
    if (most > 0 && (packet->keep_alive_s == 0 || packet->keep_alive_s > most))
        conn->keep_alive_s =
            most; /* v5 clients are told: [MQTT5-3.2.2-21]; else [MQTT5-3.2.2-22] */
    if (!v5)
        return;
    if (PROPS_HAS(props, PROP_RECEIVE_MAX))
        conn->link.receive_max = (uint16_t)props->receive_max;
    if (PROPS_HAS(props, PROP_MAX_PACKET))
        conn->packet_max = props->max_packet_size;
    if (PROPS_HAS(props, PROP_REQUEST_PROBLEM))
        conn->problem_info = props->request_problem != 0;
    conn->session_expiry_asked_s = props->session_expiry_s;
    conn->alias_in.max = config->topic_alias_max;
    conn->alias_out.max = (uint16_t)MIN(props->topic_alias_max, config->topic_alias_out_max);
}

/* Copies what a client sent, charged to the budget; bytes == NULL: there is no memory for it. */
static struct slice copy_of(struct conn *conn, struct slice slice)
{
    struct budget *budget = &conn->proxy->budget;
    if (!budget_take(budget, BUDGET_SMALL, slice.size))
        return slice_of(NULL, 0);
    uint8_t *copy = (uint8_t *)mem_try_copy(slice.bytes, slice.size);
    if (!copy)
        budget_give(budget, slice.size);
    return slice_of(copy, copy ? slice.size : 0);
}

static void copy_free(struct conn *conn, struct slice *copy)
{
    budget_give(&conn->proxy->budget, copy->size);
    mem_free((void *)copy->bytes);
    *copy = slice_of(NULL, 0);
}

void on_connect_done(struct conn *conn)
{
    copy_free(conn, &conn->connect_body);
    copy_free(conn, &conn->link.username);
    conn->identity = identity_free(conn->identity);
    conn->link.access = access_unref(conn->link.access);
}

/* Who the client is does not count any more. */
static void on_identity_end(void *data, enum identity_end why)
{
    struct conn *conn = data;
    const bool expired = why == IDENTITY_EXPIRED;
    const char *detail =
        expired ? "its credentials have expired" : "its credentials are not valid any more";
    log_write(conn->proxy->deps.log, LOG_INFO, "conn", "closed the connection from %s: %s",
              conn->link.address, detail);
    conn_fail(conn, expired ? REASON_MAXIMUM_CONNECT_TIME : REASON_NOT_AUTHORIZED, detail);
}

/* Keeps what the authenticator said. Returns 0 or ERR_NOMEM. */
static int take_identity(struct conn *conn, const struct auth_answer *answer)
{
    if (answer->username.size > 0) {
        conn->link.username = copy_of(conn, answer->username);
        if (!conn->link.username.bytes)
            return ERR_NOMEM;
    }
    if (!answer->authenticator)
        return 0;
    return identity_new(conn->proxy->deps.auth, answer, on_identity_end, conn, &conn->identity);
}

static void enter_core(struct conn *conn, const struct packet_connect *packet,
                       const struct auth_answer *answer)
{
    if (take_identity(conn, answer) < 0) {
        send_refusal(conn, REASON_SERVER_BUSY, NULL);
        return;
    }
    const int err = client_rights(conn, packet);
    if (err < 0) {
        send_refusal(conn, err == ERR_NOMEM ? REASON_SERVER_BUSY : REASON_NOT_AUTHORIZED, NULL);
        return;
    }
    conn->state = CONN_CONNECTING;
    conn->linked = true;
    const struct link_connect req = {.packet = packet, .keep_alive_s = conn->keep_alive_s};
    link_connect(conn->proxy->deps.broker, &conn->link, &req);
}

static void refuse(struct conn *conn, enum auth_result result)
{
    ASSERT(result > AUTH_IGNORED);
    switch (result) {
    case AUTH_BAD_CREDENTIALS: /* [MQTT5-3.1.4-2] [MQTT5-4.12.0-4] */
        send_refusal(conn, REASON_BAD_CREDENTIALS, NULL);
        return;
    case AUTH_BUSY:
        send_refusal(conn, REASON_SERVER_BUSY, "too many connections are being checked");
        return;
    case AUTH_NOT_AUTHORIZED:
        send_refusal(conn, REASON_NOT_AUTHORIZED, "a user name and a password are needed");
        return;
    case AUTH_PENDING:
    case AUTH_ALLOWED:
    case AUTH_IGNORED:
        return;
    }
}

static void on_authenticated(void *data, const struct auth_answer *answer)
{
    struct conn *conn = data;
    ASSERT(conn->state == CONN_AUTH);
    conn->auth_call = NULL;
    if (answer->result != AUTH_ALLOWED) {
        refuse(conn, answer->result);
        return;
    }
    struct packet_connect packet;
    uint8_t reason = 0;
    const int err = dec_connect(conn->connect_body, &packet, &reason);
    ASSERT(err == 0); /* it was valid before */
    enter_core(conn, &packet, answer);
    copy_free(conn, &conn->connect_body);
}

static void authenticate(struct conn *conn, const struct packet_connect *packet, struct slice body)
{
    const struct auth_credentials credentials = {
        .client_id = packet->client_id,
        .username = packet->username,
        .password = packet->password,
        .has_username = packet->has_username,
        .has_password = packet->has_password,
        .address = conn->link.address,
        .peer = stream_peer(conn->stream),
        .props = packet->version >= MQTT_V5 ? &packet->props : NULL,
    };
    struct auth_answer answer;
    const enum auth_result result = auth_connect(conn->proxy->deps.auth, &credentials,
                                                 on_authenticated, conn, &answer, &conn->auth_call);
    if (result == AUTH_ALLOWED) {
        enter_core(conn, packet, &answer);
    } else if (result != AUTH_PENDING) {
        refuse(conn, result);
    } else {
        conn->state = CONN_AUTH;
        conn->connect_body = copy_of(conn, body);
        if (conn->connect_body.bytes)
            return;
        auth_cancel(TAKE(conn->auth_call));
        refuse(conn, AUTH_BUSY);
    }
}

void on_connect(struct conn *conn, struct slice body)
{
    if (conn->state != CONN_NEW) { /* [MQTT3-3.1.0-2] [MQTT5-3.1.0-2] */
        conn_fail(conn, REASON_PROTOCOL_ERROR, "a second CONNECT");
        return;
    }
    timer_stop(conn->proxy->timers, &conn->timer);
    list_remove(&conn->held_node); /* no longer a newcomer */
    struct packet_connect packet;
    uint8_t reason = 0;
    const int err = dec_connect(body, &packet, &reason);
    conn->link.version = packet.version;
    if (err < 0 && packet.version == 0) { /* not MQTT at all: [MQTT3-3.1.2-1] [MQTT5-3.1.2-1] */
        conn_fail(conn, reason, "not an MQTT client");
        return;
    }
    if (err < 0) { /* [MQTT3-3.1.2-2] [MQTT5-3.1.2-2] [MQTT5-3.1.4-1] */
        metric_add(&conn->proxy->deps.metrics->protocol_errors, 1);
        conn->problem_info = true;
        send_refusal(conn, reason, NULL);
        return;
    }
    take_options(conn, &packet);
    bool looked = false;
    if (conn_is_revoked(conn, &looked)) {
        send_refusal(conn, REASON_NOT_AUTHORIZED, "the certificate has been revoked");
        return;
    }
    if (PROPS_HAS(&packet.props, PROP_AUTH_METHOD)) { /* [MQTT5-4.12.0-1] */
        send_refusal(conn, REASON_BAD_AUTH_METHOD, "no authentication methods are supported");
        return;
    }
    if (client_is_blocked(conn, &packet)) {
        send_refusal(conn, REASON_BANNED, "this client is blocked");
        return;
    }
    authenticate(conn, &packet, body);
}
