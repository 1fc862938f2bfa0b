/* What is read by GET: health and metrics for everybody, state for the command line. `rest` is the
 * path behind the route. Private to admin. */
#pragma once

#include "admin/request.h"

void pages_health(struct request *request, const char *rest);
/* 200, or 503 and why: draining, or the store takes no writes. */
void pages_ready(struct request *request, const char *rest);
/* OpenMetrics text. */
void pages_metrics(struct request *request, const char *rest);

void pages_status(struct request *request, const char *rest);
void pages_certificates(struct request *request, const char *rest); /* all in one page */
/* What clients may use, what is in use, and how often it was too much. */
void pages_limits(struct request *request, const char *rest);
void pages_store(struct request *request, const char *rest);
/* Pages of a list: arguments `after` (a name), `limit` (1 to 1000); `next` in the answer is the
 * `after` of the next page, null at the end. */
void pages_topics(struct request *request, const char *rest);
void pages_topic(struct request *request, const char *rest);
void pages_clients(struct request *request, const char *rest);
void pages_devices(struct request *request, const char *rest);
void pages_device(struct request *request, const char *rest);
/* CAs in one page. */
void pages_cas(struct request *request, const char *rest);
void pages_device_certificates(struct request *request, const char *rest);
void pages_client(struct request *request, const char *rest);
/* Policies and block rules of both origins, in the order in which they are asked. */
void pages_policies(struct request *request, const char *rest);
void pages_blocks(struct request *request, const char *rest);
/* What a client might do, and why: arguments client_id, username, address, action, topic, qos,
 * retain, and each fact of a certificate by its name. */
void pages_policy_test(struct request *request, const char *rest);
