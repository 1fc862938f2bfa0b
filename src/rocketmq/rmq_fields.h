/* Fields: the named values of a command ("extFields"), all of them text.
 *
 * Names and values are borrowed: from constants, from the caller, from the frame they were read in.
 * Numbers that are added are written into the fields' own room. Of two fields with one name the
 * first counts. Thread: owner's.
 */
#pragma once

#include "base/buf.h"

#define RMQ_FIELDS_MAX       64u
#define RMQ_FIELD_NUMBERS    24u /* of these may be numbers, */
#define RMQ_FIELD_DIGITS_MAX 21u /* of so many bytes each, "-9223372036854775808" and a NUL */

struct rmq_field {
    struct slice name, value;
};

struct rmq_fields {
    uint32_t count, number_count;
    struct rmq_field items[RMQ_FIELDS_MAX];
    char numbers[RMQ_FIELD_NUMBERS][RMQ_FIELD_DIGITS_MAX];
};

void rmq_fields_clear(struct rmq_fields *fields);
/* Adding more than there is room for is a bug. name: a constant. */
void rmq_fields_add(struct rmq_fields *fields, const char *name, struct slice value);
void rmq_fields_add_text(struct rmq_fields *fields, const char *name, const char *value);
void rmq_fields_add_int(struct rmq_fields *fields, const char *name, int64_t value);
void rmq_fields_add_bool(struct rmq_fields *fields, const char *name, bool value);

/* The value, or one whose bytes are NULL. */
struct slice rmq_fields_find(const struct rmq_fields *fields, const char *name);
/* Returns 0; ERR_NOTFOUND; ERR_MALFORMED: it is no decimal number of 64 bits. */
MUST_CHECK int rmq_fields_int(const struct rmq_fields *fields, const char *name,
                              int64_t *ret_value);
/* As the above, for any text. Thread: any. */
MUST_CHECK int rmq_fields_parse_int(struct slice text, int64_t *ret_value);
