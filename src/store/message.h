/* The message: what is stored once and delivered to many. */
#pragma once

#include "base/buf.h"

#define MESSAGE_NO_EXPIRY UINT32_MAX

enum message_flags {
    MESSAGE_RETAIN = 1, /* the publisher set RETAIN */
    MESSAGE_COPY = 2, /* re-appended before its segment is freed; `origin` is the first position */
};

/* Plain values and slices; who made the struct says what the slices lie in. */
struct message {
    struct slice topic; /* the whole topic name */
    struct slice payload;
    struct slice props;     /* MQTT 5 properties that subscribers get unaltered, encoded */
    struct slice client_id; /* of the publisher; empty when the server itself publishes */
    uint64_t publisher;     /* session number of the publisher, 0 = the server: for No Local */
    uint64_t time_ms;       /* wall clock at acceptance */
    uint64_t position;      /* log position; set by the engine */
    uint64_t origin;        /* with MESSAGE_COPY: position of the original, else 0 */
    uint32_t expiry_s;      /* Message Expiry Interval from time_ms on, or MESSAGE_NO_EXPIRY */
    uint32_t topic_id;      /* first-level topic */
    uint8_t qos;            /* as published */
    uint8_t flags;          /* enum message_flags */
};
