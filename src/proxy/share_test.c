#include "proxy/share.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { CONNS = 20 };

struct fixture {
    struct budget budget;
    struct out_pool pool;
    struct share share;
    struct outbuf outs[CONNS];
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    fixture->budget.max = UINT64_MAX;
    out_pool_init(&fixture->pool, &fixture->budget, 2);
    share_init(&fixture->share, &fixture->pool);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < CONNS; i++)
        outbuf_clear(&fixture->outs[i], &fixture->pool);
    assert_int_equal(fixture->budget.used, 0);
    share_done(&fixture->share);
    out_pool_done(&fixture->pool);
    mem_free(fixture);
    return 0;
}

/* To one conn, by itself (which here leaves nothing in its buffer) or with others. Returns whether
 * it was with others. */
static bool send_to(struct fixture *fixture, int conn, uint64_t message,
                    const struct enc_publish *publish, const char *payload)
{
    struct enc_publish whole = *publish;
    whole.payload_size = (uint32_t)strlen(payload);
    whole.packet_id = publish->qos > 0 ? (uint16_t)(256 + conn) : 0;
    const struct share_key key = {.message = message,
                                  .expiry_s = publish->expiry_s,
                                  .version = publish->version,
                                  .qos = publish->qos,
                                  .retain = publish->retain};
    const struct share_run *run = share_find(&fixture->share, &key);
    if (!run) {
        share_offer(&fixture->share, &key, &whole, slice_str(payload));
        return false;
    }
    return share_put(&fixture->share, run, whole.packet_id, &fixture->outs[conn]) == 0;
}

/* To all conns; returns how many shared it. */
static int fan_out(struct fixture *fixture, uint64_t message, const struct enc_publish *publish,
                   const char *payload)
{
    int shared = 0;
    for (int i = 0; i < CONNS; i++)
        shared += send_to(fixture, i, message, publish, payload);
    return shared;
}

static const struct enc_publish plain = {.version = 4,
                                         .topic = {.bytes = (const uint8_t *)"topic", .size = 5}};

/* Gathers what one conn would be sent. */
static ssize_t take(struct stream *stream, const struct iovec *iov, int iov_count)
{
    uint8_t *to = stream->owner;
    size_t size = 0;
    for (int i = 0; i < iov_count; i++) {
        memcpy(to + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    assert_int_equal(iov_count, 1); /* messages that follow one another are one piece */
    return (ssize_t)size;
}

static void the_rest_of_many_share(void **state)
{
    struct fixture *fixture = *state;
    const int first = fan_out(fixture, 1, &plain, "one");
    assert_true(first > CONNS / 2 && first < CONNS);
    assert_int_equal(fan_out(fixture, 2, &plain, ""), first);
    assert_int_equal(fan_out(fixture, 3, &plain, "three"), first);
    static const uint8_t wanted[] = "\x30\x0a\x00\x05topicone\x30\x07\x00\x05topic"
                                    "\x30\x0c\x00\x05topicthree";
    uint8_t got[256];
    const struct stream_ops ops = {.name = "test", .writev = take};
    struct stream stream = {.ops = &ops, .owner = got};
    struct outbuf *last = &fixture->outs[CONNS - 1];
    assert_int_equal(outbuf_write(last, &fixture->pool, &stream, SIZE_MAX), sizeof wanted - 1);
    assert_memory_equal(got, wanted, sizeof wanted - 1);
    assert_int_equal(last->size, 0);
}

/* Each has a copy with its own packet ID, whatever was sent since. */
static void packet_ids_are_their_own(void **state)
{
    struct fixture *fixture = *state;
    struct enc_publish forms[2] = {plain, plain};
    forms[0].qos = forms[1].qos = 1;
    forms[1].version = 5;
    for (int form = 0; form < 2; form++) {
        assert_true(fan_out(fixture, 7, &forms[form], "x") > CONNS / 2);
        assert_true(fan_out(fixture, 8, &forms[form], "yz") > CONNS / 2);
        for (int i = CONNS - 2; i < CONNS; i++) {
            uint8_t got[64];
            const struct stream_ops ops = {.name = "test", .writev = take};
            struct stream stream = {.ops = &ops, .owner = got};
            uint8_t wanted[] = "\x32\x0a\x00\x05topic\x01\xffx\x32\x0b\x00\x05topic\x01\xffyz";
            uint8_t wanted5[] =
                "\x32\x0b\x00\x05topic\x01\xff\x00x\x32\x0c\x00\x05topic\x01\xff\x00yz";
            uint8_t *all = form ? wanted5 : wanted;
            const size_t size = form ? sizeof wanted5 - 1 : sizeof wanted - 1;
            all[10] = all[form ? 23 : 22] = (uint8_t)i;
            assert_int_equal(outbuf_write(&fixture->outs[i], &fixture->pool, &stream, SIZE_MAX),
                             size);
            assert_memory_equal(got, all, size);
        }
    }
}

static void what_differs_is_not_shared(void **state)
{
    struct fixture *fixture = *state;
    struct enc_publish publish = plain;
    const int all = fan_out(fixture, 1, &plain, "x");
    assert_int_equal(fan_out(fixture, 0, &plain, "x"), 0); /* for one conn alone */
    publish.version = 5;
    publish.has_expiry = true;
    publish.expiry_s = 9;
    assert_int_equal(fan_out(fixture, 2, &publish, "x"), all);
    publish.expiry_s = 8; /* a second later */
    assert_int_equal(send_to(fixture, 0, 2, &publish, "x"), false);
    static char large[5000];
    memset(large, 'x', sizeof large - 1);
    assert_int_equal(fan_out(fixture, 6, &plain, large), 0);
}

/* Versions and RETAIN have runs of their own, also in turns within one fan-out. */
static void forms_do_not_mix(void **state)
{
    struct fixture *fixture = *state;
    struct enc_publish forms[3] = {plain, plain, plain};
    forms[1].version = 5;
    forms[2].retain = true;
    for (int turn = 0; turn < 9; turn++) {
        for (int i = 0; i < CONNS; i++)
            outbuf_clear(&fixture->outs[i], &fixture->pool);
        for (int i = 0; i < CONNS; i++)
            (void)send_to(fixture, i, 9, &forms[i % 3], "x");
    }
    for (int i = CONNS - 3; i < CONNS; i++) {
        uint8_t got[64];
        const struct stream_ops ops = {.name = "test", .writev = take};
        struct stream stream = {.ops = &ops, .owner = got};
        const ssize_t size = outbuf_write(&fixture->outs[i], &fixture->pool, &stream, SIZE_MAX);
        assert_int_equal(size, i % 3 == 1 ? 11 : 10);
        assert_int_equal(got[0], i % 3 == 2 ? 0x31 : 0x30);
    }
}

/* One that does not keep up would keep a buffer alive for each message: it gets copies. */
static void slow_conns_have_copies(void **state)
{
    struct fixture *fixture = *state;
    struct outbuf *slow = &fixture->outs[CONNS - 1];
    static const uint8_t backlog[100000];
    assert_int_equal(outbuf_add(slow, &fixture->pool, backlog, sizeof backlog), 0);
    assert_true(fan_out(fixture, 1, &plain, "x") > 0);
    const uint64_t used = fixture->budget.used;
    assert_true(send_to(fixture, CONNS - 1, 1, &plain, "x"));
    assert_int_equal(fixture->budget.used, used); /* it went into the buffer's last chunk */
    assert_true(send_to(fixture, CONNS - 2, 1, &plain, "x"));
    assert_true(fixture->budget.used > used);
}

static void without_memory_nothing_is_shared(void **state)
{
    struct fixture *fixture = *state;
    const int all = fan_out(fixture, 1, &plain, "x");
    for (uint64_t n = 1; n <= 3; n++) {
        share_done(&fixture->share);
        mem_fail_at(n);
        assert_true(fan_out(fixture, 1 + n, &plain, "x") >= all - 1);
        mem_fail_at(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_rest_of_many_share, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packet_ids_are_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_differs_is_not_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forms_do_not_mix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_conns_have_copies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_shared, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("proxy/share", tests, NULL, NULL);
}
