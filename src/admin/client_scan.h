/* The newest clients up to a time, among any number of them: a scan in steps, so that a million
 * sessions do not hold up the loop. Private to admin. */
#pragma once

#include "admin/request.h"
#include "broker/inspect.h"

#define CLIENT_SCAN_MAX 1024u

/* Starts a scan whose result answers `request` (which waits) as DescribeClientList does: at most
 * `number` clients whose last change of connection is at or before max_ms, newest first. */
void client_scan_start(struct request *request, enum client_filter filter, size_t number,
                       uint64_t max_ms);
/* {Clients: [{…, MQTTClientSubscriptions}]} for one client; an empty list when there is none. */
json_t *client_scan_one(struct broker *broker, struct slice client_id);
