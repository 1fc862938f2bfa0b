#include "net/lane.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { PARCELS_MAX = 16 };

/* Both ends on loops that the test turns itself. */
struct ends {
    struct loop *loop, *other;
    struct mailbox *back, *to;
    struct lane lane;
    uint64_t bytes, entries, rooms;
    uint8_t last; /* first byte of the last bytes */
    int32_t value;
};

static void on_entry(void *data, const struct lane_entry *entry, const uint8_t *bytes)
{
    struct ends *ends = data;
    assert_ptr_equal(entry->about, ends);
    ends->entries++;
    assert_int_equal(bytes != NULL, entry->kind == LANE_BYTES);
    if (bytes) {
        ends->bytes += (uint32_t)entry->value;
        ends->last = bytes[0];
        assert_int_equal(bytes[entry->value - 1], bytes[0]);
    } else {
        ends->value = entry->value;
    }
}

static void on_room(void *data)
{
    ((struct ends *)data)->rooms++;
}

static int set_up(void **state)
{
    struct ends *ends = mem_new(sizeof *ends);
    struct errmsg err;
    assert_int_equal(loop_new(&ends->loop, &err), 0);
    assert_int_equal(loop_new(&ends->other, &err), 0);
    assert_int_equal(mailbox_new(ends->loop, &ends->back, &err), 0);
    assert_int_equal(mailbox_new(ends->other, &ends->to, &err), 0);
    ends->lane = (struct lane){
        .loop = ends->loop,
        .to = ends->to,
        .back = ends->back,
        .on_entry = on_entry,
        .entry_data = ends,
        .on_room = on_room,
        .room_data = ends,
        .parcels_max = PARCELS_MAX,
    };
    lane_init(&ends->lane);
    *state = ends;
    return 0;
}

static int tear_down(void **state)
{
    struct ends *ends = *state;
    (void)mailbox_free(ends->to);
    (void)mailbox_free(ends->back);
    lane_done(&ends->lane);
    (void)loop_free(ends->loop);
    (void)loop_free(ends->other);
    mem_free(ends);
    return 0;
}

static void turn(struct loop *loop)
{
    assert_int_equal(loop_turn(loop, 0), 0);
}

/* Puts `size` bytes of one value in; false: no room. */
static bool put_bytes(struct ends *ends, uint8_t value, uint32_t size)
{
    uint32_t room = 0;
    uint8_t *to = lane_reserve(&ends->lane, size, &room);
    if (!to)
        return false;
    assert_true(room >= size);
    memset(to, value, size);
    lane_commit(&ends->lane, ends, size);
    return true;
}

static void entries_go_together_and_in_order(void **state)
{
    struct ends *ends = *state;
    assert_true(put_bytes(ends, 1, 5));
    lane_put(&ends->lane, ends, LANE_KIND_FREE, -7);
    assert_true(put_bytes(ends, 2, 8));
    turn(ends->other);
    assert_int_equal(ends->entries, 0); /* only at the end of the sender's turn */
    turn(ends->loop);
    turn(ends->other);
    assert_int_equal(ends->entries, 3);
    assert_int_equal(ends->bytes, 13);
    assert_int_equal(ends->last, 2);
    assert_int_equal(ends->value, -7);
    assert_int_equal(ends->lane.under_way, 1);
    turn(ends->loop);
    assert_int_equal(ends->lane.under_way, 0);
}

static void nothing_reserved_is_nothing_sent(void **state)
{
    struct ends *ends = *state;
    uint32_t room = 0;
    assert_non_null(lane_reserve(&ends->lane, 100, &room));
    lane_commit(&ends->lane, ends, 0);
    turn(ends->loop);
    turn(ends->other);
    assert_int_equal(ends->entries, 0);
    assert_int_equal(ends->lane.under_way, 0);
}

/* The receiver does not keep up: bytes are refused at a fixed number of parcels, entries without
 * bytes are not, and room is told once. */
static void a_full_lane_refuses_bytes_only(void **state)
{
    struct ends *ends = *state;
    const uint32_t size = LANE_PARCEL_SIZE / 2;
    uint64_t put = 0;
    while (put_bytes(ends, 3, size))
        put++;
    assert_int_equal(put, PARCELS_MAX);
    assert_false(put_bytes(ends, 3, 1024 + size));
    for (int i = 0; i < 100000; i++)
        lane_put(&ends->lane, ends, LANE_KIND_FREE, i);
    assert_int_equal(ends->rooms, 0);
    turn(ends->loop);
    assert_true(ends->lane.under_way > PARCELS_MAX);
    turn(ends->other);
    assert_int_equal(ends->bytes, put * size);
    assert_int_equal(ends->entries, put + 100000);
    assert_int_equal(ends->value, 99999);
    turn(ends->loop);
    assert_int_equal(ends->lane.under_way, 0);
    assert_int_equal(ends->rooms, 1);
    assert_true(put_bytes(ends, 4, size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_go_together_and_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_reserved_is_nothing_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_lane_refuses_bytes_only, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("net/lane", tests, NULL, NULL);
}
