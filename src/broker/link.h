/* Link: the broker core's view of a connected client, and the calls a conn makes into the core.
 *
 * A conn (proxy/) embeds a struct link, fills in the first block and calls link_connect once the
 * CONNECT packet is decoded and the client is authenticated. The core answers through link_ops.
 * Every call runs on the loop thread. The core never calls back into a conn from inside
 * link_connect, link_publish, link_subscribe and link_unsubscribe except through ack, suback, close
 * and publish of link_ops, which only put bytes into the conn's output buffer.
 *
 * Reason codes are those of MQTT 5; the conn translates for 3.1 and 3.1.1:
 * a refused PUBLISH, which those versions cannot answer, closes the connection; SUBACK failures
 * become 0x80; CONNACK codes become return codes 1 to 5.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "mqtt/packets.h"
#include "store/message.h"

struct access;
struct broker;
struct link;
struct session;

#define LINK_SUBSCRIPTION_IDS_MAX 32

/* One PUBLISH to send; everything borrowed for the call. */
struct delivery {
    const struct message *message;
    uint32_t expiry_s;  /* what is left of the message's expiry, or MESSAGE_NO_EXPIRY */
    uint16_t packet_id; /* 0 with QoS 0 */
    uint64_t fanout;    /* the same number: the same message, to many; 0: to this link alone */
    uint8_t qos;        /* to send with */
    bool retain, dup;
    uint8_t subscription_id_count; /* MQTT 5; at most LINK_SUBSCRIPTION_IDS_MAX */
    const uint32_t *subscription_ids;
};

/* The answer to CONNECT. */
struct connack {
    uint8_t reason; /* 0 = accepted */
    bool session_present;
    const char *reason_string; /* may be NULL */
    struct slice assigned_id;  /* set when the server chose the client ID */
    uint32_t session_expiry_s; /* what is granted; sent when it differs from what was asked */
    uint16_t keep_alive_s;     /* what counts; sent as Server Keep Alive when it differs */
    uint16_t receive_max;      /* the server's; 65535 = not sent */
};

struct link_ops {
    /* Answers link_connect. With a refusal the conn sends CONNACK, then closes. */
    void (*connack)(struct link *link, const struct connack *connack);
    /* Sends PUBLISH. Returns 0; ERR_AGAIN: no room now, link_writable will be called; ERR_FULL:
     * larger than the client accepts, to be dropped as if it had been sent [MQTT5-3.1.2-25]. */
    int (*publish)(struct link *link, const struct delivery *delivery);
    /* Sends PUBACK, PUBREC, PUBREL or PUBCOMP (packet_type as in mqtt/frame.h). */
    void (*ack)(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason,
                const char *reason_string);
    void (*suback)(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count,
                   const char *reason_string);
    void (*unsuback)(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count);
    /* Sends DISCONNECT (MQTT 5, reason not 0) behind what is buffered, then closes the connection.
     * The core has detached the link already; link_lost must not be called after it. */
    void (*close)(struct link *link, uint8_t reason, const char *reason_string);
};

struct link {
    /* Filled in by the conn before link_connect. */
    const struct link_ops *ops;
    uint8_t version;      /* 3, 4 or 5 */
    uint16_t receive_max; /* the client's Receive Maximum; 65535 for 3.x */
    bool is_local_admin;  /* reserved for the admin's own publishes */

    /* The core's; here, because each delivery and acknowledgement looks at it. */
    struct broker *broker;
    struct session *session; /* NULL before link_connect and after close or link_lost */
    struct list node;
    uint8_t state; /* enum link_state in link.c */

    /* The conn's again. */
    char address[64];      /* peer as text, for lists and logs */
    struct slice username; /* who the client is, which need not be what CONNECT said (that may be a
                            * token); borrowed as long as the link lives; may be empty */
    struct access *access; /* the client's rights, borrowed likewise; NULL: all */
};

/* Everything CONNECT says. Borrowed for the call; the core copies what it keeps. */
struct link_connect {
    const struct packet_connect *packet;
    uint16_t keep_alive_s; /* after the server's own maximum */
};

/* Opens or takes over the session; answered by ops->connack, inside the call or later (when state
 * must become durable first). Until then the conn must not pass on further packets. */
void link_connect(struct broker *broker, struct link *link, const struct link_connect *req);

/* Accepts a PUBLISH. topic: the full name, alias already resolved. Answered by ops->ack as QoS
 * asks, inside the call or later; or by ops->close. */
void link_publish(struct link *link, const struct packet_publish *packet, struct slice topic);
/* Acknowledgements from the client; type PACKET_PUBACK, PUBREC, PUBREL or PUBCOMP. */
void link_ack(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason);
/* body-level validity has been checked by the codec; filters are iterated with subscribe_next. */
void link_subscribe(struct link *link, const struct packet_subscribe *packet);
void link_unsubscribe(struct link *link, const struct packet_unsubscribe *packet);
/* The client sent DISCONNECT. expiry_s: the new Session Expiry Interval when has_expiry. The link
 * is detached afterwards; the conn closes. Returns the reason to close with instead (0x82 when an
 * expiry of zero is raised [MQTT5-4.13.1-1]), 0 when all is well. */
MUST_CHECK uint8_t link_disconnect(struct link *link, uint8_t reason, bool has_expiry,
                                   uint32_t expiry_s);
/* The connection is gone, or the conn closes it for an error of the client; the will is due.
 * Harmless on a link without a session. reason: for the disconnect event and the trace. */
void link_lost(struct link *link, uint8_t reason);
/* There is room again after ops->publish said ERR_AGAIN. */
void link_writable(struct link *link);
/* Whether a packet must wait before it is passed on: the client is over a rate, which its version
 * of MQTT cannot be told. qos: of PACKET_PUBLISH. first: it has not waited yet, and is counted. */
bool link_must_wait(struct link *link, uint8_t packet_type, uint8_t qos, bool first);
/* QoS 1 and 2 publishes from this client that wait for the store. */
uint32_t link_publish_pending(const struct link *link);
