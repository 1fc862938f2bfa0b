/* The HTTP request with which a WebSocket begins, and the answers to it (RFC 6455, section 4).
 *
 * A request is either accepted or told in an HTTP answer what was wrong with it; nothing that it
 * said is repeated there. Thread: any.
 */
#pragma once

#include "base/buf.h"

#define HTTP_UPGRADE_REQUEST_MAX (8u * 1024) /* bytes of the request, headers and all */
#define HTTP_UPGRADE_ANSWER_MAX  1024u
#define HTTP_UPGRADE_PATH_MAX    255u

/* What is served. All borrowed. */
struct http_upgrade_rules {
    const char *path; /* begins with '/' */
    /* Values of Origin that are welcome, as browsers send them; none: all are. Who sends no Origin
     * is not a browser and is welcome. */
    const char *const *origins;
    uint32_t origin_count;
};

struct http_upgrade_answer {
    uint16_t status;   /* 101: accepted; else the connection ends behind the answer */
    const char *fault; /* what was wrong, constant text; NULL with 101 */
    uint32_t size;
    char text[HTTP_UPGRADE_ANSWER_MAX];
};

/* Reads a request. ret_used: its bytes, when it was accepted; frames follow.
 * Returns 0: accepted; ERR_AGAIN: it is not complete yet, and nothing is written; ERR_PROTOCOL:
 * refused.
 * Spec: [MQTT3-6.0.0-3] [MQTT3-6.0.0-4] [MQTT5-6.0.0-3] [MQTT5-6.0.0-4] */
MUST_CHECK int http_upgrade_read(const struct http_upgrade_rules *rules, const uint8_t *bytes,
                                 uint32_t size, uint32_t *ret_used,
                                 struct http_upgrade_answer *ret_answer);

/* true for a path that can be served: '/' and what a URL path may have behind it. */
bool http_upgrade_path_check(const char *path);
