/* MQTT 5.0 reason codes, and what they become for 3.x clients. Thread: any. */
#pragma once

#include "base/base.h"

#define X(name, code, text, packets) name = code,
enum reason {
#include "mqtt/reason.def"
};
#undef X

/* 3.x has no CONNACK return code for this reason: close without an answer. */
#define REASON_CONNACK3_NONE 0xffu

/* Returns the specification's name of the code ("Unknown reason code" for others); static. */
const char *reason_text(uint8_t reason);

/* true when the specification lists `reason` for that packet type. */
bool reason_allowed(uint8_t reason, uint8_t packet_type);

/* Returns `reason` when that packet type may carry it, else the nearest that says nothing more:
 * unspecified error, for PUBREL and PUBCOMP packet identifier not found.
 * Spec: [MQTT5-3.2.2-8] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
 * [MQTT5-3.9.3-2] [MQTT5-3.11.3-2] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1] */
uint8_t reason_fit(uint8_t reason, uint8_t packet_type);

/* Returns the 3.1/3.1.1 CONNACK return code (0 to 5) for a CONNECT that is answered with `reason`,
 * or REASON_CONNACK3_NONE. Spec: [MQTT3-3.2.2-6] */
uint8_t reason_to_connack3(uint8_t reason);
