/* The metadata store: an ordered key-value store for sessions, subscriptions, cursors, retained
 * pointers, topics, devices. Keys are up to META_KEY_MAX bytes, values up to META_VALUE_MAX.
 *
 * The first byte of a key tells what it is: broker/rows.h has a list, `D` is a device
 * (auth/devices.h), `K`, `X` and `Y` are the registry's (auth/registry.h).
 *
 * Writes come as operations, grouped: the operations of one store_append (store/store.h) become
 * durable together with its message, or not at all. The rows are read back only when the server
 * starts, by meta_scan; while it runs the broker holds what it needs in memory.
 */
#pragma once

#include "base/buf.h"

#define META_KEY_MAX   (66u * 1024)
#define META_VALUE_MAX (2u * 1024 * 1024)

enum meta_kind {
    META_PUT = 1,
    META_DELETE = 2,
    META_PUT_AT = 3, /* as META_PUT, but the record's log position (u64, little endian) is put in
                      * front of the value: for rows that point at the message of the same append */
};

/* Slices borrowed for the submitting call; the engine copies them. */
struct meta_op {
    enum meta_kind kind;
    struct slice key;
    struct slice value; /* empty for META_DELETE */
};

struct meta;

/* Called for each row; slices borrowed for the call. Returns 0 to go on, < 0 to stop with that. */
typedef int meta_scan_fn(void *data, struct slice key, struct slice value);

struct meta_ops {
    const char *name;
    int (*scan)(struct meta *meta, struct slice prefix, meta_scan_fn *each, void *data);
    uint64_t (*count)(struct meta *meta, uint8_t first); /* may be NULL */
};

struct meta {
    const struct meta_ops *ops;
};

/* Walks all rows whose key starts with `prefix`, in byte order of the keys.
 * Returns 0, what `each` returned, or an I/O error. Blocking: before serving begins. */
MUST_CHECK static inline int meta_scan(struct meta *meta, struct slice prefix, meta_scan_fn *each,
                                       void *data)
{
    return meta->ops->scan(meta, prefix, each, data);
}

/* About how many rows have a key that begins with the byte `first`, as of the opening: for sizing
 * tables before they are filled. 0: there are none, or it is not known. Costs nothing. */
static inline uint64_t meta_count(struct meta *meta, uint8_t first)
{
    return meta->ops->count ? meta->ops->count(meta, first) : 0;
}
