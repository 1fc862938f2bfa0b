/* Records: things with a name of their own (devices, certificates) that are kept as rows of the
 * metadata store, and in memory in order of name.
 *
 * Embed a struct record. A change counts when it is on disk. Two changes of one record at once are
 * not taken. Private to auth/. Thread: the loop's.
 */
#pragma once

#include "base/list.h"
#include "base/tree.h"
#include "store/store.h"

#define RECORD_NAME_MAX 256u

struct record {
    struct treenode node;
    struct slice name; /* owned; 1 to RECORD_NAME_MAX bytes */
};

struct records;

struct record_kind {
    uint8_t row; /* the first byte of its rows' keys; the name follows */
    /* One of the value of a row; the name is set by the caller. Returns 0, ERR_CORRUPT, ERR_NOMEM.
     */
    int (*decode)(void *owner, struct slice value, struct record **ret_record);
    /* Frees all but the name. */
    void (*free)(struct record *record);
    /* `after` has come for `before` and is in the table; one of them may be NULL. May be NULL. */
    void (*on_changed)(void *owner, struct record *before, struct record *after);
};

struct records {
    const struct record_kind *kind;
    void *owner;
    struct store *store;
    struct tree by_name;
    uint64_t count;
    struct list changes; /* under way */
};

/* Reads all rows (blocking). kind, owner, store: borrowed. Returns 0, or an error; then, too,
 * records_done is due. */
MUST_CHECK int records_init(struct records *records, const struct record_kind *kind, void *owner,
                            struct store *store, struct meta *meta);
/* No change may be under way: the store is closed first. Harmless on zeros. */
void records_done(struct records *records);

struct record *records_find(const struct records *records, struct slice name); /* or NULL */
/* The first record behind `name`, which need not be one; NULL: there is none. */
struct record *records_above(const struct records *records, struct slice name);
bool records_is_changing(const struct records *records, struct slice name);
/* 1 to RECORD_NAME_MAX bytes of UTF-8 without control characters. */
bool record_name_is_sound(struct slice name);

/* Sets the name. Returns 0 or ERR_NOMEM. */
MUST_CHECK int record_name(struct record *record, struct slice name);
/* NULL is fine; returns NULL. */
struct record *record_free(const struct record_kind *kind, struct record *record);

/* data's owner lives until it is told: err = 0: the change is on disk. */
typedef void record_done_fn(void *data, int err);

/* Puts `record`, taken over in any case, in place of the one of its name, if any. value: of its
 * row, borrowed for the call. Returns 0, and calls done later; or < 0, and does not: ERR_AGAIN: a
 * change of it is under way; or as store_append. */
MUST_CHECK int records_put_take(struct records *records, struct record *record, struct slice value,
                                record_done_fn *done, void *data);
/* As records_put_take; ERR_NOTFOUND: there is none. */
MUST_CHECK int records_remove(struct records *records, struct slice name, record_done_fn *done,
                              void *data);

/* Numbers in rows, little endian. Returns what is behind it. */
uint8_t *record_put_u64(uint8_t *at, uint64_t value);
uint64_t record_get_u64(const uint8_t *at);
