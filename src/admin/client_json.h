/* A client as JSON, without its subscriptions. Private to admin. */
#pragma once

#include "broker/inspect.h"

#include <jansson.h>

/* As the /v1 pages show it. */
json_t *client_json(const struct client_info *info);
/* As the control plane shows it: MQTTClientInfo. */
json_t *client_json_tdmq(const struct client_info *info);
