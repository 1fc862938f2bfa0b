#include "auth/records.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

enum { ROW_KEY_MAX = 1 + RECORD_NAME_MAX };

/* A change on its way to the disk. */
struct change {
    struct store_append append;
    struct list node;
    struct records *records;
    struct slice name;     /* owned */
    struct record *record; /* as it will be; NULL: it is removed */
    record_done_fn *done;
    void *data;
};

/* --- the table in memory ------------------------------------------------------------------------
 */

static int compare(struct slice a, struct slice b)
{
    const int order = memcmp(a.bytes, b.bytes, MIN(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int name_order(const struct treenode *node, const void *key)
{
    return compare(CONTAINER_OF(node, struct record, node)->name, *(const struct slice *)key);
}

static struct record *record_of(struct treenode *node)
{
    return node ? CONTAINER_OF(node, struct record, node) : NULL;
}

struct record *records_above(const struct records *records, struct slice name)
{
    return record_of(tree_above(&records->by_name, &name));
}

struct record *records_find(const struct records *records, struct slice name)
{
    struct treenode *node = records->by_name.root;
    while (node) {
        const int order = name_order(node, &name);
        if (order == 0)
            return record_of(node);
        node = order < 0 ? node->right : node->left;
    }
    return NULL;
}

static void take_in(struct records *records, struct record *record)
{
    tree_insert(&records->by_name, &record->node, &record->name);
    records->count++;
}

static void take_out(struct records *records, struct record *record)
{
    tree_remove(&records->by_name, &record->node);
    records->count--;
}

/* --- one record ---------------------------------------------------------------------------------
 */

bool record_name_is_sound(struct slice name)
{
    if (name.size == 0 || name.size > RECORD_NAME_MAX || !utf8_check(name.bytes, name.size))
        return false;
    for (uint32_t i = 0; i < name.size; i++) {
        if (name.bytes[i] < 0x20 || name.bytes[i] == 0x7f)
            return false;
    }
    return true;
}

int record_name(struct record *record, struct slice name)
{
    ASSERT(name.size > 0 && name.size <= RECORD_NAME_MAX);
    return slice_keep(name, &record->name);
}

struct record *record_free(const struct record_kind *kind, struct record *record)
{
    if (record) {
        slice_done(&record->name);
        kind->free(record);
    }
    return NULL;
}

uint8_t *record_put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

uint64_t record_get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

/* --- changes ------------------------------------------------------------------------------------
 */

static void change_free(struct change *change)
{
    list_remove(&change->node);
    slice_done(&change->name);
    (void)record_free(change->records->kind, change->record);
    mem_free(change);
}

/* What is on disk now counts. */
static void apply(struct change *change)
{
    struct records *records = change->records;
    struct record *before = records_find(records, change->name);
    struct record *after = TAKE(change->record);
    if (before)
        take_out(records, before);
    if (after)
        take_in(records, after);
    if (records->kind->on_changed)
        records->kind->on_changed(records->owner, before, after);
    (void)record_free(records->kind, before);
}

static void on_appended(struct store_append *append, int err)
{
    struct change *change = CONTAINER_OF(append, struct change, append);
    record_done_fn *done = change->done;
    void *data = change->data;
    if (err == 0)
        apply(change);
    change_free(change);
    done(data, err);
}

/* Takes the change over. row.key is filled in here. */
static int submit(struct change *change, struct meta_op row)
{
    uint8_t key[ROW_KEY_MAX] = {change->records->kind->row};
    memcpy(key + 1, change->name.bytes, change->name.size);
    row.key = slice_of(key, 1 + change->name.size);
    change->append =
        (struct store_append){.ops = &row, .op_count = 1, .level = STORE_SYNC, .done = on_appended};
    const int err = store_append(change->records->store, &change->append);
    if (err < 0)
        change_free(change);
    else
        list_push_back(&change->records->changes, &change->node);
    return err;
}

static struct change *change_new(struct records *records, record_done_fn *done, void *data)
{
    struct change *change = mem_new(sizeof *change);
    *change = (struct change){.records = records, .done = done, .data = data};
    list_init(&change->node);
    return change;
}

bool records_is_changing(const struct records *records, struct slice name)
{
    list_each (it, &records->changes) {
        if (slice_equal(CONTAINER_OF(it, struct change, node)->name, name))
            return true;
    }
    return false;
}

int records_put_take(struct records *records, struct record *record, struct slice value,
                     record_done_fn *done, void *data)
{
    struct change *change = change_new(records, done, data);
    change->record = record;
    const int err = records_is_changing(records, record->name)
                        ? ERR_AGAIN
                        : slice_keep(record->name, &change->name);
    if (err < 0) {
        change_free(change);
        return err;
    }
    return submit(change, (struct meta_op){.kind = META_PUT, .value = value});
}

int records_remove(struct records *records, struct slice name, record_done_fn *done, void *data)
{
    const struct record *record = records_find(records, name);
    if (records_is_changing(records, name))
        return ERR_AGAIN;
    if (!record)
        return ERR_NOTFOUND;
    struct change *change = change_new(records, done, data);
    const int err = slice_keep(record->name, &change->name);
    if (err < 0) {
        change_free(change);
        return err;
    }
    return submit(change, (struct meta_op){.kind = META_DELETE});
}

/* --- life ----------------------------------------------------------------------------------------
 */

static int on_row(void *data, struct slice key, struct slice value)
{
    struct records *records = data;
    struct record *record = NULL;
    if (key.size < 2 || key.size > ROW_KEY_MAX)
        return ERR_CORRUPT;
    int err = records->kind->decode(records->owner, value, &record);
    if (err < 0)
        return err;
    err = record_name(record, slice_of(key.bytes + 1, key.size - 1));
    if (err < 0) {
        (void)record_free(records->kind, record);
        return err;
    }
    take_in(records, record);
    return 0;
}

int records_init(struct records *records, const struct record_kind *kind, void *owner,
                 struct store *store, struct meta *meta)
{
    *records = (struct records){.kind = kind, .owner = owner, .store = store};
    tree_init(&records->by_name, name_order);
    list_init(&records->changes);
    return meta_scan(meta, slice_of(&kind->row, 1), on_row, records);
}

void records_done(struct records *records)
{
    if (!records->kind)
        return;
    ASSERT(list_empty(&records->changes));
    struct treenode *node;
    while ((node = tree_first(&records->by_name))) {
        struct record *record = record_of(node);
        take_out(records, record);
        (void)record_free(records->kind, record);
    }
}
