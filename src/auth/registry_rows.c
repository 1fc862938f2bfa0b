#include "auth/registry_rows.h"

#include <string.h>

enum { ROW_VERSION = 1, HEAD_SIZE = 3, TIMES_COUNT = 4, FLAG_CAME_BY_ITSELF = 1 };

/* Head: version, state, flags. Behind it numbers, then texts. */
struct row_parts {
    uint8_t state, flags;
    uint64_t numbers[6];
    struct slice texts[5];
    uint32_t number_count, text_count;
};

static void put_times(struct row_parts *parts, const struct registry_times *times)
{
    parts->numbers[0] = times->created_ms;
    parts->numbers[1] = times->changed_ms;
    parts->numbers[2] = times->activated_ms;
    parts->numbers[3] = times->deactivated_ms;
}

static void get_times(const struct row_parts *parts, struct registry_times *times)
{
    times->created_ms = parts->numbers[0];
    times->changed_ms = parts->numbers[1];
    times->activated_ms = parts->numbers[2];
    times->deactivated_ms = parts->numbers[3];
}

static struct buf *write_row(const struct row_parts *parts)
{
    uint64_t size = HEAD_SIZE + UINT64_C(8) * parts->number_count;
    for (uint32_t i = 0; i < parts->text_count; i++)
        size += 4 + (uint64_t)parts->texts[i].size;
    struct buf *row = size <= META_VALUE_MAX ? buf_try_new((uint32_t)size) : NULL;
    if (!row)
        return NULL;
    uint8_t *at = buf_bytes(row);
    *at++ = ROW_VERSION;
    *at++ = parts->state;
    *at++ = parts->flags;
    for (uint32_t i = 0; i < parts->number_count; i++)
        at = record_put_u64(at, parts->numbers[i]);
    for (uint32_t i = 0; i < parts->text_count; i++) {
        const struct slice text = parts->texts[i];
        for (int byte = 0; byte < 4; byte++)
            *at++ = (uint8_t)(text.size >> 8 * byte);
        if (text.size > 0)
            memcpy(at, text.bytes, text.size);
        at += text.size;
    }
    ASSERT(at == buf_bytes(row) + size);
    return row;
}

/* parts: with the counts wanted. Texts borrow the row. Returns 0 or ERR_CORRUPT. */
static int read_row(struct slice row, struct row_parts *parts)
{
    const uint8_t *at = row.bytes;
    const uint8_t *end = at + row.size;
    if (row.size < HEAD_SIZE + 8 * parts->number_count || at[0] != ROW_VERSION ||
        at[1] < REGISTRY_ACTIVE || at[1] > REGISTRY_PENDING)
        return ERR_CORRUPT;
    parts->state = at[1];
    parts->flags = at[2];
    at += HEAD_SIZE;
    for (uint32_t i = 0; i < parts->number_count; i++, at += 8)
        parts->numbers[i] = record_get_u64(at);
    for (uint32_t i = 0; i < parts->text_count; i++) {
        uint32_t size = 0;
        if (end - at < 4)
            return ERR_CORRUPT;
        for (int byte = 0; byte < 4; byte++)
            size |= (uint32_t)*at++ << 8 * byte;
        if ((uint64_t)(end - at) < size)
            return ERR_CORRUPT;
        parts->texts[i] = slice_of(at, size);
        at += size;
    }
    return at == end ? 0 : ERR_CORRUPT;
}

/* --- a CA ---------------------------------------------------------------------------------------
 */

static struct slice der_of(const struct certificate *certificate)
{
    return slice_of(buf_bytes(certificate->der), buf_size(certificate->der));
}

struct buf *registry_row_of_ca(const struct registry_ca *ca)
{
    struct row_parts parts = {
        .state = (uint8_t)ca->state,
        .texts = {der_of(ca->certificate), der_of(ca->verification)},
        .number_count = TIMES_COUNT,
        .text_count = 2,
    };
    put_times(&parts, &ca->times);
    return write_row(&parts);
}

int registry_read_ca(struct slice row, struct registry_ca *ca)
{
    struct row_parts parts = {.number_count = TIMES_COUNT, .text_count = 2};
    int err = read_row(row, &parts);
    if (err < 0)
        return err;
    ca->state = (enum registry_state)parts.state;
    get_times(&parts, &ca->times);
    err = certificate_parse(&parts.texts[0], 1, &ca->certificate);
    if (err == 0)
        err = certificate_parse(&parts.texts[1], 1, &ca->verification);
    return err == ERR_MALFORMED ? ERR_CORRUPT : err;
}

/* --- a device's certificate ----------------------------------------------------------------------
 */

struct buf *registry_row_of(const struct registry_certificate *certificate)
{
    struct row_parts parts = {
        .state = (uint8_t)certificate->state,
        .flags = certificate->came_by_itself ? FLAG_CAME_BY_ITSELF : 0,
        .texts = {certificate->ca_sn, certificate->client_id, certificate->common_name,
                  certificate->unit, certificate->der},
        .number_count = TIMES_COUNT + 2,
        .text_count = 5,
    };
    put_times(&parts, &certificate->times);
    parts.numbers[TIMES_COUNT] = (uint64_t)certificate->not_before_s;
    parts.numbers[TIMES_COUNT + 1] = (uint64_t)certificate->not_after_s;
    return write_row(&parts);
}

int registry_read(struct slice row, struct registry_certificate *certificate)
{
    struct row_parts parts = {.number_count = TIMES_COUNT + 2, .text_count = 5};
    int err = read_row(row, &parts);
    if (err < 0)
        return err;
    certificate->state = (enum registry_state)parts.state;
    certificate->came_by_itself = parts.flags & FLAG_CAME_BY_ITSELF;
    get_times(&parts, &certificate->times);
    certificate->not_before_s = (int64_t)parts.numbers[TIMES_COUNT];
    certificate->not_after_s = (int64_t)parts.numbers[TIMES_COUNT + 1];
    struct slice *const texts[] = {&certificate->ca_sn, &certificate->client_id,
                                   &certificate->common_name, &certificate->unit,
                                   &certificate->der};
    for (size_t i = 0; i < ARRAY_COUNT(texts) && err == 0; i++)
        err = slice_keep(parts.texts[i], texts[i]);
    return err;
}
