/* JSON bodies, with what servers write that is not JSON: numbers without quotes as names of members
 * ({"brokerAddrs":{0:"10.0.0.1:10911"}}). For routes and the like, never for messages.
 *
 * Thread: any.
 */
#pragma once

#include "base/buf.h"

#include <jansson.h>

/* Reads a whole body. *ret_value: the caller's, json_decref it.
 * Returns 0; ERR_MALFORMED: *ret_why (constant text) says what is wrong; ERR_NOMEM. */
MUST_CHECK int rmq_json_parse(struct slice body, json_t **ret_value, const char **ret_why);
