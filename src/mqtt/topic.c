#include "mqtt/topic.h"

#include "base/utf8.h"

#include <string.h>

#define SHARE_PREFIX "$share/"
#define P2P_LEVEL    "/p2p/"

#define ONES         0x0101010101010101ull
#define HIGHS        0x8080808080808080ull

/* Not zero when one of the eight bytes is `byte`. */
static inline uint64_t word_has(uint64_t word, uint8_t byte)
{
    const uint64_t x = word ^ (ONES * byte);
    return (x - ONES) & ~x & HIGHS;
}

static inline bool byte_plain(uint8_t byte)
{
    return byte != 0 && byte < 0x80 && byte != '+' && byte != '#';
}

/* true when every byte is ASCII, none is NUL or a wildcard: what nearly every topic name is. */
static bool plain_check(const uint8_t *bytes, size_t size)
{
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        if ((word & HIGHS) | word_has(word, 0) | word_has(word, '+') | word_has(word, '#'))
            return false;
    }
    for (; i < size; i++) {
        if (!byte_plain(bytes[i]))
            return false;
    }
    return true;
}

static bool contains(struct slice slice, int byte)
{
    return slice.size > 0 && memchr(slice.bytes, byte, slice.size) != NULL;
}

uint32_t topic_levels(struct slice topic)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < topic.size; i++)
        count += topic.bytes[i] == '/';
    return count;
}

int topic_name_check(struct slice name, uint32_t levels_max)
{
    if (name.size > TOPIC_SIZE_MAX)
        return ERR_MALFORMED; /* [MQTT3-4.7.3-3] [MQTT5-4.7.3-3] */
    if (name.size == 0)
        return ERR_INVALID; /* [MQTT3-4.7.3-1] [MQTT5-4.7.3-1] */
    if (!plain_check(name.bytes, name.size)) {
        if (!utf8_check(name.bytes, name.size))
            return ERR_MALFORMED; /* [MQTT3-4.7.3-2] [MQTT5-4.7.3-2] */
        if (topic_has_wildcard(name))
            return ERR_INVALID; /* [MQTT3-4.7.1-1] [MQTT5-4.7.0-1] */
    }
    return levels_max != TOPIC_NO_LIMIT && topic_levels(name) > levels_max ? ERR_FULL : 0;
}

/* A wildcard takes its whole level, and '#' the last one.
 * [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] */
static bool wildcards_valid(struct slice filter)
{
    for (uint32_t i = 0; i < filter.size; i++) {
        const uint8_t byte = filter.bytes[i];
        if (byte != '+' && byte != '#')
            continue;
        if (i > 0 && filter.bytes[i - 1] != '/')
            return false;
        if (i + 1 < filter.size && (byte == '#' || filter.bytes[i + 1] != '/'))
            return false;
    }
    return true;
}

int topic_filter_check(struct slice filter, uint32_t levels_max)
{
    if (filter.size > TOPIC_SIZE_MAX)
        return ERR_MALFORMED;
    if (filter.size == 0)
        return ERR_INVALID;
    if (!plain_check(filter.bytes, filter.size)) {
        if (!utf8_check(filter.bytes, filter.size))
            return ERR_MALFORMED;
        if (!wildcards_valid(filter))
            return ERR_INVALID;
    }
    return levels_max != TOPIC_NO_LIMIT && topic_levels(filter) > levels_max ? ERR_FULL : 0;
}

bool topic_match(struct slice filter, struct slice name)
{
    ASSERT(filter.size > 0);
    ASSERT(name.size > 0);
    const uint8_t *f = filter.bytes, *const f_end = f + filter.size;
    const uint8_t *n = name.bytes, *const n_end = n + name.size;

    if (*n == '$' && *f != '$')
        return false; /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    while (f < f_end) {
        if (*f == '#')
            return true;
        if (*f == '+') {
            while (n < n_end && *n != '/')
                n++;
            f++;
            continue;
        }
        if (n == n_end)
            return f_end - f == 2 && f[0] == '/' && f[1] == '#'; /* "a/#" takes in "a" */
        if (*f++ != *n++)
            return false;
    }
    return n == n_end;
}

bool topic_next_level(struct slice topic, uint32_t *pos, struct slice *ret_level)
{
    if (*pos > topic.size)
        return false;
    const uint8_t *const start = topic.bytes + *pos;
    const uint32_t left = topic.size - *pos;
    const uint8_t *const slash = left > 0 ? memchr(start, '/', left) : NULL;
    *ret_level = slice_of(start, slash ? (size_t)(slash - start) : left);
    *pos += ret_level->size + 1;
    return true;
}

bool topic_covers(struct slice filter, struct slice other)
{
    const struct slice one = slice_str("+"), rest = slice_str("#");
    struct slice wide, narrow;
    uint32_t wide_pos = 0, narrow_pos = 0;
    ASSERT(filter.size > 0);
    ASSERT(other.size > 0);
    if (other.bytes[0] == '$' && filter.bytes[0] != '$')
        return false; /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    while (topic_next_level(filter, &wide_pos, &wide)) {
        if (slice_equal(wide, rest))
            return true;
        if (!topic_next_level(other, &narrow_pos, &narrow) || slice_equal(narrow, rest))
            return false;
        if (!slice_equal(wide, one) && !slice_equal(wide, narrow))
            return false;
    }
    return !topic_next_level(other, &narrow_pos, &narrow);
}

bool topic_overlaps(struct slice filter, struct slice other)
{
    const struct slice one = slice_str("+"), rest = slice_str("#");
    struct slice left, right;
    uint32_t left_pos = 0, right_pos = 0;
    ASSERT(filter.size > 0);
    ASSERT(other.size > 0);
    const bool wild = filter.bytes[0] == '+' || filter.bytes[0] == '#';
    const bool other_wild = other.bytes[0] == '+' || other.bytes[0] == '#';
    if ((wild && other.bytes[0] == '$') || (other_wild && filter.bytes[0] == '$'))
        return false; /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    for (;;) {
        const bool more = topic_next_level(filter, &left_pos, &left);
        const bool other_more = topic_next_level(other, &right_pos, &right);
        if ((more && slice_equal(left, rest)) || (other_more && slice_equal(right, rest)))
            return true; /* the rest may be missing: "a" is matched by "a/#" */
        if (!more || !other_more)
            return more == other_more;
        if (!slice_equal(left, one) && !slice_equal(right, one) && !slice_equal(left, right))
            return false;
    }
}

struct slice topic_first(struct slice topic)
{
    struct slice level;
    uint32_t pos = 0;
    (void)topic_next_level(topic, &pos, &level);
    return level;
}

bool topic_has_wildcard(struct slice filter)
{
    return contains(filter, '+') || contains(filter, '#');
}

int topic_share_parse(struct slice filter, struct topic_share *ret_share)
{
    const uint32_t prefix = sizeof SHARE_PREFIX - 1;
    if (filter.size < prefix || memcmp(filter.bytes, SHARE_PREFIX, prefix) != 0)
        return ERR_NOTFOUND;
    struct slice group;
    uint32_t pos = prefix;
    (void)topic_next_level(filter, &pos, &group);
    if (group.size == 0 || topic_has_wildcard(group) || pos > filter.size)
        return ERR_INVALID; /* [MQTT5-4.8.2-1] [MQTT5-4.8.2-2] */
    const struct slice rest = slice_of(filter.bytes + pos, filter.size - pos);
    if (topic_filter_check(rest, TOPIC_NO_LIMIT) < 0)
        return ERR_INVALID;
    *ret_share = (struct topic_share){.group = group, .filter = rest};
    return 0;
}

bool topic_p2p_parse(struct slice name, struct slice *ret_first, struct slice *ret_client_id)
{
    const struct slice first = topic_first(name);
    const uint32_t infix = sizeof P2P_LEVEL - 1;
    const uint32_t left = name.size - first.size;
    if (left <= infix || memcmp(name.bytes + first.size, P2P_LEVEL, infix) != 0)
        return false;
    *ret_first = first;
    *ret_client_id = slice_of(name.bytes + first.size + infix, left - infix);
    return true;
}
