#include "auth/block.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NUMBER_ROOM   24
#define EXPIRE_MS_MAX UINT64_C(32503680000000) /* the year 3000 */

struct block *block_new(void)
{
    return mem_new(sizeof(struct block));
}

struct block *block_free(struct block *block)
{
    if (!block)
        return NULL;
    (void)pattern_free(block->include.pattern);
    for (uint8_t i = 0; i < block->exclude_count; i++)
        (void)pattern_free(block->excludes[i].pattern);
    mem_free(block->name);
    mem_free(block->remark);
    mem_free(block);
    return NULL;
}

/* --- fields -------------------------------------------------------------------------------------
 */

static const struct {
    const char *file, *api;
} fields[BLOCK_FIELD_COUNT] = {
    [BLOCK_TYPE] = {"type", "Type"},
    [BLOCK_NAME] = {"name", "Name"},
    [BLOCK_INCLUDE] = {"include", "Include"},
    [BLOCK_EXCLUDES] = {"excludes", "Excludes"},
    [BLOCK_EXPIRE_TIME] = {"expire_time", "ExpireTime"},
    [BLOCK_REMARK] = {"remark", "Remark"},
};

const char *block_field_name(enum block_field field, bool in_api)
{
    return in_api ? fields[field].api : fields[field].file;
}

static int refuse(struct errmsg *reterr, struct slice value, const char *allowed)
{
    errmsg_wrap(reterr, "'%.*s' is not allowed; allowed is %s", (int)MIN(value.size, 100u),
                (const char *)value.bytes, allowed);
    return ERR_INVALID;
}

static int set_type(struct block *block, struct slice item, struct errmsg *reterr)
{
    static const char *const names[] = {NULL, "client_id", "username", "ip_address"};
    for (uint8_t i = BLOCK_CLIENT_ID; i <= BLOCK_ADDRESS; i++) {
        const char digit[] = {(char)('0' + i), '\0'};
        if (slice_equal(item, slice_str(names[i])) || slice_equal(item, slice_str(digit))) {
            block->type = i;
            return 0;
        }
    }
    return refuse(reterr, item, "client_id (or 1), username (or 2) and ip_address (or 3)");
}

static int set_name(struct block *block, struct slice item, struct errmsg *reterr)
{
    bool sound = item.size >= 1 && item.size <= BLOCK_NAME_MAX;
    for (uint32_t i = 0; i < item.size && sound; i++) {
        const uint8_t c = item.bytes[i];
        sound =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    }
    if (!sound)
        return refuse(reterr, item, "a name of 1 to 64 letters, digits and hyphens");
    block->name = mem_try_copy(item.bytes, item.size);
    return block->name ? 0 : ERR_NOMEM;
}

static int set_remark(struct block *block, struct slice item, struct errmsg *reterr)
{
    if (item.size > BLOCK_REMARK_MAX * 4 || !utf8_check(item.bytes, item.size))
        return refuse(reterr, item, "a text of at most 128 characters");
    block->remark = mem_try_copy(item.bytes, item.size);
    return block->remark ? 0 : ERR_NOMEM;
}

/* A number of exactly `digits` digits at *at; -1 for anything else. */
static int take_number(struct slice text, uint32_t *at, uint32_t digits)
{
    int value = 0;
    for (uint32_t i = 0; i < digits; i++, (*at)++) {
        if (*at >= text.size || text.bytes[*at] < '0' || text.bytes[*at] > '9')
            return -1;
        value = value * 10 + (text.bytes[*at] - '0');
    }
    return value;
}

/* "2026-12-31T23:59:59Z". Returns milliseconds, or 0 for anything else. */
static uint64_t parse_date(struct slice text)
{
    static const char form[] = "4-2-2T2:2:2Z";
    int parts[6] = {0};
    uint32_t at = 0, count = 0;
    for (const char *c = form; *c; c++) {
        if (*c >= '2' && *c <= '4') {
            parts[count] = take_number(text, &at, (uint32_t)(*c - '0'));
            if (parts[count++] < 0)
                return 0;
        } else if (at >= text.size || text.bytes[at++] != (uint8_t)*c) {
            return 0;
        }
    }
    struct tm tm = {.tm_year = parts[0] - 1900,
                    .tm_mon = parts[1] - 1,
                    .tm_mday = parts[2],
                    .tm_hour = parts[3],
                    .tm_min = parts[4],
                    .tm_sec = parts[5]};
    const bool sound = at == text.size && parts[1] >= 1 && parts[1] <= 12 && parts[2] >= 1 &&
                       parts[2] <= 31 && parts[3] <= 23 && parts[4] <= 59 && parts[5] <= 59;
    const time_t seconds = sound ? timegm(&tm) : -1;
    /* timegm carries over what a month does not have. */
    return seconds > 0 && tm.tm_mday == parts[2] ? (uint64_t)seconds * 1000 : 0;
}

static int set_expire_time(struct block *block, struct slice item, struct errmsg *reterr)
{
    uint64_t ms = 0;
    bool digits = item.size > 0 && item.size <= 15;
    for (uint32_t i = 0; i < item.size && digits; i++) {
        digits = item.bytes[i] >= '0' && item.bytes[i] <= '9';
        ms = ms * 10 + (uint64_t)(item.bytes[i] - '0');
    }
    if (!digits) {
        ms = parse_date(item);
        digits = ms > 0;
    }
    if (!digits || ms > EXPIRE_MS_MAX)
        return refuse(reterr, item,
                      "a time such as 2026-12-31T23:59:59Z, milliseconds since 1970, or 0: never");
    block->expire_ms = ms;
    return 0;
}

static int make_pattern(const struct block *block, struct slice item, struct block_pattern *ret,
                        struct errmsg *reterr)
{
    struct block_pattern made = {.pattern = NULL};
    made.is_network = block->type == BLOCK_ADDRESS && network_parse(item, &made.network) == 0;
    const int err = pattern_new(PATTERN_BLOCK, item, &made.pattern, reterr);
    if (err == 0)
        *ret = made;
    return err;
}

static int set_excludes(struct block *block, const struct slice *items, size_t count,
                        struct errmsg *reterr)
{
    if (count > BLOCK_EXCLUDES_MAX) {
        errmsg_wrap(reterr, "has more than 3 items");
        return ERR_INVALID;
    }
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++) {
        err = make_pattern(block, items[i], &block->excludes[block->exclude_count], reterr);
        if (err == 0)
            block->exclude_count++;
    }
    return err;
}

static bool is_set(const struct block *block, enum block_field field)
{
    const bool set[BLOCK_FIELD_COUNT] = {
        [BLOCK_TYPE] = block->type != 0,
        [BLOCK_NAME] = block->name,
        [BLOCK_INCLUDE] = block->has_include,
        [BLOCK_EXCLUDES] = block->exclude_count > 0,
        [BLOCK_EXPIRE_TIME] = block->expire_ms != 0,
        [BLOCK_REMARK] = block->remark,
    };
    return set[field];
}

int block_set(struct block *block, enum block_field field, const struct slice *items, size_t count,
              struct errmsg *reterr)
{
    ASSERT(field < BLOCK_FIELD_COUNT);
    if (is_set(block, field)) {
        errmsg_wrap(reterr, "is given twice");
        return ERR_INVALID;
    }
    if (field == BLOCK_EXCLUDES)
        return set_excludes(block, items, count, reterr);
    if (count != 1) {
        errmsg_wrap(reterr, "takes one value, not a list");
        return ERR_INVALID;
    }
    if (field == BLOCK_TYPE)
        return set_type(block, items[0], reterr);
    if (field == BLOCK_NAME)
        return set_name(block, items[0], reterr);
    if (field == BLOCK_EXPIRE_TIME)
        return set_expire_time(block, items[0], reterr);
    if (field == BLOCK_REMARK)
        return set_remark(block, items[0], reterr);
    const int err = make_pattern(block, items[0], &block->include, reterr);
    block->has_include = err == 0;
    return err;
}

int block_check(const struct block *block, bool in_api, struct errmsg *reterr)
{
    static const enum block_field needed[] = {BLOCK_NAME, BLOCK_TYPE, BLOCK_INCLUDE};
    for (size_t i = 0; i < ARRAY_COUNT(needed); i++) {
        if (!is_set(block, needed[i])) {
            errmsg_wrap(reterr, "%s is missing", block_field_name(needed[i], in_api));
            return ERR_INVALID;
        }
    }
    return 0;
}

static bool can_be_address(const struct block_pattern *pattern)
{
    bool has_wildcard = false;
    const struct slice text = pattern_text(pattern->pattern);
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.bytes[i] == '\0' || !strchr("0123456789abcdef.:*?", text.bytes[i]))
            return false;
        has_wildcard |= text.bytes[i] == '*' || text.bytes[i] == '?';
    }
    return has_wildcard;
}

static int check_address(const struct block_pattern *pattern, const char *field,
                         struct errmsg *reterr)
{
    if (pattern->is_network || can_be_address(pattern))
        return 0;
    (void)refuse(reterr, pattern_text(pattern->pattern),
                 "an address, a range such as 10.0.0.0/8, or a pattern such as 10.0.*");
    errmsg_wrap(reterr, "%s", field);
    return ERR_INVALID;
}

int block_check_addresses(const struct block *block, bool in_api, struct errmsg *reterr)
{
    if (block->type != BLOCK_ADDRESS)
        return 0;
    int err = check_address(&block->include, block_field_name(BLOCK_INCLUDE, in_api), reterr);
    for (uint8_t i = 0; i < block->exclude_count && err == 0; i++)
        err = check_address(&block->excludes[i], block_field_name(BLOCK_EXCLUDES, in_api), reterr);
    return err;
}

/* --- JSON ---------------------------------------------------------------------------------------
 */

static bool scalar_text(const json_t *value, char *room, struct slice *ret_text)
{
    *ret_text = slice_of(json_string_value(value), json_string_length(value));
    if (json_is_integer(value)) {
        (void)snprintf(room, NUMBER_ROOM, "%lld", (long long)json_integer_value(value));
        *ret_text = slice_str(room);
    }
    return json_is_string(value) || json_is_integer(value);
}

static int set_member(struct block *block, enum block_field field, const json_t *value,
                      struct errmsg *reterr)
{
    char numbers[BLOCK_EXCLUDES_MAX + 1][NUMBER_ROOM];
    struct slice items[BLOCK_EXCLUDES_MAX + 1];
    const bool is_list = json_is_array(value) && field == BLOCK_EXCLUDES;
    const size_t count = is_list ? MIN(json_array_size(value), ARRAY_COUNT(items)) : 1;
    if (!value || json_is_null(value))
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (!scalar_text(is_list ? json_array_get(value, i) : value, numbers[i], &items[i])) {
            errmsg_wrap(reterr, "must be a text or a number");
            return ERR_INVALID;
        }
    }
    if (!is_list && items[0].size == 0)
        return 0;
    return block_set(block, field, items, count, reterr);
}

static uint64_t number_of(const json_t *object, const char *name)
{
    const json_int_t number = json_integer_value(json_object_get(object, name));
    return number > 0 ? (uint64_t)number : 0;
}

int block_json_read(const json_t *object, struct block **ret_block, struct errmsg *reterr)
{
    struct block *block = block_new();
    int err = 0;
    for (int i = 0; i < BLOCK_FIELD_COUNT && err == 0; i++) {
        const enum block_field field = (enum block_field)i;
        const char *name = block_field_name(field, /* in_api= */ true);
        err = set_member(block, field, json_object_get(object, name), reterr);
        if (err < 0)
            errmsg_wrap(reterr, "%s", name);
    }
    if (err == 0)
        err = block_check(block, /* in_api= */ true, reterr);
    if (err < 0) {
        (void)block_free(block);
        return err;
    }
    block->created_ms = number_of(object, "CreateTime");
    block->updated_ms = number_of(object, "UpdateTime");
    *ret_block = block;
    return 0;
}

static json_t *pattern_json(const struct block_pattern *pattern)
{
    const struct slice text = pattern_text(pattern->pattern);
    return json_stringn((const char *)text.bytes, text.size);
}

json_t *block_json_item(const struct block *block)
{
    json_t *item = json_object();
    json_t *excludes = json_array();
    for (uint8_t i = 0; i < block->exclude_count; i++)
        (void)json_array_append_new(excludes, pattern_json(&block->excludes[i]));
    (void)json_object_set_new(item, "Name", json_string(block->name));
    (void)json_object_set_new(item, "Type", json_integer(block->type));
    (void)json_object_set_new(item, "Remark", json_string(block->remark ? block->remark : ""));
    (void)json_object_set_new(item, "Include", pattern_json(&block->include));
    (void)json_object_set_new(item, "Excludes", excludes);
    (void)json_object_set_new(item, "ExpireTime", json_integer((json_int_t)block->expire_ms));
    (void)json_object_set_new(item, "UpdateTime", json_integer((json_int_t)block->updated_ms));
    (void)json_object_set_new(item, "CreateTime", json_integer((json_int_t)block->created_ms));
    return item;
}

/* --- matching -----------------------------------------------------------------------------------
 */

bool block_expired(const struct block *block, uint64_t now_ms)
{
    return block->expire_ms > 0 && block->expire_ms <= now_ms;
}

static bool pattern_has(const struct block_pattern *pattern, const struct facts *facts,
                        struct slice text)
{
    if (pattern->is_network)
        return network_has(&pattern->network, &facts->address);
    return text.size > 0 &&
           pattern_matches(pattern->pattern, (struct pattern_client){.facts = facts}, text);
}

bool block_has(const struct block *block, const struct facts *facts, uint64_t now_ms)
{
    char room[INET6_ADDRSTRLEN] = "";
    struct slice text =
        facts->values[block->type == BLOCK_USERNAME ? FACT_USERNAME : FACT_CLIENT_ID];
    if (block_expired(block, now_ms))
        return false;
    if (block->type == BLOCK_ADDRESS) {
        if (facts->address.family > 0)
            (void)inet_ntop(facts->address.family == 4 ? AF_INET : AF_INET6, facts->address.bytes,
                            room, sizeof room);
        text = slice_str(room);
    }
    if (!pattern_has(&block->include, facts, text))
        return false;
    for (uint8_t i = 0; i < block->exclude_count; i++) {
        if (pattern_has(&block->excludes[i], facts, text))
            return false;
    }
    return true;
}
