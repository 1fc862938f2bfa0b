#include "auth/devices.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <sodium.h>
#include <string.h>

enum {
    ROW_KIND = 'D',
    ROW_VERSION = 1,
    FLAG_ENABLED = 1,
    ROW_MAX = 2 + 8 + 8 + 2 * (1 + SAS_KEY_MAX),
    ROW_KEY_MAX = 1 + DEVICE_ID_MAX,
};

struct devices {
    struct store *store;
    devices_clock_fn *now_ms;
    void *clock_data;
    devices_watch_fn *watch;
    void *watch_data;
    struct tree by_id;
    uint64_t count;
    struct list changes; /* under way */
};

/* A change on its way to the disk. */
struct change {
    struct store_append append;
    struct list node;
    struct devices *devices;
    struct device *device; /* as it will be; by itself, with an ID of its own */
    bool removes;
    device_done_fn *done;
    void *data;
};

/* --- the table in memory ------------------------------------------------------------------------
 */

static int compare(struct slice a, struct slice b)
{
    const int order = memcmp(a.bytes, b.bytes, MIN(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int id_order(const struct treenode *node, const void *key)
{
    return compare(CONTAINER_OF(node, struct device, by_id)->id, *(const struct slice *)key);
}

static struct device *device_of(struct treenode *node)
{
    return node ? CONTAINER_OF(node, struct device, by_id) : NULL;
}

static struct device *device_free(struct device *device)
{
    if (device) {
        slice_done(&device->id);
        sodium_memzero(device->keys, sizeof device->keys);
        mem_free(device);
    }
    return NULL;
}

/* NULL when out of memory. */
static struct device *device_new(struct slice id)
{
    struct device *device = mem_new(sizeof *device);
    if (slice_keep(id, &device->id) < 0)
        return device_free(device);
    return device;
}

const struct device *devices_above(const struct devices *devices, struct slice id)
{
    return device_of(tree_above(&devices->by_id, &id));
}

static struct device *find(const struct devices *devices, struct slice id)
{
    struct treenode *node = devices->by_id.root;
    while (node) {
        const int order = id_order(node, &id);
        if (order == 0)
            return device_of(node);
        node = order < 0 ? node->right : node->left;
    }
    return NULL;
}

const struct device *devices_find(const struct devices *devices, struct slice id)
{
    return find(devices, id);
}

uint64_t devices_count(const struct devices *devices)
{
    return devices->count;
}

static void take_in(struct devices *devices, struct device *device)
{
    tree_insert(&devices->by_id, &device->by_id, &device->id);
    devices->count++;
}

static void take_out(struct devices *devices, struct device *device)
{
    tree_remove(&devices->by_id, &device->by_id);
    devices->count--;
    (void)device_free(device);
}

/* --- rows ---------------------------------------------------------------------------------------
 */

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static struct slice encode(const struct device *device, uint8_t row[ROW_MAX])
{
    uint8_t *at = row;
    *at++ = ROW_VERSION;
    *at++ = device->enabled ? FLAG_ENABLED : 0;
    at = put_u64(at, device->created_ms);
    at = put_u64(at, device->changed_ms);
    for (int i = 0; i < 2; i++) {
        *at++ = device->keys[i].size;
        memcpy(at, device->keys[i].bytes, device->keys[i].size);
        at += device->keys[i].size;
    }
    return slice_of(row, (size_t)(at - row));
}

/* Returns 0 or ERR_CORRUPT. */
static int decode(struct slice row, struct device *device)
{
    const uint8_t *at = row.bytes;
    const uint8_t *end = at + row.size;
    if (row.size < 18 || *at != ROW_VERSION)
        return ERR_CORRUPT;
    device->enabled = at[1] & FLAG_ENABLED;
    device->created_ms = get_u64(at + 2);
    device->changed_ms = get_u64(at + 10);
    at += 18;
    for (int i = 0; i < 2; i++) {
        const uint8_t size = at < end ? *at++ : 0;
        if (size < SAS_KEY_MIN || size > SAS_KEY_MAX || end - at < size)
            return ERR_CORRUPT;
        device->keys[i].size = size;
        memcpy(device->keys[i].bytes, at, size);
        at += size;
    }
    return at == end ? 0 : ERR_CORRUPT;
}

static int on_row(void *data, struct slice key, struct slice value)
{
    struct devices *devices = data;
    if (key.size < 2 || key.size > ROW_KEY_MAX)
        return ERR_CORRUPT;
    struct device *device = device_new(slice_of(key.bytes + 1, key.size - 1));
    if (!device)
        return ERR_NOMEM;
    const int err = decode(value, device);
    if (err < 0)
        (void)device_free(device);
    else
        take_in(devices, device);
    return err;
}

/* --- changes ------------------------------------------------------------------------------------
 */

static struct change *change_free(struct change *change)
{
    list_remove(&change->node);
    (void)device_free(change->device);
    mem_free(change);
    return NULL;
}

/* What is on disk now counts. */
static void apply(struct change *change)
{
    struct devices *devices = change->devices;
    struct device *before = find(devices, change->device->id);
    const bool ends = before && (change->removes || !change->device->enabled);
    if (before)
        take_out(devices, before);
    if (!change->removes)
        take_in(devices, change->device);
    if (ends && devices->watch)
        devices->watch(devices->watch_data, change->device->id);
    if (!change->removes)
        change->device = NULL;
}

static void on_appended(struct store_append *append, int err)
{
    struct change *change = CONTAINER_OF(append, struct change, append);
    device_done_fn *done = change->done;
    void *data = change->data;
    if (err == 0)
        apply(change);
    (void)change_free(change);
    done(data, err);
}

/* Takes over `device`, which may be NULL for want of memory. */
static int submit_take(struct devices *devices, struct device *device, bool removes,
                       device_done_fn *done, void *data)
{
    uint8_t key[ROW_KEY_MAX] = {ROW_KIND};
    uint8_t row[ROW_MAX];
    if (!device)
        return ERR_NOMEM;
    struct change *change = mem_new(sizeof *change);
    *change = (struct change){
        .devices = devices, .device = device, .removes = removes, .done = done, .data = data};
    list_init(&change->node);
    memcpy(key + 1, device->id.bytes, device->id.size);
    const struct meta_op op = {
        .kind = removes ? META_DELETE : META_PUT,
        .key = slice_of(key, 1 + device->id.size),
        .value = removes ? slice_of(NULL, 0) : encode(device, row),
    };
    change->append =
        (struct store_append){.ops = &op, .op_count = 1, .level = STORE_SYNC, .done = on_appended};
    const int err = store_append(devices->store, &change->append);
    sodium_memzero(row, sizeof row);
    if (err < 0) {
        (void)change_free(change);
        return err;
    }
    list_push_back(&devices->changes, &change->node);
    return 0;
}

static bool is_changing(const struct devices *devices, struct slice id)
{
    list_each (it, &devices->changes) {
        if (slice_equal(CONTAINER_OF(it, struct change, node)->device->id, id))
            return true;
    }
    return false;
}

static bool is_sound(struct slice id)
{
    if (id.size == 0 || id.size > DEVICE_ID_MAX || !utf8_check(id.bytes, id.size))
        return false;
    for (uint32_t i = 0; i < id.size; i++) {
        if (id.bytes[i] < 0x20 || id.bytes[i] == 0x7f)
            return false;
    }
    return true;
}

/* As `before` with the change; NULL: out of memory. */
static struct device *changed(const struct devices *devices, struct slice id,
                              const struct device *before, const struct device_change *change)
{
    struct device *device = device_new(id);
    if (!device)
        return NULL;
    device->changed_ms = devices->now_ms(devices->clock_data);
    device->created_ms = before ? before->created_ms : device->changed_ms;
    device->enabled = change->set_enabled ? change->enabled : !before || before->enabled;
    for (int i = 0; i < 2; i++) {
        if (change->keys[i])
            device->keys[i] = *change->keys[i];
        else if (before)
            device->keys[i] = before->keys[i];
        else
            sas_key_make(&device->keys[i]);
    }
    if (change->rotate) {
        device->keys[1] = device->keys[0];
        sas_key_make(&device->keys[0]);
    }
    return device;
}

int devices_add(struct devices *devices, struct slice id, const struct device_change *change,
                device_done_fn *done, void *data)
{
    if (!is_sound(id))
        return ERR_INVALID;
    if (find(devices, id))
        return ERR_EXISTS;
    if (is_changing(devices, id))
        return ERR_AGAIN;
    if (devices->count >= DEVICES_MAX)
        return ERR_FULL;
    return submit_take(devices, changed(devices, id, NULL, change), false, done, data);
}

int devices_modify(struct devices *devices, struct slice id, const struct device_change *change,
                   device_done_fn *done, void *data)
{
    const struct device *before = find(devices, id);
    if (is_changing(devices, id))
        return ERR_AGAIN;
    if (!before)
        return ERR_NOTFOUND;
    return submit_take(devices, changed(devices, id, before, change), false, done, data);
}

int devices_remove(struct devices *devices, struct slice id, device_done_fn *done, void *data)
{
    if (is_changing(devices, id))
        return ERR_AGAIN;
    if (!find(devices, id))
        return ERR_NOTFOUND;
    return submit_take(devices, device_new(id), true, done, data);
}

/* --- life ----------------------------------------------------------------------------------------
 */

void devices_watch(struct devices *devices, devices_watch_fn *watch, void *data)
{
    devices->watch = watch;
    devices->watch_data = data;
}

int devices_open(struct store *store, struct meta *meta, devices_clock_fn *now_ms, void *clock_data,
                 struct devices **ret_devices, struct errmsg *reterr)
{
    static const uint8_t kind[] = {ROW_KIND};
    struct devices *devices = mem_new(sizeof *devices);
    devices->store = store;
    devices->now_ms = now_ms;
    devices->clock_data = clock_data;
    tree_init(&devices->by_id, id_order);
    list_init(&devices->changes);
    int err = sodium_init() < 0 ? ERR_UNAVAILABLE : 0;
    if (err == 0)
        err = meta_scan(meta, slice_of(kind, sizeof kind), on_row, devices);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read the devices: %s", err_text(err));
        (void)devices_close(devices);
        return err;
    }
    *ret_devices = devices;
    return 0;
}

struct devices *devices_close(struct devices *devices)
{
    if (!devices)
        return NULL;
    ASSERT(list_empty(&devices->changes));
    struct treenode *node;
    while ((node = tree_first(&devices->by_id)))
        take_out(devices, device_of(node));
    mem_free(devices);
    return NULL;
}
