/* Block rules: clients that may not connect whoever they say they are, until the rule expires.
 *
 * A rule looks at one thing: client ID, user name or address. Its pattern and its excludes may have
 * `*` (any characters) and `?` (one); those of addresses may be ranges such as 10.0.0.0/8 instead.
 * Built field by field as a struct rule; pure; any thread.
 * Source: reference of TDMQ for MQTT, sections 6 and 11 (CreateBlockRule).
 */
#pragma once

#include "auth/pattern.h"

#include <jansson.h>

#define BLOCK_EXCLUDES_MAX 3u
#define BLOCK_NAME_MAX     64u /* letters, digits and hyphens */
#define BLOCK_REMARK_MAX   128u

enum block_type { BLOCK_CLIENT_ID = 1, BLOCK_USERNAME = 2, BLOCK_ADDRESS = 3 }; /* as in the API */

struct block_pattern {
    struct pattern *pattern; /* owned; of a range its text only */
    struct network network;
    bool is_network;
};

struct block {
    char *name, *remark; /* owned; remark may be NULL */
    uint8_t type;        /* enum block_type; 0: missing */
    uint8_t exclude_count;
    bool has_include;
    struct block_pattern include, excludes[BLOCK_EXCLUDES_MAX];
    uint64_t expire_ms; /* wall clock; 0: never */
    uint64_t created_ms, updated_ms;
};

struct block *block_new(void);
struct block *block_free(struct block *block); /* NULL is fine; returns NULL */

enum block_field {
    BLOCK_TYPE, /* first: it says what the patterns may be */
    BLOCK_NAME,
    BLOCK_INCLUDE,
    BLOCK_EXCLUDES,
    BLOCK_EXPIRE_TIME,
    BLOCK_REMARK,
    BLOCK_FIELD_COUNT,
};

/* "expire_time" in a file, "ExpireTime" in the API. */
const char *block_field_name(enum block_field field, bool in_api);
/* Sets a field from `count` texts; only excludes take more than one. expire_time: milliseconds
 * since 1970, or "2026-12-31T23:59:59Z". BLOCK_TYPE must come before patterns. Returns 0;
 * ERR_INVALID with what is allowed; ERR_NOMEM. */
MUST_CHECK int block_set(struct block *block, enum block_field field, const struct slice *items,
                         size_t count, struct errmsg *reterr);
/* Returns 0, or ERR_INVALID with what is missing. */
MUST_CHECK int block_check(const struct block *block, bool in_api, struct errmsg *reterr);
/* Whether a rule about addresses can match any; for what is new, not for what was stored. Returns
 * 0, or ERR_INVALID with what is allowed. */
MUST_CHECK int block_check_addresses(const struct block *block, bool in_api, struct errmsg *reterr);

/* From the parameters of CreateBlockRule, or a BlockRuleItem; as rule_json_read. */
MUST_CHECK int block_json_read(const json_t *object, struct block **ret_block,
                               struct errmsg *reterr);
/* A BlockRuleItem; NULL when out of memory. */
json_t *block_json_item(const struct block *block);

bool block_expired(const struct block *block, uint64_t now_ms);
/* Whether it keeps this client out; one that has expired does not. */
bool block_has(const struct block *block, const struct facts *facts, uint64_t now_ms);
