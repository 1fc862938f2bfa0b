/* Topic names and topic filters: validation, matching, and two forms with a meaning of their own,
 * `$share/group/filter` and `{first}/p2p/{client id}`. Pure; any thread.
 */
#pragma once

#include "base/base.h"
#include "base/buf.h"

#define TOPIC_SIZE_MAX 65535u
#define TOPIC_NO_LIMIT UINT32_MAX

/* Checks a topic name. levels_max: most levels allowed, TOPIC_NO_LIMIT = any number.
 * Returns 0; ERR_MALFORMED: not MQTT's UTF-8, or too long; ERR_INVALID: empty or with a wildcard;
 * ERR_FULL: more levels. Spec: [MQTT3-4.7.3-1] [MQTT3-4.7.3-2] [MQTT3-4.7.3-3] [MQTT3-3.3.2-2]
 * [MQTT5-4.7.3-1] [MQTT5-4.7.3-2] [MQTT5-4.7.3-3] [MQTT5-3.3.2-2] */
MUST_CHECK int topic_name_check(struct slice name, uint32_t levels_max);

/* Checks a topic filter, likewise; ERR_INVALID: empty, or a wildcard that is not a level of its
 * own, or a '#' that is not the last. The form $share/... is not looked into: topic_share_parse.
 * Spec: [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] */
MUST_CHECK int topic_filter_check(struct slice filter, uint32_t levels_max);

/* true when the (valid) filter matches the (valid) name. A name that starts with '$' is matched
 * only by a filter that starts with '$'; bytes are compared as they are. Spec: [MQTT3-4.7.2-1]
 * [MQTT3-4.7.3-4] [MQTT5-4.7.2-1] [MQTT5-4.7.3-4] */
bool topic_match(struct slice filter, struct slice name);

/* true when every name that the (valid) filter `other` matches is matched by `filter` too; `+/#` is
 * not known to take in all of `#`. */
bool topic_covers(struct slice filter, struct slice other);

/* true when there is a name that both (valid) filters match. */
bool topic_overlaps(struct slice filter, struct slice other);

/* Levels of a name or filter, at least 1. */
uint32_t topic_levels(struct slice topic);

/* Reads the level at *pos (0 to start) and moves on; false after the last. */
bool topic_next_level(struct slice topic, uint32_t *pos, struct slice *ret_level);

/* The first level (may be empty, as in "/a"); borrows `topic`. */
struct slice topic_first(struct slice topic);

bool topic_has_wildcard(struct slice filter);

struct topic_share {
    struct slice group, filter;
};

/* Takes $share/{group}/{filter} apart. Returns 0; ERR_NOTFOUND: not of this form; ERR_INVALID: it
 * begins with "$share/" but the group is empty or has a wildcard, or no valid filter follows.
 * Slices borrow `filter`. Spec: [MQTT5-4.8.2-1] [MQTT5-4.8.2-2] */
MUST_CHECK int topic_share_parse(struct slice filter, struct topic_share *ret_share);

/* true for `{first}/p2p/{client id}`: everything behind "/p2p/" is the client ID, slashes too, and
 * is not empty. Slices borrow `name`. */
bool topic_p2p_parse(struct slice name, struct slice *ret_first, struct slice *ret_client_id);
