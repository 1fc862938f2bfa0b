/* Device properties: pairs of texts that the server adds to what a device publishes, encoded as the
 * user properties of a PUBLISH. Thread: any. */
#pragma once

#include "base/buf.h"

#define DEVICE_PROPERTIES_MAX      10u
#define DEVICE_PROPERTIES_SIZE_MAX 4096u /* bytes of all, encoded */

struct device_properties {
    uint32_t count, size;
    uint8_t bytes[DEVICE_PROPERTIES_SIZE_MAX];
};

/* Adds one behind the others. Returns 0; ERR_INVALID: the key is empty, or one of both is no text
 * that MQTT allows; ERR_FULL: there are as many, or as much, as may be. */
MUST_CHECK int device_properties_add(struct device_properties *properties, struct slice key,
                                     struct slice value);

/* Walks encoded ones: start with *pos = 0; false at the end, and at what is not sound. */
bool device_properties_next(struct slice encoded, uint32_t *pos, struct slice *ret_key,
                            struct slice *ret_value);
/* Whether all of it has been made by device_properties_add. */
bool device_properties_are_sound(struct slice encoded);
