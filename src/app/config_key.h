/* The key table of config.def at run time, and what each kind of value accepts. Private to app. */
#pragma once

#include "app/config.h"

enum config_kind {
    KIND_BOOL,
    KIND_COUNT,
    KIND_SIZE,
    KIND_DURATION,
    KIND_CHOICE,
    KIND_TEXT,
    KIND_LIST,
};

enum config_when { WHEN_START, WHEN_RELOAD };

struct config_key {
    const char *name;
    const char *fallback, *fallback_tdmq; /* defaults; the second may be NULL */
    const char *range, *help;
    size_t offset; /* in struct config */
    enum config_kind kind;
    bool is_secret; /* its value is not to be repeated */
    enum config_when when;
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/* NULL when there is none. `store.engine` is another way to write `store`. */
const struct config_key *config_key_find(const char *name);
/* The key whose name is most like `name`, NULL when none is near. */
const struct config_key *config_key_nearest(const char *name);

/* Checks one setting against its key and stores it in *config, whose old value is freed.
 * Returns 0; ERR_INVALID: *allowed says what would do; ERR_NOMEM. */
MUST_CHECK int config_key_apply(const struct config_key *key, const struct setting *setting,
                                struct config *config, struct strbuf *allowed);
bool config_key_equal(const struct config_key *key, const struct config *a, const struct config *b);
void config_key_clear(const struct config_key *key, struct config *config);

/* Adds what a key accepts, for people: "a duration from 1m to 3650d, such as 30s or 3d". */
void config_key_add_allowed(const struct config_key *key, struct strbuf *out);

struct config_blame {
    const char *key;
    const char *item; /* of a list: which of its items; borrows the configuration; or NULL */
};

/* Rules that concern one value beyond its range, or several keys together. Returns 0 or
 * ERR_INVALID with *ret_blame and `allowed` filled. */
MUST_CHECK int config_check(const struct config *config, struct config_blame *ret_blame,
                            struct strbuf *allowed);
