#include "app/config_key.h"

#include "app/value.h"
#include "base/mem.h"

#include <string.h>

#define START  WHEN_START
#define RELOAD WHEN_RELOAD

/* A word of config.def: the kind, and whether it is secret. */
#define WORD_BOOL        KIND_BOOL, false
#define WORD_COUNT       KIND_COUNT, false
#define WORD_SIZE        KIND_SIZE, false
#define WORD_DURATION    KIND_DURATION, false
#define WORD_CHOICE      KIND_CHOICE, false
#define WORD_TEXT        KIND_TEXT, false
#define WORD_LIST        KIND_LIST, false
#define WORD_SECRET_TEXT KIND_TEXT, true
#define WORD_SECRET_LIST KIND_LIST, true

const struct config_key config_keys[] = {
#define X(field, kind, name, fallback, tdmq, range, when, help)                                    \
    {name, fallback, tdmq, range, help, offsetof(struct config, field), WORD_##kind, when},
#include "app/config.def"
#undef X
};

const size_t config_key_count = ARRAY_COUNT(config_keys);

#undef START
#undef RELOAD

const struct config_key *config_key_find(const char *name)
{
    if (strcmp(name, "store.engine") == 0) {
        name = "store";
    }
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_keys[i].name, name) == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}

#define WORD_MAX 64u

/* Levenshtein distance of two short words, in one row. */
static size_t word_distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1];
    const size_t b_size = strlen(b);
    for (size_t k = 0; k <= b_size; k++) {
        row[k] = k;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t k = 0; k < b_size; k++) {
            const size_t change = diagonal + (a[i] != b[k]);
            diagonal = row[k + 1];
            row[k + 1] = MIN(change, MIN(row[k], row[k + 1]) + 1);
        }
    }
    return row[b_size];
}

const struct config_key *config_key_nearest(const char *name)
{
    const struct config_key *best = NULL;
    const size_t size = strlen(name);
    size_t best_distance = MAX(size / 3, 2u) + 1;
    if (size > WORD_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < config_key_count; i++) {
        const char *full = config_keys[i].name;
        const char *last = strrchr(full, '.');
        const size_t distance = last && strcmp(last + 1, name) == 0 ? 0 : word_distance(name, full);
        if (distance < best_distance) {
            best = &config_keys[i];
            best_distance = distance;
        }
    }
    return best;
}

static void *field_of(const struct config_key *key, struct config *config)
{
    return (char *)config + key->offset;
}

static const void *const_field_of(const struct config_key *key, const struct config *config)
{
    return (const char *)config + key->offset;
}

static int parse_number(const struct config_key *key, const char *text, uint64_t *ret_number)
{
    switch (key->kind) {
    case KIND_COUNT:
        return value_count(text, ret_number);
    case KIND_SIZE:
        return value_size(text, ret_number);
    case KIND_DURATION:
        return value_duration(text, ret_number);
    case KIND_BOOL:
    case KIND_CHOICE:
    case KIND_TEXT:
    case KIND_LIST:
        break;
    }
    return ERR_INVALID;
}

/* Takes the "min..max" of a key apart; the texts are as config.def has them. */
static void range_of(const struct config_key *key, char min[32], char max[32])
{
    const char *dots = strstr(key->range, "..");
    ASSERT(dots);
    const size_t min_size = (size_t)(dots - key->range);
    const size_t max_size = strlen(dots + 2);
    ASSERT(min_size < 32);
    ASSERT(max_size < 32);
    memcpy(min, key->range, min_size);
    min[min_size] = '\0';
    memcpy(max, dots + 2, max_size + 1);
}

static int apply_number(const struct config_key *key, const char *text, uint64_t *ret_number)
{
    char min_text[32], max_text[32];
    uint64_t number, min, max;
    range_of(key, min_text, max_text);
    if (parse_number(key, text, &number) < 0) {
        return ERR_INVALID;
    }
    if (parse_number(key, min_text, &min) < 0 || parse_number(key, max_text, &max) < 0 ||
        number < min || number > max) {
        return ERR_INVALID;
    }
    *ret_number = number;
    return 0;
}

static int apply_choice(const struct config_key *key, const char *text, int *ret_index)
{
    const size_t size = strlen(text);
    const char *word = key->range;
    for (int index = 0; word; index++) {
        const char *bar = strchr(word, '|');
        const size_t word_size = bar ? (size_t)(bar - word) : strlen(word);
        if (word_size == size && memcmp(word, text, size) == 0) {
            *ret_index = index;
            return 0;
        }
        word = bar ? bar + 1 : NULL;
    }
    return ERR_INVALID;
}

static int apply_list(const struct setting *setting, struct config_list *list)
{
    struct config_list copy = {0};
    copy.items = mem_try_alloc((setting->item_count + 1) * sizeof(*copy.items));
    if (!copy.items) {
        return ERR_NOMEM;
    }
    for (; copy.count < setting->item_count; copy.count++) {
        const char *item = setting->items[copy.count];
        copy.items[copy.count] = mem_try_copy(item, strlen(item));
        if (!copy.items[copy.count]) {
            break;
        }
    }
    if (copy.count < setting->item_count) {
        while (copy.count > 0) {
            mem_free(copy.items[--copy.count]);
        }
        mem_free(copy.items);
        return ERR_NOMEM;
    }
    *list = copy;
    return 0;
}

static int apply_scalar(const struct config_key *key, const char *text, struct config *config)
{
    void *field = field_of(key, config);
    switch (key->kind) {
    case KIND_BOOL:
        return value_bool(text, field);
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_DURATION:
        return apply_number(key, text, field);
    case KIND_CHOICE:
        return apply_choice(key, text, field);
    case KIND_TEXT: {
        char *copy = mem_try_copy(text, strlen(text));
        if (!copy) {
            return ERR_NOMEM;
        }
        config_key_clear(key, config);
        *(char **)field = copy;
        return 0;
    }
    case KIND_LIST:
        break;
    }
    return ERR_INVALID;
}

int config_key_apply(const struct config_key *key, const struct setting *setting,
                     struct config *config, struct strbuf *allowed)
{
    int err;
    if (key->kind == KIND_LIST) {
        struct config_list list;
        err = apply_list(setting, &list);
        if (err == 0) {
            config_key_clear(key, config);
            *(struct config_list *)field_of(key, config) = list;
        }
    } else if (setting->is_list || setting->item_count != 1) {
        err = ERR_INVALID;
    } else {
        err = apply_scalar(key, setting->items[0], config);
    }
    if (err == ERR_INVALID) {
        config_key_add_allowed(key, allowed);
    }
    return err;
}

void config_key_clear(const struct config_key *key, struct config *config)
{
    if (key->kind == KIND_TEXT) {
        char **text = field_of(key, config);
        mem_free(*text);
        *text = NULL;
    } else if (key->kind == KIND_LIST) {
        struct config_list *list = field_of(key, config);
        for (size_t i = 0; i < list->count; i++) {
            mem_free(list->items[i]);
        }
        mem_free(list->items);
        *list = (struct config_list){0};
    }
}

static bool list_equal(const struct config_list *a, const struct config_list *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0) {
            return false;
        }
    }
    return true;
}

bool config_key_equal(const struct config_key *key, const struct config *a, const struct config *b)
{
    const void *left = const_field_of(key, a);
    const void *right = const_field_of(key, b);
    switch (key->kind) {
    case KIND_BOOL:
        return *(const bool *)left == *(const bool *)right;
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_DURATION:
        return *(const uint64_t *)left == *(const uint64_t *)right;
    case KIND_CHOICE:
        return *(const int *)left == *(const int *)right;
    case KIND_TEXT:
        return strcmp(*(char *const *)left, *(char *const *)right) == 0;
    case KIND_LIST:
        return list_equal(left, right);
    }
    return false;
}

static void add_number_range(const struct config_key *key, const char *what, const char *example,
                             struct strbuf *out)
{
    char min[32], max[32];
    range_of(key, min, max);
    strbuf_addf(out, "%s from %s to %s%s", what, min, max, example);
}

void config_key_add_allowed(const struct config_key *key, struct strbuf *out)
{
    switch (key->kind) {
    case KIND_BOOL:
        strbuf_add(out, "true or false");
        break;
    case KIND_COUNT:
        add_number_range(key, "a whole number", "", out);
        break;
    case KIND_SIZE:
        add_number_range(key, "a size", ", such as 512KiB or 2GiB", out);
        break;
    case KIND_DURATION:
        add_number_range(key, "a duration", ", such as 500ms, 30s or 3d", out);
        break;
    case KIND_CHOICE:
        strbuf_add(out, "one of ");
        for (const char *at = key->range; *at != '\0'; at++) {
            strbuf_add_bytes(out, *at == '|' ? ", " : at, *at == '|' ? 2 : 1);
        }
        break;
    case KIND_TEXT:
        strbuf_add(out, key->range);
        break;
    case KIND_LIST:
        strbuf_addf(out, "a list of %s", key->range);
        break;
    }
}
