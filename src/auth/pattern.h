/* Patterns: the texts of rules that are compared with topics, client IDs, user names and addresses.
 *
 * Topics: an MQTT filter (`+` and `#`), or a text in which each `*` stands for any characters, '/'
 * and a leading '$' included; not both in one. `a/#` matches "a" as well, and so does `/` with `*`
 * behind it at the end of a text.
 * Client IDs and user names: `*`. Block rules: `*` and `?`, one character.
 *
 * Variables: ${ClientId}, ${Username} and ${Certificate.Subject.CommonName} (Country, Organization,
 * OrganizationalUnit, State, SerialNumber), in any case, each with methods of text behind it:
 * substring(begin), substring(begin, end), toLowerCase(), toUpperCase(), trim(). Indexes count
 * characters from 0; end is the first one that is left out.
 *
 * What a client calls itself never works as a wildcard: a value with a byte that the grammar would
 * take for one does not match, nor does one that is empty, not there, or shorter than an index. In
 * a topic of a rule that allows, a value with '/' does not match either: it would reach into levels
 * that were not meant.
 *
 * Immutable, pure; any thread. Source: reference of TDMQ for MQTT, sections 6 and 7.
 */
#pragma once

#include "auth/facts.h"

#include <string.h>

#define PATTERN_TEXT_MAX 1024u /* bytes, of the pattern and of what it becomes for a client */

enum pattern_kind {
    PATTERN_TOPIC,  /* filter or `*` */
    PATTERN_FILTER, /* filter only; `*` is an ordinary character */
    PATTERN_NAME,   /* `*` */
    PATTERN_BLOCK,  /* `*` and `?`, no variables */
};

struct pattern;

/* Returns 0; ERR_INVALID with what is wrong in reterr; ERR_NOMEM. */
MUST_CHECK int pattern_new(enum pattern_kind kind, struct slice text, struct pattern **ret_pattern,
                           struct errmsg *reterr);
struct pattern *pattern_free(struct pattern *pattern);    /* NULL is fine; returns NULL */
struct slice pattern_text(const struct pattern *pattern); /* as written */

/* What a text begins with that the pattern matches or covers: its first bytes, up to 8, in the
 * order of memory, where `mask` has bits. A cheap way to rule most patterns out: see
 * pattern_head_of. */
struct pattern_head {
    uint64_t mask, bits;
};

struct pattern_head pattern_head(const struct pattern *pattern);

/* The first bytes of a text, to be compared: `(pattern_head_of(text) & head.mask) == head.bits`. */
static inline uint64_t pattern_head_of(struct slice text)
{
    uint64_t head = 0;
    if (text.size >= sizeof head)
        memcpy(&head, text.bytes, sizeof head);
    else if (text.size > 0)
        memcpy(&head, text.bytes, text.size);
    return head;
}

/* Whose values the variables take; strict: a '/' in one of them does not match. */
struct pattern_client {
    const struct facts *facts;
    bool strict;
};

/* text: a topic name, client ID, user name or address. */
bool pattern_matches(const struct pattern *pattern, struct pattern_client client,
                     struct slice text);
/* Topics only; filter: a valid topic filter without $share/. true: every name it matches is matched
 * by the pattern. Sometimes false although that is so: `+/#` is not known to cover `#`. */
bool pattern_covers(const struct pattern *pattern, struct pattern_client client,
                    struct slice filter);
/* Likewise; true: there is, or may be, a name that both match. */
bool pattern_overlaps(const struct pattern *pattern, struct pattern_client client,
                      struct slice filter);
