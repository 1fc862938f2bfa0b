/* UTF-8 as MQTT wants it. Thread: any. */
#pragma once

#include "base/base.h"

/* true when well-formed UTF-8 without surrogates, overlong forms and U+0000.
 * Spec: [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] */
bool utf8_check(const uint8_t *bytes, size_t size);

/* Returns the length, 1 to 4, of the well-formed sequence that `bytes` starts with; 0 when it
 * starts with none. U+0000 counts as well-formed here. */
uint32_t utf8_sequence(const uint8_t *bytes, size_t size);
