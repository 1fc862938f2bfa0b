/* The life of a connection; its states are in quic_priv.h.
 *
 * Nothing is sent from inside a callback of ngtcp2, and the user is never called from there: both
 * are deferred. Packets are written at the end of the iteration, behind the conns that fill the
 * stream, so that what belongs together travels together.
 */
#include "net/quic_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
    FLUSH_PACKETS = 64, /* in one go, then others get their turn */
    PIECES = 4,         /* of the stream in one packet */
    TICKET_MS = 1100,   /* from the end of the handshake to the second ticket */
    FINISH_MS = 1000,   /* for the last bytes to be acknowledged */
    CLOSING_PTOS = 3,
    CONN_IDS = 4,
};

ngtcp2_tstamp quic_conn_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (ngtcp2_tstamp)now.tv_sec * NGTCP2_SECONDS + (ngtcp2_tstamp)now.tv_nsec;
}

static struct timer_set *timers_of(const struct quic_conn *conn)
{
    return loop_timers(conn->endpoint->quic->config.loop);
}

static uint64_t to_ms(ngtcp2_duration duration)
{
    return (duration + NGTCP2_MILLISECONDS - 1) / NGTCP2_MILLISECONDS;
}

static ngtcp2_path path_of(struct quic_path *path)
{
    return (ngtcp2_path){
        .local = {&path->local.any, quic_address_size(&path->local)},
        .remote = {&path->remote.any, quic_address_size(&path->remote)},
        .user_data = path->socket,
    };
}

struct quic_path quic_path_from(const ngtcp2_path *path)
{
    struct quic_path own = {.socket = path->user_data};
    memcpy(&own.local, path->local.addr, path->local.addrlen);
    memcpy(&own.remote, path->remote.addr, path->remote.addrlen);
    return own;
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void leave_handshake(struct quic_conn *conn)
{
    if (conn->state == QUIC_HANDSHAKE)
        conn->endpoint->handshake_count--;
}

/* Gives up what is of no use without a connection, for good after `delay_ms`. end: what reading
 * says from now on behind the last byte. */
static void enter_closing(struct quic_conn *conn, int end, uint64_t delay_ms)
{
    leave_handshake(conn);
    conn->state = QUIC_CLOSING;
    conn->end = end;
    conn->input_ended = true;
    deferred_cancel(&conn->flush);
    list_remove(&conn->waiting);
    timer_stop(timers_of(conn), &conn->patience);
    quic_handshake_close(conn);
    ngtcp2_conn_del(conn->ngtcp2);
    conn->ngtcp2 = NULL;
    quic_fifo_clear(&conn->out);
    timer_start(timers_of(conn), &conn->timer, delay_ms);
    quic_stream_report(conn);
}

static void forget_ids(struct quic_conn *conn)
{
    list_each_safe (it, &conn->cids) {
        const ngtcp2_cid id = CONTAINER_OF(it, struct quic_cid, of)->id;
        quic_endpoint_disclaim(conn->endpoint, conn, &id);
    }
}

static void destroy(struct quic_conn *conn)
{
    struct quic_endpoint *endpoint = conn->endpoint;
    timer_stop(timers_of(conn), &conn->timer);
    deferred_cancel(&conn->report);
    forget_ids(conn);
    quic_fifo_clear(&conn->in);
    mem_free(conn->farewell);
    (void)peer_unref(conn->peer);
    quic_endpoint_leave(endpoint, conn);
    mem_free(conn);
}

static uint64_t closing_ms(const struct quic_conn *conn)
{
    return to_ms(CLOSING_PTOS * ngtcp2_conn_get_pto(conn->ngtcp2));
}

void quic_conn_close(struct quic_conn *conn, const ngtcp2_connection_close_error *error)
{
    uint8_t bytes[QUIC_PACKET_MAX];
    ngtcp2_path_storage to;
    ngtcp2_pkt_info info;
    ngtcp2_path_storage_zero(&to);
    const ngtcp2_ssize size = ngtcp2_conn_write_connection_close(
        conn->ngtcp2, &to.path, &info, bytes, sizeof bytes, error, quic_conn_now());
    if (size > 0) {
        const struct quic_path path = quic_path_from(&to.path);
        quic_socket_send(&path, bytes, (size_t)size);
        conn->farewell = (uint8_t *)mem_try_copy(bytes, (size_t)size);
        conn->farewell_size = conn->farewell ? (uint32_t)size : 0;
    }
    enter_closing(conn, -ECONNRESET, closing_ms(conn));
}

static void close_by_code(struct quic_conn *conn, int code)
{
    ngtcp2_connection_close_error error;
    ngtcp2_connection_close_error_default(&error);
    if (code == NGTCP2_ERR_CRYPTO)
        ngtcp2_connection_close_error_set_transport_error_tls_alert(
            &error, ngtcp2_conn_get_tls_alert(conn->ngtcp2), NULL, 0);
    else
        ngtcp2_connection_close_error_set_transport_error_liberr(&error, code, NULL, 0);
    quic_conn_close(conn, &error);
}

static void close_by_user(struct quic_conn *conn, uint64_t code)
{
    ngtcp2_connection_close_error error;
    ngtcp2_connection_close_error_default(&error);
    ngtcp2_connection_close_error_set_application_error(&error, code, NULL, 0);
    quic_conn_close(conn, &error);
}

/* The client has closed. Without an error of its own it is an orderly end. */
static void drain(struct quic_conn *conn)
{
    ngtcp2_connection_close_error error;
    ngtcp2_conn_get_connection_close_error(conn->ngtcp2, &error);
    if (conn->state == QUIC_HANDSHAKE)
        quic_handshake_note_failure(conn, "it closed the connection during the handshake");
    enter_closing(conn, error.error_code == NGTCP2_NO_ERROR ? 0 : -ECONNRESET, closing_ms(conn));
}

/* What ngtcp2 says when a connection cannot go on. */
static void fail(struct quic_conn *conn, int code)
{
    const bool is_silent = code == NGTCP2_ERR_IDLE_CLOSE || code == NGTCP2_ERR_DROP_CONN ||
                           code == NGTCP2_ERR_RETRY || code == NGTCP2_ERR_HANDSHAKE_TIMEOUT;
    if (code == NGTCP2_ERR_DRAINING) {
        drain(conn);
        return;
    }
    conn->wants_retry = code == NGTCP2_ERR_RETRY;
    if (code == NGTCP2_ERR_CALLBACK_FAILURE && ngtcp2_conn_get_tls_alert(conn->ngtcp2) != 0)
        code = NGTCP2_ERR_CRYPTO;
    if (conn->state == QUIC_HANDSHAKE && !conn->wants_retry)
        quic_handshake_note_failure(conn, code == NGTCP2_ERR_CRYPTO ? NULL : ngtcp2_strerror(code));
    if (is_silent)
        enter_closing(conn, code == NGTCP2_ERR_IDLE_CLOSE ? -ETIMEDOUT : -ECONNRESET, 0);
    else
        close_by_code(conn, code);
}

/* --- timers ------------------------------------------------------------------------------------
 */

static void restart_timer(struct quic_conn *conn)
{
    const ngtcp2_tstamp now = quic_conn_now();
    const ngtcp2_tstamp due = MIN(ngtcp2_conn_get_expiry(conn->ngtcp2), quic_proof_due(conn, now));
    if (due == UINT64_MAX)
        timer_stop(timers_of(conn), &conn->timer);
    else
        timer_start(timers_of(conn), &conn->timer, due > now ? to_ms(due - now) : 0);
}

static void on_timer(struct timer *timer)
{
    struct quic_conn *conn = CONTAINER_OF(timer, struct quic_conn, timer);
    if (conn->state == QUIC_CLOSING) {
        conn->state = QUIC_GONE;
        if (conn->held)
            forget_ids(conn);
        else
            destroy(conn);
        return;
    }
    const int code = ngtcp2_conn_handle_expiry(conn->ngtcp2, quic_conn_now());
    if (code != 0)
        fail(conn, code);
    else
        quic_conn_schedule(conn);
}

static void on_patience(struct timer *timer)
{
    struct quic_conn *conn = CONTAINER_OF(timer, struct quic_conn, patience);
    if (conn->state == QUIC_FINISHING)
        close_by_user(conn, conn->fail_code);
    else if (quic_handshake_send_ticket(conn) == 0)
        quic_conn_schedule(conn);
}

/* --- sending -----------------------------------------------------------------------------------
 */

void quic_conn_schedule(struct quic_conn *conn)
{
    if (conn->ngtcp2)
        loop_defer(conn->endpoint->quic->config.loop, &conn->flush);
}

static bool is_stream_writable(const struct quic_conn *conn)
{
    return conn->stream_id >= 0 && !conn->output_ended && !conn->fin_sent;
}

/* Writes the next packet, with as much of the stream as goes into it and `room` bytes at most.
 * Returns its size, 0: there is nothing to be sent now; or a code of ngtcp2. */
static ngtcp2_ssize write_packet(struct quic_conn *conn, uint8_t *bytes, size_t room,
                                 ngtcp2_path_storage *to, ngtcp2_tstamp now)
{
    ngtcp2_vec pieces[PIECES];
    struct iovec iov[PIECES];
    ngtcp2_pkt_info info;
    ngtcp2_ssize taken = -1;
    size_t offered = 0;
    const bool writes = is_stream_writable(conn);
    const int count = writes ? quic_fifo_look(&conn->out, conn->sent, iov, PIECES) : 0;
    for (int i = 0; i < count; i++) {
        pieces[i] = (ngtcp2_vec){iov[i].iov_base, iov[i].iov_len};
        offered += iov[i].iov_len;
    }
    const bool fin = writes && conn->fin_due && conn->sent + offered == conn->out.end;
    const bool uses_stream = count > 0 || fin;
    ngtcp2_path_storage_zero(to);
    ngtcp2_ssize size = ngtcp2_conn_writev_stream(
        conn->ngtcp2, &to->path, &info, bytes, room, &taken,
        fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : NGTCP2_WRITE_STREAM_FLAG_NONE,
        uses_stream ? conn->stream_id : -1, pieces, (size_t)count, now);
    if (size == NGTCP2_ERR_STREAM_SHUT_WR || size == NGTCP2_ERR_STREAM_NOT_FOUND) {
        conn->output_ended = true;
        quic_stream_report(conn);
    }
    if (size == NGTCP2_ERR_STREAM_DATA_BLOCKED || conn->output_ended)
        size = ngtcp2_conn_writev_stream(conn->ngtcp2, &to->path, &info, bytes, room, NULL,
                                         NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0, now);
    else if (taken >= 0) {
        conn->sent += (uint64_t)taken;
        conn->fin_sent = fin && (size_t)taken == offered;
    }
    return size;
}

/* Returns 0, or a code of ngtcp2 that ends the connection. */
static int write_packets(struct quic_conn *conn)
{
    struct quic_endpoint *endpoint = conn->endpoint;
    const ngtcp2_tstamp now = quic_conn_now();
    int blocked = 0, count = 0;
    while (count < FLUSH_PACKETS && blocked == 0) {
        ngtcp2_path_storage to;
        const size_t room = quic_proof_room(conn, now);
        if (room == 0)
            break;
        const ngtcp2_ssize size =
            write_packet(conn, quic_batch_room(&endpoint->batch), room, &to, now);
        if (size < 0)
            return (int)size;
        if (size == 0)
            break;
        const struct quic_path path = quic_path_from(&to.path);
        quic_proof_sent(conn, &path, (size_t)size, now);
        blocked = quic_batch_add(&endpoint->batch, &path, (size_t)size);
        count++;
    }
    if (count > 0)
        ngtcp2_conn_update_pkt_tx_time(conn->ngtcp2, now);
    if (blocked == 0)
        blocked = quic_batch_flush(&endpoint->batch);
    if (blocked < 0)
        quic_endpoint_block(endpoint);
    if (count == FLUSH_PACKETS && blocked == 0)
        quic_conn_schedule(conn);
    return 0;
}

static bool is_all_delivered(const struct quic_conn *conn)
{
    return quic_fifo_size(&conn->out) == 0 || conn->output_ended;
}

void quic_conn_flush(struct quic_conn *conn)
{
    struct quic_endpoint *endpoint = conn->endpoint;
    if (!conn->ngtcp2)
        return;
    if (endpoint->blocked) {
        if (list_empty(&conn->waiting))
            list_push_back(&endpoint->waiting, &conn->waiting);
        return;
    }
    const int code = write_packets(conn);
    if (code < 0)
        fail(conn, code);
    else if (conn->state == QUIC_FINISHING && is_all_delivered(conn))
        close_by_user(conn, conn->fail_code);
    else
        restart_timer(conn);
}

static void on_flush(struct deferred *flush)
{
    quic_conn_flush(CONTAINER_OF(flush, struct quic_conn, flush));
}

/* --- receiving ---------------------------------------------------------------------------------
 */

/* The handshake is complete: the user gets the stream. */
static void offer(struct quic_conn *conn)
{
    const struct quic_endpoint_config *config = &conn->endpoint->config;
    leave_handshake(conn);
    conn->complete = false;
    conn->state = QUIC_OPEN;
    timer_start(timers_of(conn), &conn->patience, TICKET_MS);
    if (!quic_stream_is_timely(conn)) {
        close_by_user(conn, QUIC_ERROR_STREAM);
    } else if (conn->endpoint->closed) {
        close_by_user(conn, QUIC_ERROR_STOPPING);
    } else {
        conn->held = true;
        conn->held = config->on_accept(config->data, &conn->stream, conn->peer);
        if (!conn->held)
            close_by_user(conn, QUIC_ERROR_REFUSED);
    }
}

/* Said to the first, second, fourth, … packet that comes too late. */
static void repeat_farewell(struct quic_conn *conn, const struct quic_datagram *datagram)
{
    conn->late_count++;
    if (conn->farewell && (conn->late_count & (conn->late_count - 1)) == 0 &&
        conn->farewell_size <= datagram->size * 3)
        quic_socket_send(&datagram->path, conn->farewell, conn->farewell_size);
}

void quic_conn_receive(struct quic_conn *conn, const struct quic_datagram *datagram)
{
    if (!conn->ngtcp2) {
        repeat_farewell(conn, datagram);
        return;
    }
    struct quic_path from = datagram->path;
    const ngtcp2_path path = path_of(&from);
    const ngtcp2_pkt_info info = {0};
    const int code = ngtcp2_conn_read_pkt(conn->ngtcp2, &path, &info, datagram->bytes,
                                          datagram->size, quic_conn_now());
    if (code != 0) {
        fail(conn, code);
        return;
    }
    quic_proof_received(conn, datagram);
    if (conn->complete)
        offer(conn);
    quic_conn_schedule(conn);
}

/* --- callbacks of ngtcp2 --------------------------------------------------------------------- */

static void on_random(uint8_t *bytes, size_t size, const ngtcp2_rand_ctx *data)
{
    (void)data;
    const int code = gnutls_rnd(GNUTLS_RND_NONCE, bytes, size);
    ASSERT(code >= 0);
}

static int on_new_id(ngtcp2_conn *ngtcp2, ngtcp2_cid *id, uint8_t *token, size_t size, void *data)
{
    (void)ngtcp2;
    struct quic_conn *conn = data;
    id->datalen = size;
    if (gnutls_rnd(GNUTLS_RND_NONCE, id->data, size) < 0 ||
        quic_answer_reset_token(conn->endpoint->quic, id, token) < 0 ||
        quic_endpoint_claim(conn->endpoint, conn, id) < 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_old_id(ngtcp2_conn *ngtcp2, const ngtcp2_cid *id, void *data)
{
    (void)ngtcp2;
    struct quic_conn *conn = data;
    quic_endpoint_disclaim(conn->endpoint, conn, id);
    return 0;
}

static int on_path(ngtcp2_conn *ngtcp2, uint32_t flags, const ngtcp2_path *path,
                   ngtcp2_path_validation_result result, void *data)
{
    (void)ngtcp2;
    (void)flags;
    struct quic_conn *conn = data;
    struct metrics *metrics = conn->endpoint->quic->config.metrics;
    if (result != NGTCP2_PATH_VALIDATION_RESULT_SUCCESS)
        return 0;
    const struct quic_path proved = quic_path_from(path);
    quic_proof_given(conn, &proved);
    if (metrics)
        metric_add(&metrics->quic_migrations, 1);
    return 0;
}

/* --- the beginning -----------------------------------------------------------------------------
 */

static void fill_params(const struct quic_config *config, ngtcp2_transport_params *params)
{
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_remote = QUIC_WINDOW;
    params->initial_max_stream_data_uni = QUIC_PACKET_MAX;
    params->initial_max_data = QUIC_WINDOW + QUIC_STREAMS * QUIC_PACKET_MAX;
    params->initial_max_streams_bidi = QUIC_STREAMS;
    params->initial_max_streams_uni = QUIC_STREAMS;
    params->max_idle_timeout = config->idle_timeout_ms * NGTCP2_MILLISECONDS;
    params->max_udp_payload_size = QUIC_DATAGRAM_MAX;
    params->active_connection_id_limit = CONN_IDS;
    params->stateless_reset_token_present = 1;
}

static struct quic_conn *conn_new(struct quic_endpoint *endpoint)
{
    struct quic_conn *conn = mem_new(sizeof *conn);
    conn->endpoint = endpoint;
    conn->stream_id = -1;
    list_init(&conn->node);
    list_init(&conn->waiting);
    list_init(&conn->cids);
    list_init(&conn->flush.node);
    conn->flush.run = on_flush;
    conn->timer.on_due = on_timer;
    conn->patience.on_due = on_patience;
    quic_stream_init(conn);
    list_push_back(&endpoint->conns, &conn->node);
    endpoint->handshake_count++;
    return conn;
}

/* Makes conn->ngtcp2. */
static int open_ngtcp2(struct quic_conn *conn, const struct quic_datagram *datagram,
                       const ngtcp2_pkt_hd *header, enum quic_token token, const ngtcp2_cid *odcid)
{
    const struct quic *quic = conn->endpoint->quic;
    ngtcp2_callbacks callbacks = {.rand = on_random,
                                  .get_new_connection_id = on_new_id,
                                  .remove_connection_id = on_old_id,
                                  .get_path_challenge_data = quic_proof_challenge,
                                  .path_validation = on_path};
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid scid = {.datalen = QUIC_CID_SIZE};
    quic_handshake_callbacks(&callbacks);
    quic_stream_callbacks(&callbacks);
    ngtcp2_settings_default(&settings);
    settings.initial_ts = quic_conn_now();
    settings.handshake_timeout = quic->config.handshake_timeout_ms * NGTCP2_MILLISECONDS;
    settings.max_stream_window = QUIC_WINDOW_MAX;
    settings.max_window = QUIC_WINDOW_MAX;
    if (token == QUIC_TOKEN_RETRY || token == QUIC_TOKEN_REGULAR)
        settings.token = header->token;
    fill_params(&quic->config, &params);
    params.original_dcid = odcid ? *odcid : header->dcid;
    params.retry_scid_present = odcid != NULL;
    params.retry_scid = header->dcid;
    if (gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen) < 0 ||
        quic_answer_reset_token(quic, &scid, params.stateless_reset_token) < 0)
        return ERR_NOMEM;
    struct quic_path from = datagram->path;
    const ngtcp2_path path = path_of(&from);
    quic_proof_begin(conn, &from);
    if (ngtcp2_conn_server_new(&conn->ngtcp2, &header->scid, &scid, &path, header->version,
                               &callbacks, &settings, &params, &quic->mem, conn) != 0)
        return ERR_NOMEM;
    int err = quic_endpoint_claim(conn->endpoint, conn, &scid);
    if (err == 0)
        err = quic_endpoint_claim(conn->endpoint, conn, &header->dcid);
    return err;
}

void quic_conn_begin(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                     const ngtcp2_pkt_hd *header, enum quic_token token, const ngtcp2_cid *odcid)
{
    struct quic_conn *conn = conn_new(endpoint);
    conn->peer = peer_new(&datagram->path.remote.any);
    int err = open_ngtcp2(conn, datagram, header, token, odcid);
    if (err == 0)
        err = quic_handshake_open(conn);
    if (err < 0) {
        enter_closing(conn, err, 0);
        return;
    }
    quic_conn_receive(conn, datagram);
    if (conn->ngtcp2 == NULL && conn->wants_retry)
        quic_answer_retry(endpoint, datagram, header);
}

void quic_conn_let_go(struct quic_conn *conn)
{
    conn->held = false;
    deferred_cancel(&conn->report);
    quic_fifo_clear(&conn->in);
    if (conn->state == QUIC_GONE) {
        destroy(conn);
    } else if (conn->ngtcp2) {
        conn->state = QUIC_FINISHING;
        timer_start(timers_of(conn), &conn->patience, FINISH_MS);
        quic_conn_schedule(conn);
    }
}

void quic_conn_free(struct quic_conn *conn)
{
    ASSERT(!conn->held);
    if (conn->ngtcp2)
        close_by_user(conn, QUIC_ERROR_STOPPING);
    destroy(conn);
}
