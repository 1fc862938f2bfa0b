/* Fuzz target: topics against a model that cuts them into levels first.
 *
 * The input is a filter and a name with a line end between them. Checks and matching must agree
 * with the model, and what the two special forms are taken apart into must put together again.
 */
#include "base/utf8.h"
#include "mqtt/topic.h"

#include <string.h>

#define LEVELS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct levels {
    struct slice level[LEVELS_MAX];
    uint32_t count; /* LEVELS_MAX + 1 when there are more */
};

static void levels_split(struct slice topic, struct levels *ret_levels)
{
    uint32_t start = 0;
    ret_levels->count = 0;
    for (uint32_t i = 0; i <= topic.size; i++) {
        if (i < topic.size && topic.bytes[i] != '/')
            continue;
        if (ret_levels->count == LEVELS_MAX) {
            ret_levels->count++;
            return;
        }
        ret_levels->level[ret_levels->count++] = slice_of(topic.bytes + start, i - start);
        start = i + 1;
    }
}

static bool level_is(struct slice level, const char *text)
{
    return level.size == strlen(text) && memcmp(level.bytes, text, level.size) == 0;
}

static bool model_has(struct slice slice, uint8_t byte)
{
    for (uint32_t i = 0; i < slice.size; i++) {
        if (slice.bytes[i] == byte)
            return true;
    }
    return false;
}

static int model_filter_check(struct slice filter, const struct levels *levels)
{
    if (filter.size == 0)
        return ERR_INVALID;
    if (!utf8_check(filter.bytes, filter.size))
        return ERR_MALFORMED;
    for (uint32_t i = 0; i < levels->count; i++) {
        const struct slice level = levels->level[i];
        const bool wild = model_has(level, '+') || model_has(level, '#');
        if (wild && level.size > 1)
            return ERR_INVALID;
        if (level_is(level, "#") && i + 1 < levels->count)
            return ERR_INVALID;
    }
    return 0;
}

static int model_name_check(struct slice name)
{
    if (name.size == 0)
        return ERR_INVALID;
    if (!utf8_check(name.bytes, name.size))
        return ERR_MALFORMED;
    return model_has(name, '+') || model_has(name, '#') ? ERR_INVALID : 0;
}

static bool model_match(const struct levels *filter, const struct levels *name)
{
    for (uint32_t i = 0; i < filter->count; i++) {
        if (level_is(filter->level[i], "#"))
            return true;
        if (i == name->count)
            return false;
        if (!level_is(filter->level[i], "+") && !slice_equal(filter->level[i], name->level[i]))
            return false;
    }
    return filter->count == name->count;
}

static void special_forms_check(struct slice topic)
{
    struct topic_share share;
    if (topic_share_parse(topic, &share) == 0) {
        ASSERT(share.group.size > 0 && topic_filter_check(share.filter, TOPIC_NO_LIMIT) == 0);
        ASSERT(7 + share.group.size + 1 + share.filter.size == topic.size);
        ASSERT(share.group.bytes == topic.bytes + 7);
        ASSERT(!model_has(share.group, '/') && !topic_has_wildcard(share.group));
    }
    struct slice first, client_id;
    if (topic_p2p_parse(topic, &first, &client_id)) {
        ASSERT(client_id.size > 0 && !model_has(first, '/'));
        ASSERT(first.size + 5 + client_id.size == topic.size);
        ASSERT(memcmp(first.bytes + first.size, "/p2p/", 5) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *const line_end = size > 0 ? memchr(bytes, '\n', size) : NULL;
    if (!line_end)
        return 0;
    const struct slice filter = slice_of(bytes, (size_t)(line_end - bytes));
    const struct slice name = slice_of(line_end + 1, size - filter.size - 1);
    if (filter.size > TOPIC_SIZE_MAX || name.size > TOPIC_SIZE_MAX)
        return 0;
    struct levels filter_levels, name_levels;
    levels_split(filter, &filter_levels);
    levels_split(name, &name_levels);
    special_forms_check(filter);
    special_forms_check(name);
    ASSERT(topic_name_check(name, TOPIC_NO_LIMIT) == model_name_check(name));
    if (filter_levels.count > LEVELS_MAX || name_levels.count > LEVELS_MAX)
        return 0;

    ASSERT(topic_levels(filter) == filter_levels.count);
    ASSERT(topic_filter_check(filter, TOPIC_NO_LIMIT) ==
           model_filter_check(filter, &filter_levels));
    if (topic_filter_check(filter, TOPIC_NO_LIMIT) < 0 || topic_name_check(name, LEVELS_MAX) < 0)
        return 0;
    const bool hidden = name.bytes[0] == '$' && (filter.bytes[0] == '+' || filter.bytes[0] == '#');
    ASSERT(topic_match(filter, name) == (!hidden && model_match(&filter_levels, &name_levels)));

    struct slice level;
    uint32_t pos = 0, count = 0;
    for (; topic_next_level(name, &pos, &level); count++)
        ASSERT(slice_equal(level, name_levels.level[count]));
    ASSERT(count == name_levels.count);
    return 0;
}
