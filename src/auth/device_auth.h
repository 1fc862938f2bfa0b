/* Device: an authenticator over devices (auth/devices.h), each of which signs a short-lived token
 * (auth/sas.h) with one of its two keys and shows it in the password. The client ID is the
 * device's.
 *
 * What does not begin like such a token is ignored, and everything while there are no devices.
 */
#pragma once

#include "auth/auth.h"

/* deps->devices: borrowed as long as the authenticator. */
struct authenticator *device_auth_new(const struct auth_deps *deps);
#define DEVICE_AUTH_NAME "device"
