/* What a session's table of inbound packet identifiers holds: a struct publish while the message
 * is pending, INBOUND_RECEIVED, or a struct release with a mark in its address (acks.c). */
#pragma once

#include "broker/core_priv.h"

/* QoS 2: stored, PUBREC sent or owed. */
#define INBOUND_RECEIVED  ((void *)(uintptr_t)1)
#define INBOUND_RELEASING ((uintptr_t)2) /* the mark: its release is being made durable */

static inline bool inbound_is_releasing(const void *held)
{
    return ((uintptr_t)held & INBOUND_RELEASING) != 0;
}

/* A QoS 1 or 2 message has got its last answer. What was left open by an earlier connection does
 * not count against this one. [MQTT5-4.9.0-1] */
static inline void publish_answered(struct session *session)
{
    if (session->publish_pending > 0)
        session->publish_pending--;
}
