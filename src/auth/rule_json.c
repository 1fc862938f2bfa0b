#include "auth/rule_json.h"

#include "base/strbuf.h"

#include <stdio.h>
#include <string.h>

#define ITEMS_MAX   RULE_RESOURCES_MAX
#define NUMBER_ROOM 24
#define JOINED_MAX  (RULE_RESOURCES_MAX * (PATTERN_TEXT_MAX + 1))

/* The text of a scalar; numbers are written into `room`. Returns 0 or ERR_INVALID. */
static int scalar_text(const json_t *value, char *room, struct slice *ret_text)
{
    if (json_is_string(value)) {
        *ret_text = slice_of(json_string_value(value), json_string_length(value));
    } else if (json_is_boolean(value)) {
        *ret_text = slice_str(json_is_true(value) ? "true" : "false");
    } else if (json_is_integer(value)) {
        (void)snprintf(room, NUMBER_ROOM, "%lld", (long long)json_integer_value(value));
        *ret_text = slice_str(room);
    } else {
        return ERR_INVALID;
    }
    return 0;
}

int rule_json_set(struct rule *rule, enum rule_field field, const json_t *value,
                  struct errmsg *reterr)
{
    char numbers[ITEMS_MAX][NUMBER_ROOM];
    struct slice items[ITEMS_MAX];
    const bool is_list = json_is_array(value);
    const size_t count = is_list ? json_array_size(value) : 1;
    if (!value || json_is_null(value))
        return 0;
    bool sound = count <= ITEMS_MAX;
    for (size_t i = 0; i < count && sound; i++)
        sound = scalar_text(is_list ? json_array_get(value, i) : value, numbers[i], &items[i]) == 0;
    if (!sound) {
        errmsg_wrap(reterr, "must be a text or number, or a list of at most %u of them", ITEMS_MAX);
        return ERR_INVALID;
    }
    const struct rule_value given = {.items = items, .count = count, .is_list = is_list};
    return rule_set(rule, field, given, reterr);
}

static uint64_t number_of(const json_t *object, const char *name)
{
    const json_int_t number = json_integer_value(json_object_get(object, name));
    return number > 0 ? (uint64_t)number : 0;
}

int rule_json_read(const json_t *object, struct rule **ret_rule, struct errmsg *reterr)
{
    struct rule *rule = rule_new();
    int err = 0;
    for (int i = 0; i < RULE_FIELD_COUNT && err == 0; i++) {
        const enum rule_field field = (enum rule_field)i;
        const char *name = rule_field_name(field, /* in_api= */ true);
        err = rule_json_set(rule, field, json_object_get(object, name), reterr);
        if (err < 0)
            errmsg_wrap(reterr, "%s", name);
    }
    if (err == 0)
        err = rule_check(rule, /* is_policy= */ true, /* in_api= */ true, reterr);
    if (err < 0) {
        (void)rule_free(rule);
        return err;
    }
    rule->id = number_of(object, "Id");
    rule->created_ms = number_of(object, "CreatedTime");
    rule->updated_ms = number_of(object, "UpdateTime");
    *ret_rule = rule;
    return 0;
}

static void set_text(json_t *item, const char *name, struct slice text)
{
    (void)json_object_set_new(item, name, json_stringn((const char *)text.bytes, text.size));
}

static void set_number(json_t *item, const char *name, uint64_t number)
{
    (void)json_object_set_new(item, name, json_integer((json_int_t)number));
}

static void set_pattern(json_t *item, const char *name, const struct pattern *pattern)
{
    set_text(item, name, pattern ? pattern_text(pattern) : slice_of("", 0));
}

/* A text with commas between, or a list when a topic has one itself. */
static json_t *resources_json(const struct rule *rule)
{
    struct strbuf joined;
    bool commas = false;
    strbuf_init(&joined, JOINED_MAX);
    json_t *list = json_array();
    for (uint32_t i = 0; i < rule->resource_count; i++) {
        const struct slice text = pattern_text(rule->resources[i]);
        commas |= memchr(text.bytes, ',', text.size) != NULL;
        strbuf_add(&joined, i > 0 ? "," : "");
        strbuf_add_bytes(&joined, text.bytes, text.size);
        (void)json_array_append_new(list, json_stringn((const char *)text.bytes, text.size));
    }
    json_t *result = list;
    if (!commas) {
        json_decref(list);
        result = strbuf_err(&joined) < 0
                     ? NULL
                     : json_stringn(joined.text ? joined.text : "", joined.size);
    }
    strbuf_done(&joined);
    return result;
}

static void set_bits(json_t *item, const char *name, uint8_t bits, const char *const *words)
{
    char text[32];
    struct strbuf out;
    strbuf_init_array(&out, text, sizeof text);
    strbuf_add(&out, "");
    for (int i = 0; i < 3; i++) {
        if (bits & (1u << i))
            strbuf_addf(&out, "%s%s", out.size > 0 ? "," : "", words[i]);
    }
    set_text(item, name, slice_of(text, out.size));
}

json_t *rule_json_item(const struct rule *rule)
{
    static const char *const actions[] = {"connect", "pub", "sub"};
    static const char *const qos[] = {"0", "1", "2"};
    json_t *item = json_object();
    json_t *resources = resources_json(rule);
    if (!item || !resources) {
        json_decref(item);
        json_decref(resources);
        return NULL;
    }
    set_number(item, "Id", rule->id);
    set_text(item, "PolicyName", slice_str(rule->name));
    set_number(item, "Version", 1);
    set_number(item, "Priority", rule->priority);
    set_text(item, "Effect", slice_str(rule->allow ? "allow" : "deny"));
    set_bits(item, "Actions", rule->actions, actions);
    (void)json_object_set_new(item, "Resources", resources);
    set_pattern(item, "ClientId", rule->client_id);
    set_pattern(item, "Username", rule->username);
    set_text(item, "Ip", slice_str(rule->ip ? rule->ip : ""));
    set_bits(item, "Qos", rule->qos, qos);
    set_number(item, "Retain", rule->retain);
    set_text(item, "Remark", slice_str(rule->remark ? rule->remark : ""));
    set_number(item, "CreatedTime", rule->created_ms);
    set_number(item, "UpdateTime", rule->updated_ms);
    return item;
}
