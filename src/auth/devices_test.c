/* Devices: changes, what becomes of them at a crash, and what is read back. */
#include "auth/devices.h"
#include "base/mem.h"
#include "base/unit.h"
#include "store/mem/mem.h"

#include <errno.h>
#include <string.h>

struct fixture {
    struct store *store;
    struct meta *meta;
    struct devices *devices;
    uint64_t now_ms;
    int told, err;
    int gone;
    char gone_id[64];
};

static uint64_t now_of(void *data)
{
    return ((struct fixture *)data)->now_ms;
}

static void on_gone(void *data, struct slice id)
{
    struct fixture *fixture = data;
    fixture->gone++;
    memcpy(fixture->gone_id, id.bytes, id.size);
    fixture->gone_id[id.size] = '\0';
}

static void open_devices(struct fixture *fixture)
{
    assert_int_equal(
        devices_open(fixture->store, fixture->meta, now_of, fixture, &fixture->devices, NULL), 0);
    devices_watch(fixture->devices, on_gone, fixture);
}

static void open_fixture(struct fixture *fixture)
{
    *fixture = (struct fixture){.now_ms = 1000};
    assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
    open_devices(fixture);
}

static void close_fixture(struct fixture *fixture)
{
    (void)store_close(fixture->store);
    (void)devices_close(fixture->devices);
}

static void on_done(void *data, int err)
{
    struct fixture *fixture = data;
    fixture->told++;
    fixture->err = err;
}

static const struct device_change plain = {0};
static const struct device_change disables = {.set_enabled = true};
static const struct device_change enables = {.set_enabled = true, .enabled = true};

static int step(struct fixture *fixture, int submitted)
{
    if (submitted < 0)
        return submitted;
    const int told = fixture->told;
    (void)mem_store_step(fixture->store, 1);
    assert_int_equal(fixture->told, told + 1);
    return fixture->err;
}

static int add(struct fixture *fixture, const char *id)
{
    return step(fixture, devices_add(fixture->devices, slice_str(id), &plain, on_done, fixture));
}

static int modify(struct fixture *fixture, const char *id, const struct device_change *change)
{
    return step(fixture, devices_modify(fixture->devices, slice_str(id), change, on_done, fixture));
}

static int remove_device(struct fixture *fixture, const char *id)
{
    return step(fixture, devices_remove(fixture->devices, slice_str(id), on_done, fixture));
}

static const struct device *find(const struct fixture *fixture, const char *id)
{
    return devices_find(fixture->devices, slice_str(id));
}

static void the_life_of_a_device(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    assert_int_equal(add(&fixture, "one"), 0);
    const struct device *device = find(&fixture, "one");
    assert_true(device->enabled);
    assert_int_equal(device->created_ms, 1000);
    const struct sas_key first = device->keys[0];
    assert_memory_not_equal(&first, &device->keys[1], sizeof first);
    assert_int_equal(add(&fixture, "one"), ERR_EXISTS);
    fixture.now_ms = 2000;
    assert_int_equal(modify(&fixture, "one", &disables), 0);
    assert_int_equal(fixture.gone, 1);
    assert_string_equal(fixture.gone_id, "one");
    device = find(&fixture, "one");
    assert_false(device->enabled);
    assert_int_equal(device->created_ms, 1000);
    assert_int_equal(device->changed_ms, 2000);
    assert_int_equal(modify(&fixture, "one", &enables), 0);
    assert_true(find(&fixture, "one")->enabled);
    const struct device_change rotates = {.rotate = true};
    assert_int_equal(modify(&fixture, "one", &rotates), 0);
    device = find(&fixture, "one");
    assert_memory_equal(&device->keys[1], &first, sizeof first);
    assert_memory_not_equal(&device->keys[0], &first, sizeof first);
    const struct device_change sets = {.keys = {NULL, &device->keys[0]}};
    assert_int_equal(modify(&fixture, "one", &sets), 0);
    device = find(&fixture, "one");
    assert_memory_equal(&device->keys[0], &device->keys[1], sizeof first);
    assert_true(device->enabled);
    assert_int_equal(fixture.gone, 1);
    assert_int_equal(remove_device(&fixture, "one"), 0);
    assert_int_equal(fixture.gone, 2);
    assert_null(find(&fixture, "one"));
    assert_int_equal(devices_count(fixture.devices), 0);
    assert_int_equal(modify(&fixture, "one", &enables), ERR_NOTFOUND);
    assert_int_equal(remove_device(&fixture, "one"), ERR_NOTFOUND);
    close_fixture(&fixture);
}

static void ids_are_checked_and_ordered(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    char long_id[DEVICE_ID_MAX + 2];
    memset(long_id, 'x', sizeof long_id);
    long_id[sizeof long_id - 1] = '\0';
    const char *const bad[] = {"", "a\nb", "\x7f", "\xff", long_id};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(add(&fixture, bad[i]), ERR_INVALID);
    static const char *const ids[] = {"b", "a/1", "aa", "a", "\xc3\xa9"};
    static const char *const sorted[] = {"a", "a/1", "aa", "b", "\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++)
        assert_int_equal(add(&fixture, ids[i]), 0);
    const struct device *it = devices_above(fixture.devices, slice_of("", 0));
    for (size_t i = 0; i < ARRAY_COUNT(sorted); i++) {
        assert_true(slice_equal(it->record.name, slice_str(sorted[i])));
        assert_ptr_equal(find(&fixture, sorted[i]), it);
        it = devices_above(fixture.devices, it->record.name);
    }
    assert_null(it);
    close_fixture(&fixture);
}

static void one_change_of_a_device_at_a_time(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    assert_int_equal(devices_add(fixture.devices, slice_str("one"), &plain, on_done, &fixture), 0);
    assert_null(find(&fixture, "one")); /* not before it is on disk */
    assert_int_equal(devices_add(fixture.devices, slice_str("one"), &plain, on_done, &fixture),
                     ERR_AGAIN);
    assert_int_equal(devices_remove(fixture.devices, slice_str("one"), on_done, &fixture),
                     ERR_AGAIN);
    assert_int_equal(devices_add(fixture.devices, slice_str("two"), &plain, on_done, &fixture), 0);
    (void)mem_store_step(fixture.store, 2);
    assert_int_equal(fixture.told, 2);
    assert_int_equal(devices_count(fixture.devices), 2);
    assert_int_equal(devices_add(fixture.devices, slice_str("three"), &plain, on_done, &fixture),
                     0);
    close_fixture(&fixture); /* ends it */
    assert_int_equal(fixture.told, 3);
}

static void failed_writes_change_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    assert_int_equal(add(&fixture, "one"), 0);
    mem_store_fail_append(fixture.store, 1, -EIO);
    assert_int_equal(modify(&fixture, "one", &disables), -EIO);
    assert_true(find(&fixture, "one")->enabled);
    assert_int_equal(fixture.gone, 0);
    mem_store_fail_append(fixture.store, 1, -EIO);
    assert_int_equal(add(&fixture, "two"), -EIO);
    assert_null(find(&fixture, "two"));
    mem_store_set_writable(fixture.store, false);
    assert_int_equal(add(&fixture, "two"), ERR_UNAVAILABLE);
    mem_store_set_writable(fixture.store, true);
    mem_fail_at(1);
    assert_int_equal(add(&fixture, "two"), ERR_NOMEM);
    assert_int_equal(add(&fixture, "two"), 0);
    close_fixture(&fixture);
}

static void devices_survive(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture);
    assert_int_equal(add(&fixture, "one"), 0);
    assert_int_equal(add(&fixture, "two"), 0);
    assert_int_equal(add(&fixture, "three"), 0);
    assert_int_equal(modify(&fixture, "one", &disables), 0);
    assert_int_equal(remove_device(&fixture, "two"), 0);
    const struct device before = *find(&fixture, "three");
    struct devices *old = fixture.devices;
    mem_store_crash(&fixture.store, &fixture.meta, false);
    open_devices(&fixture);
    (void)devices_close(old);
    assert_int_equal(devices_count(fixture.devices), 2);
    assert_false(find(&fixture, "one")->enabled);
    const struct device *after = find(&fixture, "three");
    assert_memory_equal(after->keys, before.keys, sizeof before.keys);
    assert_int_equal(after->created_ms, before.created_ms);
    assert_int_equal(after->changed_ms, before.changed_ms);
    close_fixture(&fixture);
}

static struct slice added_by(const struct fixture *fixture, const char *id)
{
    return devices_properties(fixture->devices, slice_str(id));
}

static void its_properties(void **state)
{
    (void)state;
    struct fixture fixture;
    struct device_properties none = {0}, two = {0};
    open_fixture(&fixture);
    assert_int_equal(device_properties_add(&two, slice_str("k"), slice_str("v")), 0);
    assert_int_equal(device_properties_add(&two, slice_str("k"), slice_str("")), 0);
    const struct device_change sets = {.properties = &two}, clears = {.properties = &none};
    const struct slice encoded = slice_of(two.bytes, two.size);
    assert_int_equal(add(&fixture, "one"), 0);
    assert_int_equal(added_by(&fixture, "one").size, 0);
    assert_int_equal(modify(&fixture, "one", &sets), 0);
    assert_true(slice_equal(added_by(&fixture, "one"), encoded));
    assert_int_equal(added_by(&fixture, "two").size, 0);
    assert_int_equal(modify(&fixture, "one", &disables), 0);
    assert_int_equal(added_by(&fixture, "one").size, 0);
    assert_true(slice_equal(find(&fixture, "one")->properties, encoded));
    assert_int_equal(modify(&fixture, "one", &enables), 0);
    struct devices *old = fixture.devices;
    mem_store_crash(&fixture.store, &fixture.meta, false);
    open_devices(&fixture);
    (void)devices_close(old);
    assert_true(slice_equal(added_by(&fixture, "one"), encoded));
    assert_int_equal(modify(&fixture, "one", &clears), 0);
    assert_int_equal(added_by(&fixture, "one").size, 0);
    assert_int_equal(modify(&fixture, "one", &sets), 0);
    assert_int_equal(remove_device(&fixture, "one"), 0);
    assert_int_equal(added_by(&fixture, "one").size, 0);
    close_fixture(&fixture);
}

static void on_put(struct store_append *append, int err)
{
    (void)append;
    assert_int_equal(err, 0);
}

/* Rows that are not as they are written here stop the start. */
static void damaged_rows_are_told(void **state)
{
    (void)state;
    enum { KEYS_END = 18 + 2 * 17, PROPERTIES = 8 + 7, ROW = KEYS_END + PROPERTIES };
    /* Version 1 at even numbers, version 2 at odd ones. */
    for (size_t i = 0; i < 2 * (ROW + 2); i++) {
        struct fixture fixture;
        open_fixture(&fixture);
        const bool is_second = i % 2;
        const size_t size = i / 2, sound = is_second ? ROW : KEYS_END;
        uint8_t bytes[ROW + 1] = {is_second ? 2 : 1, 1};
        bytes[18] = bytes[35] = 16;
        bytes[KEYS_END] = 7;
        memcpy(bytes + KEYS_END + 8, "\x26\0\1k\0\1v", 7);
        const struct meta_op op = {
            .kind = META_PUT, .key = slice_str("Dx"), .value = slice_of(bytes, size)};
        struct store_append append = {
            .ops = &op, .op_count = 1, .level = STORE_SYNC, .done = on_put};
        assert_int_equal(store_append(fixture.store, &append), 0);
        (void)mem_store_step(fixture.store, 1);
        struct devices *devices = NULL;
        struct errmsg why = {0};
        const int err = devices_open(fixture.store, fixture.meta, now_of, &fixture, &devices, &why);
        assert_int_equal(err, size == sound ? 0 : ERR_CORRUPT);
        if (err < 0)
            assert_non_null(strstr(why.text, "could not read the devices"));
        (void)devices_close(devices);
        close_fixture(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_life_of_a_device),
        cmocka_unit_test(ids_are_checked_and_ordered),
        cmocka_unit_test(one_change_of_a_device_at_a_time),
        cmocka_unit_test(failed_writes_change_nothing),
        cmocka_unit_test(devices_survive),
        cmocka_unit_test(its_properties),
        cmocka_unit_test(damaged_rows_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
