/* The registry: what may change into what, what becomes of a change at a crash, what is read back.
 */
#include "auth/registry.h"

#include "auth/registry_fixture.h"

#include <errno.h>

#define CA_SN "0101" /* of the fixture's */

static int set_up(void **state)
{
    struct registry_fixture *f = mem_new(sizeof *f);
    registry_fixture_open(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    registry_fixture_close(*state);
    mem_free(*state);
    return 0;
}

static void add_ca(struct registry_fixture *f)
{
    assert_int_equal(registry_fixture_add_ca(f, &f->ca, REGISTRY_ACTIVE), REGISTRY_DONE);
    assert_string_equal(f->sn, CA_SN);
}

static struct pki_pair issue(struct registry_fixture *f, const char *name)
{
    return pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = name});
}

static enum registry_outcome add(struct registry_fixture *f, const struct pki_pair *pair,
                                 const char *client_id, enum registry_state state)
{
    registry_fixture_submit(f, pair, CA_SN, client_id, state);
    return registry_fixture_step(f);
}

static enum registry_outcome set(struct registry_fixture *f, const char *sn,
                                 enum registry_state state)
{
    registry_set(f->registry, slice_str(sn), state, registry_fixture_done, f);
    return registry_fixture_step(f);
}

static enum registry_outcome set_ca(struct registry_fixture *f, enum registry_state state)
{
    registry_set_ca(f->registry, slice_str(CA_SN), state, registry_fixture_done, f);
    return registry_fixture_step(f);
}

static const struct registry_certificate *find(const struct registry_fixture *f, const char *sn)
{
    return registry_find(f->registry, slice_str(sn));
}

static void the_life_of_a_ca(void **state)
{
    struct registry_fixture *f = *state;
    assert_int_equal(registry_authorities(f->registry)->count, 0);
    add_ca(f);
    const struct registry_ca *ca = registry_find_ca(f->registry, slice_str(CA_SN));
    assert_int_equal(ca->state, REGISTRY_ACTIVE);
    assert_int_equal(ca->times.activated_ms, ca->times.created_ms);
    assert_int_equal(ca->times.deactivated_ms, 0);
    assert_string_equal(ca->certificate->subject.common_name, "Devices CA");
    assert_int_equal(f->authorities, 1);
    assert_int_equal(registry_authorities(f->registry)->count, 1);
    assert_int_equal(registry_fixture_add_ca(f, &f->ca, REGISTRY_ACTIVE), REGISTRY_EXISTS);
    f->now_ms = 1000;
    assert_int_equal(set_ca(f, REGISTRY_INACTIVE), REGISTRY_DONE);
    ca = registry_find_ca(f->registry, slice_str(CA_SN));
    assert_int_equal(ca->times.deactivated_ms, ca->times.created_ms + 1000);
    assert_int_equal(f->gone, 1);
    assert_string_equal(f->gone_sn, ""); /* all that it has signed */
    assert_int_equal(registry_authorities(f->registry)->count, 0);
    assert_int_equal(set_ca(f, REGISTRY_INACTIVE), REGISTRY_DONE);
    assert_int_equal(f->authorities, 2); /* that was no change */
    assert_int_equal(set_ca(f, REGISTRY_ACTIVE), REGISTRY_DONE);
    assert_int_equal(registry_authorities(f->registry)->count, 1);
    registry_remove_ca(f->registry, slice_str(CA_SN), registry_fixture_done, f);
    assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    assert_int_equal(f->gone, 2);
    assert_int_equal(registry_ca_count(f->registry), 0);
    assert_int_equal(registry_authorities(f->registry)->count, 0);
    assert_int_equal(set_ca(f, REGISTRY_ACTIVE), REGISTRY_NO_CA);
}

static void no_more_than_32_cas(void **state)
{
    struct registry_fixture *f = *state;
    for (unsigned i = 0; i <= REGISTRY_CAS_MAX; i++) {
        struct pki_pair ca =
            pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "CA", .is_ca = true});
        assert_int_equal(registry_fixture_add_ca(f, &ca, REGISTRY_ACTIVE),
                         i < REGISTRY_CAS_MAX ? REGISTRY_DONE : REGISTRY_FULL);
        pki_pair_done(&ca);
    }
    assert_int_equal(registry_authorities(f->registry)->count, REGISTRY_CAS_MAX);
}

static void a_ca_stays_while_its_devices_do(void **state)
{
    struct registry_fixture *f = *state;
    add_ca(f);
    struct pki_pair one = issue(f, "one");
    registry_fixture_submit(f, &one, CA_SN, "one", REGISTRY_ACTIVE);
    registry_remove_ca(f->registry, slice_str(CA_SN), registry_fixture_done, f);
    assert_int_equal(f->outcome, REGISTRY_BUSY); /* one is on its way */
    assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    char sn[sizeof f->sn];
    memcpy(sn, f->sn, sizeof sn);
    registry_remove_ca(f->registry, slice_str(CA_SN), registry_fixture_done, f);
    assert_int_equal(f->outcome, REGISTRY_IN_USE);
    assert_int_equal(set_ca(f, REGISTRY_INACTIVE), REGISTRY_DONE);
    assert_int_equal(registry_find_ca(f->registry, slice_str(CA_SN))->device_count, 1);
    assert_false(registry_is_active(f->registry, find(f, sn)));
    registry_remove(f->registry, slice_str(sn), registry_fixture_done, f);
    assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    assert_string_equal(f->gone_sn, sn);
    registry_remove_ca(f->registry, slice_str(CA_SN), registry_fixture_done, f);
    registry_fixture_submit(f, &one, CA_SN, "one", REGISTRY_ACTIVE);
    assert_int_equal(f->outcome, REGISTRY_BUSY); /* the CA is on its way out */
    assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    assert_int_equal(add(f, &one, "one", REGISTRY_ACTIVE), REGISTRY_NO_CA);
    pki_pair_done(&one);
}

/* From each state into each that an administrator may ask for. */
static void states_change_as_they_may(void **state)
{
    static const enum registry_state wanted[] = {REGISTRY_ACTIVE, REGISTRY_INACTIVE,
                                                 REGISTRY_REVOKED};
    struct registry_fixture *f = *state;
    add_ca(f);
    for (int from = REGISTRY_ACTIVE; from <= REGISTRY_PENDING; from++) {
        for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
            struct pki_pair one = issue(f, "one");
            struct certificate *shown = registry_fixture_parse(&one);
            registry_enrol(f->registry, shown, slice_str("c"), (enum registry_state)from,
                           registry_fixture_done, f);
            assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
            const int gone = f->gone;
            const bool final = from == REGISTRY_REVOKED && wanted[i] != REGISTRY_REVOKED;
            assert_int_equal(set(f, shown->serial, wanted[i]),
                             final ? REGISTRY_IS_REVOKED : REGISTRY_DONE);
            const struct registry_certificate *after = find(f, shown->serial);
            assert_int_equal(after->state, final ? (enum registry_state)from : wanted[i]);
            assert_true(after->came_by_itself);
            assert_int_equal(f->gone - gone, after->state != REGISTRY_ACTIVE &&
                                                 after->state != (enum registry_state)from);
            (void)certificate_free(shown);
            pki_pair_done(&one);
        }
    }
}

static void certificates_are_bound_once(void **state)
{
    struct registry_fixture *f = *state;
    add_ca(f);
    struct pki_pair one = issue(f, "one");
    assert_int_equal(add(f, &one, "", REGISTRY_ACTIVE), REGISTRY_DONE);
    char sn[sizeof f->sn];
    memcpy(sn, f->sn, sizeof sn);
    registry_bind(f->registry, slice_str(sn), slice_str(""), registry_fixture_done, f);
    assert_int_equal(f->outcome, REGISTRY_BAD_VALUE);
    registry_bind(f->registry, slice_str(sn), slice_str("mine"), registry_fixture_done, f);
    registry_bind(f->registry, slice_str(sn), slice_str("yours"), registry_fixture_done, f);
    assert_int_equal(f->outcome, REGISTRY_BUSY);
    assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    assert_true(slice_equal(find(f, sn)->client_id, slice_str("mine")));
    assert_int_equal(f->gone, 0);
    registry_bind(f->registry, slice_str("FF"), slice_str("x"), registry_fixture_done, f);
    assert_int_equal(f->outcome, REGISTRY_NO_CERTIFICATE);
    pki_pair_done(&one);
}

static void failed_writes_change_nothing(void **state)
{
    struct registry_fixture *f = *state;
    add_ca(f);
    struct pki_pair one = issue(f, "one");
    mem_store_fail_append(f->store, 1, -EIO);
    assert_int_equal(add(f, &one, "c", REGISTRY_ACTIVE), REGISTRY_FAILED);
    assert_int_equal(registry_certificate_count(f->registry), 0);
    assert_int_equal(add(f, &one, "c", REGISTRY_ACTIVE), REGISTRY_DONE);
    mem_store_fail_append(f->store, 1, -EIO);
    assert_int_equal(set(f, f->sn, REGISTRY_INACTIVE), REGISTRY_FAILED);
    assert_int_equal(find(f, f->sn)->state, REGISTRY_ACTIVE);
    assert_int_equal(f->gone, 0);
    mem_store_set_writable(f->store, false);
    assert_int_equal(set_ca(f, REGISTRY_INACTIVE), REGISTRY_FAILED);
    assert_int_equal(registry_authorities(f->registry)->count, 1);
    mem_store_set_writable(f->store, true);
    pki_pair_done(&one);
}

/* Each allocation in turn: the change is refused and nothing of it is left, or it is made. */
static void without_memory_nothing_changes(void **state)
{
    struct registry_fixture *f = *state;
    add_ca(f);
    struct pki_pair one = issue(f, "one");
    struct certificate *shown = registry_fixture_parse(&one);
    unsigned added = 0, changed = 0;
    for (uint64_t n = 1; n <= 16; n++) {
        mem_fail_at(n);
        registry_enrol(f->registry, shown, slice_str("c"), REGISTRY_ACTIVE, registry_fixture_done,
                       f);
        mem_fail_at(0);
        const bool made = registry_fixture_step(f) == REGISTRY_DONE;
        added += made;
        assert_int_equal(registry_certificate_count(f->registry), made);
        if (!made)
            continue;
        mem_fail_at(n);
        registry_set(f->registry, slice_str(shown->serial), REGISTRY_INACTIVE,
                     registry_fixture_done, f);
        mem_fail_at(0);
        const bool set = registry_fixture_step(f) == REGISTRY_DONE;
        changed += set;
        assert_int_equal(find(f, shown->serial)->state, set ? REGISTRY_INACTIVE : REGISTRY_ACTIVE);
        registry_remove(f->registry, slice_str(shown->serial), registry_fixture_done, f);
        assert_int_equal(registry_fixture_step(f), REGISTRY_DONE);
    }
    assert_in_range(added, 1, 11); /* at least five allocations that it cannot do without */
    assert_true(changed > 0);
    (void)certificate_free(shown);
    pki_pair_done(&one);
}

static void all_survives(void **state)
{
    struct registry_fixture *f = *state;
    add_ca(f);
    struct pki_pair one = issue(f, "one");
    f->now_ms = 5000;
    assert_int_equal(add(f, &one, "mine", REGISTRY_INACTIVE), REGISTRY_DONE);
    f->now_ms = 6000;
    assert_int_equal(set(f, f->sn, REGISTRY_ACTIVE), REGISTRY_DONE);
    const struct slice code = registry_code(f->registry);
    char sn[sizeof f->sn];
    memcpy(sn, f->sn, sizeof sn);
    struct registry *old = f->registry;
    mem_store_crash(&f->store, &f->meta, false);
    registry_fixture_read(f);
    assert_int_equal(registry_authorities(f->registry)->count, 1);
    assert_true(slice_equal(registry_code(f->registry), code));
    const struct registry_certificate *was = registry_find(old, slice_str(sn)), *is = find(f, sn);
    assert_int_equal(is->state, REGISTRY_ACTIVE);
    assert_memory_equal(&is->times, &was->times, sizeof was->times);
    assert_int_equal(is->times.activated_ms, is->times.created_ms + 1000);
    assert_int_equal(is->not_after_s, was->not_after_s);
    assert_int_equal(is->not_before_s, was->not_before_s);
    assert_true(slice_equal(is->client_id, slice_str("mine")));
    assert_true(slice_equal(is->common_name, slice_str("one")));
    assert_true(slice_equal(is->ca_sn, slice_str(CA_SN)));
    assert_true(slice_equal(is->der, was->der));
    assert_false(is->came_by_itself);
    assert_int_equal(registry_find_ca(f->registry, slice_str(CA_SN))->device_count, 1);
    (void)registry_close(old);
    pki_pair_done(&one);
}

static void on_put(struct store_append *append, int err)
{
    (void)append;
    assert_int_equal(err, 0);
}

static void put_row(struct registry_fixture *f, const char *key, struct slice value)
{
    const struct meta_op op = {.kind = META_PUT, .key = slice_str(key), .value = value};
    struct store_append append = {.ops = &op, .op_count = 1, .level = STORE_SYNC, .done = on_put};
    assert_int_equal(store_append(f->store, &append), 0);
    (void)mem_store_step(f->store, 1);
}

static void expect_open(struct registry_fixture *f, int wanted)
{
    struct registry *registry = NULL;
    struct errmsg why = {0};
    const int err = registry_open(f->store, f->meta, registry_fixture_now, f, &registry, &why);
    assert_int_equal(err, wanted);
    if (err < 0)
        assert_non_null(strstr(why.text, "could not read the registry of certificates"));
    (void)registry_close(registry);
}

/* Rows that are cut anywhere, or longer, or of an unknown version or state, stop the start. */
static void damaged_rows_are_told(void **state)
{
    struct registry_fixture *f = *state;
    uint8_t row[3 + 6 * 8 + 5 * 4 + 3 + 1] = {1, REGISTRY_ACTIVE};
    row[3 + 6 * 8] = 3; /* the first text */
    for (size_t size = 0; size <= sizeof row; size++) {
        put_row(f, "XAA", slice_of(row, size));
        expect_open(f, size == sizeof row - 1 ? 0 : ERR_CORRUPT);
    }
    static const uint8_t wrong[][2] = {{2, 1}, {0, 1}, {1, 0}, {1, 5}};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        memcpy(row, wrong[i], 2);
        put_row(f, "XAA", slice_of(row, sizeof row - 1));
        expect_open(f, ERR_CORRUPT);
    }
    row[0] = row[1] = 1;
    put_row(f, "XAA", slice_of(row, sizeof row - 1));
    put_row(f, "KAA", slice_of(row, 3 + 4 * 8 + 2 * 4)); /* no certificates in it */
    expect_open(f, ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_life_of_a_ca, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_more_than_32_cas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_ca_stays_while_its_devices_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(states_change_as_they_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(certificates_are_bound_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_writes_change_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_survives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_rows_are_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
