#include "admin/params.h"

#include <inttypes.h>
#include <string.h>

static const json_t *get(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);
    return json_is_null(value) ? NULL : value;
}

static struct slice text_of(const json_t *value)
{
    return slice_of(json_string_value(value), json_string_length(value));
}

bool params_text(struct request *request, const json_t *params, const char *name,
                 bool empty_allowed, struct slice *ret_text)
{
    const json_t *value = get(params, name);
    if (!value) {
        actions_fail(request, "MissingParameter", "the parameter %s is missing", name);
        return false;
    }
    if (!json_is_string(value) || (!empty_allowed && json_string_length(value) == 0)) {
        actions_fail(request, "InvalidParameterValue", "%s must be a %sstring", name,
                     empty_allowed ? "" : "non-empty ");
        return false;
    }
    *ret_text = text_of(value);
    return true;
}

/* Characters of UTF-8 that is known to be well-formed. */
static size_t character_count(struct slice text)
{
    size_t count = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        count += (text.bytes[i] & 0xc0) != 0x80;
    }
    return count;
}

bool params_optional_text(struct request *request, const json_t *params, const char *name,
                          size_t size_max, struct slice *ret_text)
{
    const json_t *value = get(params, name);
    if (!value) {
        *ret_text = (struct slice){0};
        return true;
    }
    if (!json_is_string(value) || character_count(text_of(value)) > size_max) {
        actions_fail(request, "InvalidParameterValue",
                     "%s must be a string of at most %zu characters", name, size_max);
        return false;
    }
    *ret_text = text_of(value);
    return true;
}

/* Digits only; false for anything else, and beyond 18 digits. */
static bool parse_digits(struct slice text, int64_t *ret_value)
{
    int64_t value = 0;
    if (text.size == 0 || text.size > 18) {
        return false;
    }
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return false;
        }
        value = value * 10 + (text.bytes[i] - '0');
    }
    *ret_value = value;
    return true;
}

bool params_integer(struct request *request, const json_t *params, const char *name,
                    struct param_range range, int64_t *ret_value)
{
    const json_t *value = get(params, name);
    int64_t number = range.fallback;
    bool sound = true;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (value) {
        sound = json_is_string(value) && parse_digits(text_of(value), &number);
    } else {
        *ret_value = number;
        return true;
    }
    if (!sound || number < range.min || number > range.max) {
        actions_fail(request, "InvalidParameterValue",
                     "%s must be a number from %" PRId64 " to %" PRId64, name, range.min,
                     range.max);
        return false;
    }
    *ret_value = number;
    return true;
}

bool params_bool(struct request *request, const json_t *params, const char *name, bool *ret_value)
{
    const json_t *value = get(params, name);
    if (value && !json_is_boolean(value)) {
        actions_fail(request, "InvalidParameterValue", "%s must be true or false", name);
        return false;
    }
    *ret_value = json_is_true(value);
    return true;
}

static bool is_known(const char *const *known, const char *name)
{
    for (; *known; known++) {
        if (strcmp(*known, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A filter that is well-formed: {Name: one of known, Values: [text, …]}. */
static bool filter_is_sound(const json_t *filter, const char *const *known)
{
    const char *name = json_string_value(json_object_get(filter, "Name"));
    const json_t *values = json_object_get(filter, "Values");
    if (!name || !is_known(known, name) || json_array_size(values) == 0) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        if (!json_is_string(json_array_get(values, i))) {
            return false;
        }
    }
    return true;
}

bool params_filter(struct request *request, const json_t *params, const char *const *known,
                   const char *name, const json_t **ret_values)
{
    const json_t *filters = get(params, "Filters");
    const json_t *found = NULL;
    bool sound = !filters || json_is_array(filters);
    for (size_t i = 0; sound && i < json_array_size(filters); i++) {
        const json_t *filter = json_array_get(filters, i);
        sound = filter_is_sound(filter, known);
        if (sound && strcmp(json_string_value(json_object_get(filter, "Name")), name) == 0) {
            found = json_object_get(filter, "Values");
        }
    }
    if (!sound) {
        actions_fail(request, "InvalidParameterValue",
                     "Filters must be a list of {Name, Values: [text, ...]} with names such as %s",
                     known[0]);
        return false;
    }
    *ret_values = found;
    return true;
}
