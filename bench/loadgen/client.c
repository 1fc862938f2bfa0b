#include "client.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILTERS_AT_ONCE 100
#define KEEP_ALIVE_S    3600 /* the generator sends no PINGREQ; 0 is refused by some servers */

void client_init(struct client *client, struct gen *gen, uint32_t index, const char *id)
{
    *client = (struct client){.gen = gen, .fd = -1, .index = index, .clean = true};
    client->id = strdup(id);
}

void client_set_filter(struct client *client, const char *filter)
{
    client->filter = strdup(filter);
}

void client_set_topic(struct client *client, const char *topic)
{
    const struct options *options = client->gen->options;
    client->topic = strdup(topic);
    client->window = options->window;
    client->free_ids = bytes_new_array(client->window, sizeof *client->free_ids);
    client->sent_ns = bytes_new_array(client->window + 1, sizeof *client->sent_ns);
    client->released = bytes_new_array(client->window + 1, sizeof *client->released);
    const struct packet_message message = {.version = options->version,
                                           .qos = options->qos,
                                           .retain = options->pattern == PATTERN_RETAINED,
                                           .topic = topic,
                                           .payload_size = options->payload_size};
    packet_make_template(&client->message, &message);
}

void client_done(struct client *client)
{
    client_close(client);
    bytes_done(&client->in);
    bytes_done(&client->out);
    bytes_done(&client->wire);
    bytes_done(&client->ticket);
    bytes_done(&client->message.bytes);
    free((char *)client->id);
    free((char *)client->filter);
    free((char *)client->topic);
    free(client->last_seqs);
    free(client->free_ids);
    free(client->sent_ns);
    free(client->released);
}

/* Binds to one of the configured source addresses, so that ports do not run out. */
static bool bind_source(const struct client *client, int fd)
{
    const uint32_t addresses = client->gen->options->source_addresses;
    if (addresses == 0)
        return true;
    const int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + client->index % addresses);
    return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 &&
           bind(fd, (struct sockaddr *)&source, sizeof source) == 0;
}

bool client_open(struct client *client)
{
    struct gen *gen = client->gen;
    const struct sockaddr_in *server = &gen->options->server;
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};

    if (fd < 0 || !bind_source(client, fd) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(gen->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        gen_fail(gen, "could not connect '%s': %s", client->id, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    client->fd = fd;
    client->state = CLIENT_CONNECTING;
    client->wants_write = true;
    client->opened_ns = gen_clock_ns();
    return true;
}

/* Bytes that have not gone out. */
static size_t unsent(const struct client *client)
{
    return bytes_size(&client->out) + bytes_size(&client->wire) +
           (client->tls != NULL ? bytes_size(tls_sealed(client->tls)) : 0);
}

/* Counts the clients whose sockets have not taken all. */
static void note_unflushed(struct client *client, bool unflushed)
{
    if (client->unflushed == unflushed)
        return;
    client->unflushed = unflushed;
    if (unflushed)
        client->gen->unflushed++;
    else
        client->gen->unflushed--;
}

/* Sends DISCONNECT, as far as the socket takes it. */
static void say_bye(struct client *client)
{
    struct bytes out = {0}, wire = {0};
    const struct bytes *last = &wire;
    packet_add_disconnect(&out);
    if (client->gen->options->websocket)
        frames_wrap(&wire, &out);
    else
        bytes_append(&wire, out.data, out.end);
    if (client->tls != NULL) {
        (void)tls_seal(client->tls, &wire);
        tls_say_bye(client->tls);
        last = tls_sealed(client->tls);
    }
    (void)send(client->fd, last->data + last->start, bytes_size(last), MSG_NOSIGNAL | MSG_DONTWAIT);
    bytes_done(&out);
    bytes_done(&wire);
}

void client_close(struct client *client)
{
    if (client->fd < 0)
        return;
    note_unflushed(client, false);
    if (client->state == CLIENT_READY) {
        if (client->tls != NULL && client->gen->options->tls_resume)
            tls_take_ticket(client->tls, &client->ticket);
        say_bye(client);
        client->gen->counters.ready--;
    }
    tls_close(client->tls);
    client->tls = NULL;
    (void)close(client->fd);
    client->fd = -1;
    client->state = CLIENT_CLOSED;
    client->in.start = client->in.end = 0;
    client->out.start = client->out.end = 0;
    client->wire.start = client->wire.end = 0;
    client->frames = (struct frames){0};
}

static void on_lost(struct client *client, const char *why)
{
    struct gen *gen = client->gen;
    gen->counters.closed++;
    if (client->state == CLIENT_READY) {
        client->state = CLIENT_CLOSED;
        gen->counters.ready--;
    }
    client_close(client);
    if (!gen->closing_is_fine)
        gen_fail(gen, "'%s' lost its connection: %s", client->id, why);
}

static void watch_writable(struct client *client, bool wanted)
{
    if (client->wants_write == wanted)
        return;
    struct epoll_event event = {.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = client};
    (void)epoll_ctl(client->gen->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
    client->wants_write = wanted;
}

/* Puts the packets into WebSocket's frames and TLS's records. Returns what is to be sent. */
static struct bytes *wrap(struct client *client)
{
    struct bytes *out = &client->out;
    if (client->gen->options->websocket) {
        if (bytes_size(out) > 0)
            frames_wrap(&client->wire, out);
        out = &client->wire;
    }
    if (client->tls == NULL)
        return out;
    const char *why = tls_seal(client->tls, out);
    if (why != NULL)
        gen_fail(client->gen, "'%s' cannot encrypt: %s", client->id, why);
    return tls_sealed(client->tls);
}

/* Writes what there is. */
static void flush(struct client *client)
{
    struct gen *gen = client->gen;
    struct bytes *out = wrap(client);
    const size_t size = bytes_size(out);
    if (size == 0)
        return;
    const ssize_t n = send(client->fd, out->data + out->start, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    gen->counters.writes++;
    if (n > 0)
        bytes_consume(out, (size_t)n);
    note_unflushed(client, bytes_size(out) > 0);
    if (n < 0 && errno != EAGAIN) {
        on_lost(client, strerror(errno));
        return;
    }
    watch_writable(client, client->unflushed);
}

static void on_ready(struct client *client)
{
    client->state = CLIENT_READY;
    client->gen->counters.ready++;
}

/* Writes the filter with its number. */
static void print_filter(const struct client *client, char *to, size_t size)
{
    size_t used = 0;
    for (const char *at = client->filter; *at != '\0' && used + 1 < size; at++) {
        if (*at == '*')
            used += (size_t)snprintf(to + used, size - used, "%0*u", PACKET_NUMBER_DIGITS,
                                     client->filter_next);
        else
            to[used++] = *at;
    }
    to[used < size ? used : size - 1] = '\0';
}

/* Asks for the filters that are left, as many as fit into one SUBSCRIBE. */
static void subscribe_more(struct client *client)
{
    const struct options *options = client->gen->options;
    struct bytes filters = {0};
    char text[192];
    client->filters_asked = 0;
    do {
        print_filter(client, text, sizeof text);
        packet_add_filter(&filters, text, options->qos);
        client->filter_next += client->filter_step;
        client->filters_asked++;
    } while (client->filter_next < client->filter_end && client->filters_asked < FILTERS_AT_ONCE);
    packet_add_subscribe(&client->out, options->version, &filters);
    bytes_done(&filters);
    client->state = CLIENT_SUBSCRIBING;
}

static bool on_connack(struct client *client, const uint8_t *body, size_t size)
{
    struct packet_connack connack;
    struct gen *gen = client->gen;
    if (client->state != CLIENT_LOGIN ||
        !packet_parse_connack(gen->options->version, body, size, &connack))
        return false;
    if (connack.code != 0) {
        gen_fail(gen, "'%s' was refused with code %u", client->id, connack.code);
        return true;
    }
    hist_add(&gen->connack, gen->now_ns - client->opened_ns);
    client->session_present = connack.session_present;
    if (client->topic != NULL) {
        if (client->window > connack.receive_max)
            client->window = connack.receive_max;
        client->free_count = client->window;
        for (uint32_t i = 0; i < client->window; i++)
            client->free_ids[i] = (uint16_t)(client->window - i);
    }
    if (client->filter != NULL && !client->session_present)
        subscribe_more(client);
    else
        on_ready(client);
    return true;
}

static bool on_suback(struct client *client, const uint8_t *body, size_t size)
{
    struct gen *gen = client->gen;
    const uint8_t *codes;
    size_t count;
    if (client->state != CLIENT_SUBSCRIBING ||
        !packet_parse_suback(gen->options->version, body, size, &codes, &count) ||
        count != client->filters_asked)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (codes[i] != gen->options->qos)
            gen_fail(gen, "'%s': a filter '%s' was answered with code %u", client->id,
                     client->filter, codes[i]);
    }
    gen->counters.subscribed += count;
    if (client->filter_next < client->filter_end)
        subscribe_more(client);
    else
        on_ready(client);
    return true;
}

/* Counts a message of a numbered pattern, which may come in any order. */
static void count_copy(struct gen *gen, const struct packet_stamp *stamp)
{
    if (stamp->seq == 0 || stamp->seq > gen->options->count) {
        gen->counters.corrupt++;
        return;
    }
    if (gen->copies[stamp->seq - 1] >= gen->fan) {
        gen->counters.duplicates++;
        return;
    }
    gen->copies[stamp->seq - 1]++;
    gen->counters.delivered++;
    hist_add(&gen->delivery, gen->now_ns - stamp->sent_ns);
}

/* Counts a message by the stamp that its publisher left in it. */
static void count_delivery(struct client *client, const struct packet_publish *publish)
{
    struct gen *gen = client->gen;
    struct packet_stamp stamp;
    if (publish->payload_size != gen->options->payload_size) {
        gen->counters.corrupt++;
        return;
    }
    memcpy(&stamp, publish->payload, sizeof stamp);
    if (client->last_seqs == NULL) {
        count_copy(gen, &stamp);
        return;
    }
    const uint32_t slot = stamp.publisher_index - client->publisher_first;
    if (stamp.publisher_index < client->publisher_first || slot >= client->publisher_count) {
        gen->counters.corrupt++;
        return;
    }
    uint32_t *last = &client->last_seqs[slot];
    if (stamp.seq <= *last) {
        gen->counters.duplicates++;
        return;
    }
    gen->counters.gaps += stamp.seq != *last + 1;
    *last = stamp.seq;
    gen->counters.delivered++;
    hist_add(&gen->delivery, gen->now_ns - stamp.sent_ns);
}

static bool on_publish(struct client *client, uint8_t first, const uint8_t *body, size_t size)
{
    struct packet_publish publish;
    if ((client->last_seqs == NULL && client->gen->copies == NULL) ||
        !packet_parse_publish(client->gen->options->version, first, body, size, &publish))
        return false;
    count_delivery(client, &publish);
    if (publish.qos > 0)
        packet_add_ack(&client->out, publish.qos == 1 ? PACKET_PUBACK : PACKET_PUBREC, publish.id);
    return true;
}

static bool on_ack(struct client *client, unsigned type, const uint8_t *body, size_t size)
{
    struct gen *gen = client->gen;
    uint16_t id;
    uint8_t code;
    if (!packet_parse_ack(body, size, &id, &code))
        return false;
    if (type == PACKET_PUBREL) {
        packet_add_ack(&client->out, PACKET_PUBCOMP, id);
        return true;
    }
    if (client->topic == NULL || id == 0 || id > client->window || client->sent_ns[id] == 0)
        return false;
    if (code >= 0x80)
        gen_fail(gen, "a message on '%s' was refused with code 0x%02x", client->topic, code);
    if (type != PACKET_PUBCOMP)
        hist_add(&gen->ack, gen->now_ns - client->sent_ns[id]);
    if (type == PACKET_PUBREC) {
        client->released[id] = true;
        packet_add_ack(&client->out, PACKET_PUBREL, id);
        return true;
    }
    if (client->released[id] != (type == PACKET_PUBCOMP))
        return false;
    client->released[id] = false;
    client->sent_ns[id] = 0;
    client->free_ids[client->free_count++] = id;
    gen->counters.acked++;
    gen_enqueue(gen, client);
    return true;
}

static bool on_packet(struct client *client, uint8_t first, const uint8_t *body, size_t size)
{
    const uint8_t expected_ack = client->gen->options->qos == 2 ? PACKET_PUBCOMP : PACKET_PUBACK;
    const unsigned type = first >> 4;
    switch (type) {
    case PACKET_CONNACK:
        return on_connack(client, body, size);
    case PACKET_SUBACK:
        return on_suback(client, body, size);
    case PACKET_PUBLISH:
        return on_publish(client, first, body, size);
    case PACKET_PUBACK:
    case PACKET_PUBCOMP:
        return type == expected_ack && on_ack(client, type, body, size);
    case PACKET_PUBREC:
    case PACKET_PUBREL:
        return client->gen->options->qos == 2 && on_ack(client, type, body, size);
    case PACKET_DISCONNECT:
        gen_fail(client->gen, "'%s' was disconnected with reason 0x%02x", client->id,
                 size > 0 ? body[0] : 0);
        return true;
    default:
        return false;
    }
}

/* Handles all whole packets in `data`; returns how many bytes they took. */
static size_t handle_packets(struct client *client, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (client->fd >= 0) {
        size_t head_size;
        size_t body_size;
        const int found = packet_parse_head(data + at, size - at, &head_size, &body_size);
        if (found == 0 || (found > 0 && size - at - head_size < body_size))
            break;
        if (found < 0 || !on_packet(client, data[at], data + at + head_size, body_size)) {
            gen_fail(client->gen, "'%s' got an unexpected or malformed packet, first byte 0x%02x",
                     client->id, data[at]);
            break;
        }
        at += head_size + body_size;
    }
    return at;
}

static void log_in(struct client *client)
{
    const struct options *options = client->gen->options;
    const struct packet_login login = {.version = options->version,
                                       .clean = client->clean,
                                       .keep_alive_s = KEEP_ALIVE_S,
                                       .session_expiry_s = client->clean ? 0 : 3600,
                                       .client_id = client->id,
                                       .username = options->username,
                                       .password = options->password};
    packet_add_connect(&client->out, &login);
    client->state = CLIENT_LOGIN;
    flush(client);
}

/* Waits for the answer to the request, behind which the server says nothing of its own accord. */
static void on_answer(struct client *client, const uint8_t *data, size_t size)
{
    bytes_append(&client->in, data, size);
    const size_t answer =
        frames_find_answer(client->in.data + client->in.start, bytes_size(&client->in));
    if (answer == 0)
        return;
    if (answer == SIZE_MAX) {
        on_lost(client, "the server refuses WebSocket");
        return;
    }
    bytes_consume(&client->in, answer);
    log_in(client);
}

/* What is next above TCP and TLS. */
static void begin_mqtt(struct client *client)
{
    if (!client->gen->options->websocket) {
        log_in(client);
        return;
    }
    frames_add_request(&client->wire);
    client->state = CLIENT_UPGRADING;
    flush(client);
}

/* Handles what came for MQTT or WebSocket; may change it in place. */
static void on_data(struct client *client, uint8_t *data, size_t size)
{
    if (client->state == CLIENT_UPGRADING) {
        on_answer(client, data, size);
        return;
    }
    if (client->gen->options->websocket)
        size = frames_unwrap(&client->frames, data, size);

    if (bytes_size(&client->in) > 0) {
        bytes_append(&client->in, data, size);
        const size_t used =
            handle_packets(client, client->in.data + client->in.start, bytes_size(&client->in));
        if (client->fd >= 0)
            bytes_consume(&client->in, used);
    } else {
        const size_t used = handle_packets(client, data, size);
        bytes_append(&client->in, data + used, size - used);
    }
}

/* Decrypts what came, and handles it; the first that is decrypted ends the handshake. */
static void on_sealed_data(struct client *client, const uint8_t *data, size_t size)
{
    struct gen *gen = client->gen;
    bytes_consume(&gen->plain, bytes_size(&gen->plain));
    const char *why = tls_receive(client->tls, data, size, &gen->plain);
    if (client->state == CLIENT_SECURING && tls_is_ready(client->tls)) {
        gen->counters.resumed += tls_is_resumed(client->tls);
        begin_mqtt(client);
    }
    if (client->fd >= 0 && bytes_size(&gen->plain) > 0)
        on_data(client, gen->plain.data + gen->plain.start, bytes_size(&gen->plain));
    if (client->fd >= 0 && why != NULL)
        on_lost(client, why);
}

static void on_readable(struct client *client)
{
    struct gen *gen = client->gen;
    const ssize_t n = recv(client->fd, gen->scratch, GEN_SCRATCH_SIZE, MSG_DONTWAIT);
    gen->counters.reads++;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        on_lost(client, n == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    if (client->tls != NULL)
        on_sealed_data(client, gen->scratch, (size_t)n);
    else
        on_data(client, gen->scratch, (size_t)n);
    if (client->fd >= 0)
        flush(client);
}

static void on_connected(struct client *client)
{
    int err = 0;
    socklen_t size = sizeof err;
    (void)getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &err, &size);
    if (err != 0) {
        on_lost(client, strerror(err));
        return;
    }
    if (client->gen->tls == NULL) {
        begin_mqtt(client);
        return;
    }
    client->tls = tls_open(client->gen->tls, &client->ticket);
    if (client->tls == NULL) {
        on_lost(client, "TLS could not be begun");
        return;
    }
    client->state = CLIENT_SECURING;
    flush(client);
}

void client_on_events(struct client *client, uint32_t events)
{
    if (client->fd < 0)
        return;
    if (client->state == CLIENT_CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            on_connected(client);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        on_readable(client);
    if (client->fd >= 0 && (events & EPOLLOUT)) {
        flush(client);
        if (client->topic != NULL)
            gen_enqueue(client->gen, client);
    }
}

uint32_t client_sendable(const struct client *client)
{
    if (client->state != CLIENT_READY || unsent(client) > 0)
        return 0;
    const uint64_t left = client->share - client->published;
    uint32_t wanted = client->gen->options->batch;
    if (left < wanted)
        wanted = (uint32_t)left;
    if (client->gen->options->qos == 0)
        return wanted;
    if (wanted > client->window)
        wanted = client->window;
    return client->free_count >= wanted ? wanted : 0;
}

void client_publish(struct client *client, uint32_t count)
{
    struct gen *gen = client->gen;
    const struct packet_template *message = &client->message;
    const size_t size = bytes_size(&message->bytes);
    struct packet_stamp stamp = {.sent_ns = gen_clock_ns(), .publisher_index = client->index};

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *to = bytes_reserve(&client->out, size);
        memcpy(to, message->bytes.data, size);
        if (message->id_offset > 0) {
            const uint16_t id = client->free_ids[--client->free_count];
            to[message->id_offset] = (uint8_t)(id >> 8);
            to[message->id_offset + 1] = (uint8_t)id;
            client->sent_ns[id] = stamp.sent_ns;
        }
        client->published++;
        if (gen->copies == NULL) {
            stamp.seq = (uint32_t)client->published;
        } else {
            const uint64_t number = gen->counters.published + i;
            stamp.seq = (uint32_t)number + 1;
            packet_set_number(message, to, (uint32_t)(number % gen->topic_count) * gen->topic_step);
        }
        memcpy(to + message->stamp_offset, &stamp, sizeof stamp);
        client->out.end += size;
    }
    gen->counters.published += count;
    flush(client);
}
