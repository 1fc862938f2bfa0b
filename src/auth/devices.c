#include "auth/devices.h"

#include "base/mem.h"

#include <sodium.h>
#include <string.h>

enum {
    ROW_KIND = 'D',
    ROW_VERSION = 1,
    ROW_VERSION_PROPERTIES = 2,
    FLAG_ENABLED = 1,
    ROW_MAX = 2 + 8 + 8 + 2 * (1 + SAS_KEY_MAX) + 8 + DEVICE_PROPERTIES_SIZE_MAX,
};

struct devices {
    struct records records;
    devices_clock_fn *now_ms;
    void *clock_data;
    devices_watch_fn *watch;
    void *watch_data;
    uint64_t adding; /* enabled devices that have properties */
};

/* --- the table in memory ------------------------------------------------------------------------
 */

static struct device *device_of(struct record *record)
{
    return record ? CONTAINER_OF(record, struct device, record) : NULL;
}

static void free_device(struct record *record)
{
    struct device *device = device_of(record);
    sodium_memzero(device->keys, sizeof device->keys);
    slice_done(&device->properties);
    mem_free(device);
}

const struct device *devices_find(const struct devices *devices, struct slice id)
{
    return device_of(records_find(&devices->records, id));
}

const struct device *devices_above(const struct devices *devices, struct slice id)
{
    return device_of(records_above(&devices->records, id));
}

static bool adds(const struct device *device)
{
    return device && device->enabled && device->properties.size > 0;
}

struct slice devices_properties(const struct devices *devices, struct slice id)
{
    const struct device *device = devices->adding > 0 ? devices_find(devices, id) : NULL;
    return adds(device) ? device->properties : slice_of("", 0);
}

uint64_t devices_count(const struct devices *devices)
{
    return devices->records.count;
}

/* --- rows ---------------------------------------------------------------------------------------
 */

static struct slice encode(const struct device *device, uint8_t row[ROW_MAX])
{
    uint8_t *at = row;
    *at++ = device->properties.size > 0 ? ROW_VERSION_PROPERTIES : ROW_VERSION;
    *at++ = device->enabled ? FLAG_ENABLED : 0;
    at = record_put_u64(at, device->created_ms);
    at = record_put_u64(at, device->changed_ms);
    for (int i = 0; i < 2; i++) {
        *at++ = device->keys[i].size;
        memcpy(at, device->keys[i].bytes, device->keys[i].size);
        at += device->keys[i].size;
    }
    if (device->properties.size > 0) {
        at = record_put_u64(at, device->properties.size);
        memcpy(at, device->properties.bytes, device->properties.size);
        at += device->properties.size;
    }
    return slice_of(row, (size_t)(at - row));
}

/* Of version 2. Returns 0, ERR_CORRUPT or ERR_NOMEM. */
static int decode_properties(const uint8_t *at, const uint8_t *end, struct device *device)
{
    if (end - at < 8 || record_get_u64(at) != (uint64_t)(end - at - 8))
        return ERR_CORRUPT;
    const struct slice encoded = slice_of(at + 8, (size_t)(end - at - 8));
    if (!device_properties_are_sound(encoded))
        return ERR_CORRUPT;
    return slice_keep(encoded, &device->properties);
}

/* Returns 0, ERR_CORRUPT or ERR_NOMEM. */
static int decode(struct slice row, struct device *device)
{
    const uint8_t *at = row.bytes;
    const uint8_t *end = at + row.size;
    if (row.size < 18 || (*at != ROW_VERSION && *at != ROW_VERSION_PROPERTIES))
        return ERR_CORRUPT;
    device->enabled = at[1] & FLAG_ENABLED;
    device->created_ms = record_get_u64(at + 2);
    device->changed_ms = record_get_u64(at + 10);
    at += 18;
    for (int i = 0; i < 2; i++) {
        const uint8_t size = at < end ? *at++ : 0;
        if (size < SAS_KEY_MIN || size > SAS_KEY_MAX || end - at < size)
            return ERR_CORRUPT;
        device->keys[i].size = size;
        memcpy(device->keys[i].bytes, at, size);
        at += size;
    }
    if (row.bytes[0] == ROW_VERSION_PROPERTIES)
        return decode_properties(at, end, device);
    return at == end ? 0 : ERR_CORRUPT;
}

static int decode_row(void *owner, struct slice value, struct record **ret_record)
{
    struct device *device = mem_new(sizeof *device);
    (void)owner;
    const int err = decode(value, device);
    if (err < 0) {
        free_device(&device->record);
        return err;
    }
    *ret_record = &device->record;
    return 0;
}

static void on_changed(void *owner, struct record *before, struct record *after)
{
    struct devices *devices = owner;
    devices->adding += adds(device_of(after));
    devices->adding -= adds(device_of(before));
    if (before && devices->watch &&
        (!after || !CONTAINER_OF(after, struct device, record)->enabled))
        devices->watch(devices->watch_data, before->name);
}

static const struct record_kind device_kind = {
    .row = ROW_KIND,
    .decode = decode_row,
    .free = free_device,
    .on_changed = on_changed,
};

/* --- changes ------------------------------------------------------------------------------------
 */

static int keep_properties(const struct device *before, const struct device_change *change,
                           struct slice *ret_kept)
{
    if (change->properties)
        return slice_keep(slice_of(change->properties->bytes, change->properties->size), ret_kept);
    return before ? slice_keep(before->properties, ret_kept) : 0;
}

/* Makes it as `before` with the change, and submits it. */
static int submit(struct devices *devices, struct slice id, const struct device *before,
                  const struct device_change *change, device_done_fn *done, void *data)
{
    uint8_t row[ROW_MAX];
    struct device *device = mem_new(sizeof *device);
    int err = record_name(&device->record, id);
    if (err < 0) {
        (void)record_free(&device_kind, &device->record);
        return err;
    }
    err = keep_properties(before, change, &device->properties);
    if (err < 0) {
        (void)record_free(&device_kind, &device->record);
        return err;
    }
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
    err = records_put_take(&devices->records, &device->record, encode(device, row), done, data);
    sodium_memzero(row, sizeof row);
    return err;
}

int devices_add(struct devices *devices, struct slice id, const struct device_change *change,
                device_done_fn *done, void *data)
{
    if (!record_name_is_sound(id))
        return ERR_INVALID;
    if (devices_find(devices, id))
        return ERR_EXISTS;
    if (devices_count(devices) >= DEVICES_MAX)
        return ERR_FULL;
    return submit(devices, id, NULL, change, done, data);
}

int devices_modify(struct devices *devices, struct slice id, const struct device_change *change,
                   device_done_fn *done, void *data)
{
    const struct device *before = devices_find(devices, id);
    if (records_is_changing(&devices->records, id))
        return ERR_AGAIN;
    if (!before)
        return ERR_NOTFOUND;
    return submit(devices, id, before, change, done, data);
}

int devices_remove(struct devices *devices, struct slice id, device_done_fn *done, void *data)
{
    return records_remove(&devices->records, id, done, data);
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
    struct devices *devices = mem_new(sizeof *devices);
    devices->now_ms = now_ms;
    devices->clock_data = clock_data;
    int err = sodium_init() < 0 ? ERR_UNAVAILABLE : 0;
    if (err == 0)
        err = records_init(&devices->records, &device_kind, devices, store, meta);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read the devices: %s", err_text(err));
        (void)devices_close(devices);
        return err;
    }
    const struct device *it = devices_above(devices, slice_of("", 0));
    for (; it; it = devices_above(devices, it->record.name))
        devices->adding += adds(it);
    *ret_devices = devices;
    return 0;
}

struct devices *devices_close(struct devices *devices)
{
    if (devices) {
        records_done(&devices->records);
        mem_free(devices);
    }
    return NULL;
}
