/* Parsing is by hand because strtoull takes signs, blanks and other bases that no setting wants. */
#include "app/value.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

#define KI UINT64_C(1024)
#define KK UINT64_C(1000)

static const struct unit size_units[] = {
    {"B", 1},
    {"K", KI},
    {"KiB", KI},
    {"M", KI *KI},
    {"MiB", KI *KI},
    {"G", KI *KI *KI},
    {"GiB", KI *KI *KI},
    {"T", KI *KI *KI *KI},
    {"TiB", KI *KI *KI *KI},
    {"KB", KK},
    {"MB", KK *KK},
    {"GB", KK *KK *KK},
    {"TB", KK *KK *KK *KK},
};

static const struct unit duration_units[] = {
    {"ms", 1},        {"s", KK},         {"m", 60 * KK},
    {"h", 3600 * KK}, {"d", 86400 * KK}, {"w", 7 * 86400 * KK},
};

/* Reads digits at *text and moves on behind them. */
static int read_number(const char **text, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;
    if (*at < '0' || *at > '9') {
        return ERR_INVALID;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return ERR_INVALID;
        }
        number = number * 10 + digit;
    }
    *text = at;
    *ret_number = number;
    return 0;
}

static int multiply(uint64_t number, uint64_t factor, uint64_t *ret_product)
{
    if (number > UINT64_MAX / factor) {
        return ERR_INVALID;
    }
    *ret_product = number * factor;
    return 0;
}

int value_count(const char *text, uint64_t *ret_count)
{
    uint64_t number;
    const int err = read_number(&text, &number);
    if (err < 0 || *text != '\0') {
        return ERR_INVALID;
    }
    *ret_count = number;
    return 0;
}

int value_size(const char *text, uint64_t *ret_bytes)
{
    uint64_t number;
    if (read_number(&text, &number) < 0) {
        return ERR_INVALID;
    }
    text += *text == ' ';
    if (*text == '\0') {
        *ret_bytes = number;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(size_units); i++) {
        if (strcasecmp(text, size_units[i].name) == 0) {
            return multiply(number, size_units[i].factor, ret_bytes);
        }
    }
    return ERR_INVALID;
}

/* Reads one unit of time at *text; `m` and `ms` are told apart by what follows. */
static int read_time_unit(const char **text, uint64_t *ret_factor)
{
    const size_t size = strspn(*text, "mshdw");
    for (size_t i = 0; i < ARRAY_COUNT(duration_units); i++) {
        const char *name = duration_units[i].name;
        if (strlen(name) == size && memcmp(*text, name, size) == 0) {
            *text += size;
            *ret_factor = duration_units[i].factor;
            return 0;
        }
    }
    return ERR_INVALID;
}

int value_duration(const char *text, uint64_t *ret_ms)
{
    uint64_t total = 0;
    uint64_t factor_last = UINT64_MAX;
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    do {
        uint64_t number, factor, part;
        if (read_number(&text, &number) < 0 || read_time_unit(&text, &factor) < 0 ||
            factor >= factor_last || multiply(number, factor, &part) < 0 ||
            total > UINT64_MAX - part) {
            return ERR_INVALID;
        }
        total += part;
        factor_last = factor;
    } while (*text != '\0');
    *ret_ms = total;
    return 0;
}

int value_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"true", "yes", "on"};
    static const char *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret_value = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return ERR_INVALID;
}

/* Bytes up to the next comma outside of brackets and quotes; -1 when they do not pair up. */
static ptrdiff_t item_extent(const char *text, size_t size)
{
    size_t depth = 0;
    char quote = '\0';
    size_t i = 0;
    for (; i < size && (depth > 0 || quote != '\0' || text[i] != ','); i++) {
        if (quote != '\0') {
            quote = text[i] == quote ? '\0' : quote;
        } else if (text[i] == '"' || text[i] == '\'') {
            quote = text[i];
        } else if (text[i] == '[') {
            depth++;
        } else if (text[i] == ']' && depth-- == 0) {
            return -1;
        }
    }
    return depth > 0 || quote != '\0' ? -1 : (ptrdiff_t)i;
}

/* Hands one item over without the blanks and quotes around it. */
static int give_item(const char *text, size_t size, value_item_fn *each, void *data)
{
    while (size > 0 && *text == ' ') {
        text++;
        size--;
    }
    while (size > 0 && text[size - 1] == ' ') {
        size--;
    }
    if (size >= 2 && (*text == '"' || *text == '\'') && text[size - 1] == *text) {
        text++;
        size -= 2;
    }
    if (size == 0) {
        return ERR_INVALID;
    }
    char *item = mem_try_copy(text, size);
    if (!item) {
        return ERR_NOMEM;
    }
    const int err = each(data, item);
    mem_free(item);
    return err < 0 ? err : 0;
}

int value_list(const char *text, value_item_fn *each, void *data)
{
    size_t size = strlen(text);
    if (size == 0 || text[0] != '[') {
        return give_item(text, size, each, data);
    }
    if (size < 2 || text[size - 1] != ']') {
        return ERR_INVALID;
    }
    text++;
    size -= 2;
    if (strspn(text, " ") >= size) {
        return 0;
    }
    for (;;) {
        const ptrdiff_t extent = item_extent(text, size);
        if (extent < 0) {
            return ERR_INVALID;
        }
        const int err = give_item(text, (size_t)extent, each, data);
        if (err < 0 || (size_t)extent == size) {
            return err;
        }
        text += extent + 1;
        size -= (size_t)extent + 1;
    }
}

static void add_unit(struct strbuf *out, uint64_t value, const struct unit *units, size_t count)
{
    const struct unit *best = &units[0];
    for (size_t i = 0; i < count; i++) {
        if (value % units[i].factor == 0 && units[i].factor >= best->factor) {
            best = &units[i];
        }
    }
    strbuf_addf(out, "%" PRIu64 "%s", value / best->factor, best->name);
}

void value_add_size(struct strbuf *out, uint64_t bytes)
{
    static const struct unit binary[] = {
        {"B", 1}, {"KiB", KI}, {"MiB", KI * KI}, {"GiB", KI * KI * KI}, {"TiB", KI * KI * KI * KI},
    };
    if (bytes == 0) {
        strbuf_add(out, "0");
        return;
    }
    add_unit(out, bytes, binary, ARRAY_COUNT(binary));
}

void value_add_duration(struct strbuf *out, uint64_t ms)
{
    if (ms == 0) {
        strbuf_add(out, "0");
        return;
    }
    /* Without weeks: people say 7d. */
    add_unit(out, ms, duration_units, ARRAY_COUNT(duration_units) - 1);
}
