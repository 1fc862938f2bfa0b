/* Devices: identities {ID, two keys, enabled or not} that are kept with the sessions, as rows of
 * the metadata store, and in memory in order of ID.
 *
 * A change counts when it is on disk; then who watches is told, so that links end. Two changes of
 * one device at once are not taken.
 *
 * Row: `D`, ID -> version, flags, created, changed, both keys; in version 2 behind them the size
 * (u64) and the bytes of its properties, which version 1 has not. Thread: the loop's.
 */
#pragma once

#include "auth/device_properties.h"
#include "auth/records.h"
#include "auth/sas.h"
#include "base/log.h"

#define DEVICE_ID_MAX RECORD_NAME_MAX
#define DEVICES_MAX   10000000u

struct devices;

struct device {
    struct record record; /* its name is the device's ID */
    bool enabled;
    struct sas_key keys[2]; /* the primary and the secondary one */
    uint64_t created_ms, changed_ms;
    struct slice properties; /* owned, encoded; perhaps empty */
};

/* Reads all rows (blocking). store: borrowed; it must be closed before devices_close. now_ms: asked
 * for the wall clock. Returns 0 or an error with the reason in reterr. */
typedef uint64_t devices_clock_fn(void *clock_data);
MUST_CHECK int devices_open(struct store *store, struct meta *meta, devices_clock_fn *now_ms,
                            void *clock_data, struct devices **ret_devices, struct errmsg *reterr);
struct devices *devices_close(struct devices *devices); /* NULL is fine; returns NULL */

/* Told when a device may not connect any more: it was disabled or removed. One watcher; NULL: none.
 */
typedef void devices_watch_fn(void *data, struct slice id);
void devices_watch(struct devices *devices, devices_watch_fn *watch, void *data);

uint64_t devices_count(const struct devices *devices);
const struct device *devices_find(const struct devices *devices, struct slice id); /* or NULL */
/* What is added to all that the client of this ID publishes, encoded; empty: nothing, because there
 * is no such device, or it is disabled. Until the next change. */
struct slice devices_properties(const struct devices *devices, struct slice id);
/* The first device behind `id`, which need not be one; NULL: there is none. */
const struct device *devices_above(const struct devices *devices, struct slice id);

struct device_change {
    bool set_enabled, enabled;
    const struct sas_key *keys[2];              /* NULL: as it is; new ones for a new device */
    const struct device_properties *properties; /* NULL: as they are */
    bool rotate; /* a new primary key; the old one becomes the secondary one */
};

typedef record_done_fn device_done_fn;

/* Each returns 0, and calls done later; or < 0, and does not: ERR_INVALID: an ID is 1 to 256 bytes
 * of UTF-8 without control characters; ERR_EXISTS; ERR_NOTFOUND; ERR_AGAIN: a change of this device
 * is under way; ERR_FULL: there are DEVICES_MAX; or as store_append. */
MUST_CHECK int devices_add(struct devices *devices, struct slice id,
                           const struct device_change *change, device_done_fn *done, void *data);
MUST_CHECK int devices_modify(struct devices *devices, struct slice id,
                              const struct device_change *change, device_done_fn *done, void *data);
MUST_CHECK int devices_remove(struct devices *devices, struct slice id, device_done_fn *done,
                              void *data);
