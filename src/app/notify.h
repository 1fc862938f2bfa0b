/* Tells the service manager how far the server is (sd_notify's protocol: datagrams to the socket
 * that NOTIFY_SOCKET names, by path or in the abstract namespace).
 */
#pragma once

#include "base/base.h"

/* Sends `state`, lines such as "READY=1\nSTATUS=…". Without NOTIFY_SOCKET it does nothing.
 * Returns 0 or -errno. Thread: any. */
int notify_send(const char *state);

/* RELOADING=1 with the time that systemd asks for beside it. Returns 0 or -errno. */
int notify_reloading(void);
