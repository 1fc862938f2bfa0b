#include "broker/outbound.h"

#include "base/mem.h"
#include "base/unit.h"
#include "broker/core_priv.h"

static struct inflight *new_with(uint16_t packet_id)
{
    struct inflight *inflight = mem_new(sizeof *inflight);
    inflight->packet_id = packet_id;
    return inflight;
}

/* Gives out the next identifier and takes it. */
static struct inflight *open_next(struct outbound *outbound)
{
    struct inflight *inflight = new_with(outbound_next(outbound));
    outbound_put(outbound, inflight);
    return inflight;
}

static void end(struct outbound *outbound, struct inflight *inflight)
{
    outbound_remove(outbound, inflight);
    mem_free(inflight);
}

static void what_is_put_is_found(void **state)
{
    (void)state;
    struct outbound outbound = {.size = 0};
    assert_null(outbound_find(&outbound, 1));
    struct inflight *first = open_next(&outbound), *second = open_next(&outbound);
    assert_int_equal(first->packet_id, 1);
    assert_int_equal(second->packet_id, 2);
    assert_ptr_equal(outbound_find(&outbound, 1), first);
    assert_ptr_equal(outbound_find(&outbound, 2), second);
    assert_null(outbound_find(&outbound, 3));
    assert_null(outbound_find(&outbound, (uint16_t)(1 + outbound.size))); /* the same place */
    end(&outbound, first);
    assert_null(outbound_find(&outbound, 1));
    assert_int_equal(outbound.count, 1);
    end(&outbound, second);
    outbound_done(&outbound);
}

/* [MQTT3-2.3.1-2] [MQTT5-2.2.1-4] One that a client never acknowledges is not given out again,
 * whatever goes on around it. */
static void identifiers_in_use_are_passed_over(void **state)
{
    (void)state;
    struct outbound outbound = {.size = 0};
    struct inflight *kept = open_next(&outbound);
    for (uint32_t i = 0; i < 3 * UINT16_MAX; i++) {
        struct inflight *inflight = open_next(&outbound);
        assert_int_not_equal(inflight->packet_id, 0);
        assert_int_not_equal(inflight->packet_id, kept->packet_id);
        end(&outbound, inflight);
    }
    assert_true(outbound.size <= 8);
    assert_ptr_equal(outbound_find(&outbound, kept->packet_id), kept);
    end(&outbound, kept);
    outbound_done(&outbound);
}

static void all_identifiers_can_be_in_use(void **state)
{
    (void)state;
    struct outbound outbound = {.size = 0};
    for (uint32_t i = 0; i < UINT16_MAX; i++)
        assert_int_equal(open_next(&outbound)->packet_id, i + 1);
    assert_int_equal(outbound_next(&outbound), 0);
    end(&outbound, outbound_find(&outbound, 4711));
    assert_int_equal(outbound_next(&outbound), 4711);
    for (uint32_t packet_id = 1; packet_id <= UINT16_MAX; packet_id++) {
        if (packet_id != 4711)
            end(&outbound, outbound_find(&outbound, (uint16_t)packet_id));
    }
    assert_int_equal(outbound.size, 0); /* not kept: it is large */
}

/* As rows bring them after a restart. */
static void identifiers_of_old_may_share_a_place(void **state)
{
    (void)state;
    struct outbound outbound = {.size = 0};
    static const uint16_t packet_ids[] = {3, 11, 19, 35, 32771};
    for (size_t i = 0; i < ARRAY_COUNT(packet_ids); i++)
        outbound_put(&outbound, new_with(packet_ids[i]));
    for (size_t i = 0; i < ARRAY_COUNT(packet_ids); i++)
        assert_int_equal(outbound_find(&outbound, packet_ids[i])->packet_id, packet_ids[i]);
    assert_int_equal(outbound.count, ARRAY_COUNT(packet_ids));
    for (size_t i = 0; i < ARRAY_COUNT(packet_ids); i++)
        end(&outbound, outbound_find(&outbound, packet_ids[i]));
    assert_int_equal(outbound.size, 0);
}

/* A small table stays when it is empty, until it is shrunk. */
static void small_tables_are_kept(void **state)
{
    (void)state;
    struct outbound outbound = {.size = 0};
    struct inflight *inflight = open_next(&outbound);
    outbound_shrink(&outbound); /* not while there is something in it */
    assert_ptr_equal(outbound_find(&outbound, 1), inflight);
    end(&outbound, inflight);
    assert_true(outbound.size > 0);
    outbound_shrink(&outbound);
    assert_int_equal(outbound.size, 0);
    inflight = open_next(&outbound);
    assert_int_equal(inflight->packet_id, 2); /* goes on all the same */
    end(&outbound, inflight);
    outbound_done(&outbound);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_found),
        cmocka_unit_test(identifiers_in_use_are_passed_over),
        cmocka_unit_test(all_identifiers_can_be_in_use),
        cmocka_unit_test(identifiers_of_old_may_share_a_place),
        cmocka_unit_test(small_tables_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
