#include "rocketmq/rmq_fields.h"

#include <stdio.h>
#include <string.h>

void rmq_fields_clear(struct rmq_fields *fields)
{
    fields->count = 0;
    fields->number_count = 0;
}

void rmq_fields_add(struct rmq_fields *fields, const char *name, struct slice value)
{
    ASSERT(fields->count < RMQ_FIELDS_MAX);
    fields->items[fields->count++] = (struct rmq_field){slice_str(name), value};
}

void rmq_fields_add_text(struct rmq_fields *fields, const char *name, const char *value)
{
    rmq_fields_add(fields, name, slice_str(value));
}

void rmq_fields_add_int(struct rmq_fields *fields, const char *name, int64_t value)
{
    ASSERT(fields->number_count < RMQ_FIELD_NUMBERS);
    char *digits = fields->numbers[fields->number_count++];
    const int size = snprintf(digits, RMQ_FIELD_DIGITS_MAX, "%lld", (long long)value);
    ASSERT(size > 0 && size < (int)RMQ_FIELD_DIGITS_MAX);
    rmq_fields_add(fields, name, slice_of(digits, (size_t)size));
}

void rmq_fields_add_bool(struct rmq_fields *fields, const char *name, bool value)
{
    rmq_fields_add_text(fields, name, value ? "true" : "false");
}

struct slice rmq_fields_find(const struct rmq_fields *fields, const char *name)
{
    const struct slice wanted = slice_str(name);
    for (uint32_t i = 0; i < fields->count; i++) {
        if (slice_equal(fields->items[i].name, wanted))
            return fields->items[i].value;
    }
    return slice_of(NULL, 0);
}

int rmq_fields_parse_int(struct slice text, int64_t *ret_value)
{
    const bool is_negative = text.size > 0 && text.bytes[0] == '-';
    int64_t value = 0;
    if (text.size == (uint32_t)is_negative)
        return ERR_MALFORMED;
    for (uint32_t i = is_negative; i < text.size; i++) {
        const int digit = text.bytes[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, is_negative ? -digit : digit, &value))
            return ERR_MALFORMED;
    }
    *ret_value = value;
    return 0;
}

int rmq_fields_int(const struct rmq_fields *fields, const char *name, int64_t *ret_value)
{
    const struct slice value = rmq_fields_find(fields, name);
    return value.bytes ? rmq_fields_parse_int(value, ret_value) : ERR_NOTFOUND;
}
