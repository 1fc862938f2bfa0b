/* Token buckets under a clock of the test's. */
#include "broker/quota_bucket.h"

#include "base/unit.h"

/* Takes one at a time; returns how many there were. */
static int drain(struct quota_bucket *bucket, uint32_t rate, uint64_t now_ms)
{
    int count = 0;
    quota_bucket_fill(bucket, rate, now_ms);
    while (quota_bucket_tokens(bucket) >= 1) {
        quota_bucket_take(bucket, 1);
        count++;
    }
    return count;
}

static void begins_full_and_fills_evenly(void **state)
{
    (void)state;
    static const struct {
        uint32_t rate;
        uint64_t after_ms;
        int tokens;
    } rows[] = {
        {1000, 0, 0}, {1000, 1, 1},   {1000, 10, 10}, {1000, 1000, 1000}, {1000, 5000, 1000},
        {3, 333, 0},  {3, 334, 1},    {3, 999, 2},    {3, 1000, 3},       {1, 999, 0},
        {1, 1000, 1}, {1, 100000, 1}, {7, 500, 3},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct quota_bucket bucket = {0};
        assert_int_equal(drain(&bucket, rows[i].rate, 50), rows[i].rate);
        assert_int_equal(drain(&bucket, rows[i].rate, 50 + rows[i].after_ms), rows[i].tokens);
    }
}

/* Looking often takes nothing away: what is not a whole token yet is kept. */
static void parts_of_tokens_add_up(void **state)
{
    (void)state;
    struct quota_bucket bucket = {0};
    int count = drain(&bucket, 3, 1);
    for (uint64_t now_ms = 2; now_ms <= 10001; now_ms++)
        count += drain(&bucket, 3, now_ms);
    assert_int_equal(count, 3 + 30);
}

static void debt_is_paid_first(void **state)
{
    (void)state;
    struct quota_bucket bucket = {0};
    quota_bucket_fill(&bucket, 10, 1);
    quota_bucket_take(&bucket, 15);
    assert_int_equal(quota_bucket_tokens(&bucket), -5);
    quota_bucket_fill(&bucket, 10, 2); /* a hundredth of a token */
    assert_int_equal(quota_bucket_tokens(&bucket), -5);
    quota_bucket_fill(&bucket, 10, 501);
    assert_int_equal(quota_bucket_tokens(&bucket), 0);
    quota_bucket_take(&bucket, -4);
    assert_int_equal(quota_bucket_tokens(&bucket), 4);
}

static void largest_rate_does_not_overflow(void **state)
{
    (void)state;
    struct quota_bucket bucket = {0};
    quota_bucket_fill(&bucket, 1000000000, 1);
    quota_bucket_take(&bucket, 2000000000);
    quota_bucket_fill(&bucket, 1000000000, UINT64_MAX);
    assert_int_equal(quota_bucket_tokens(&bucket), 1000000000);
}

/* A smaller rate counts at once. */
static void rate_can_change(void **state)
{
    (void)state;
    struct quota_bucket bucket = {0};
    quota_bucket_fill(&bucket, 1000, 1);
    quota_bucket_fill(&bucket, 10, 1);
    assert_int_equal(quota_bucket_tokens(&bucket), 10);
}

static void affords(void **state)
{
    (void)state;
    static const struct {
        int64_t tokens, depth, spare;
        uint32_t cost;
        bool answer;
    } rows[] = {
        {1, 10, 0, 1, true},  {0, 10, 0, 1, false}, {-3, 10, 0, 1, false},
        {5, 10, 0, 6, false}, {6, 10, 0, 6, true},  {2, 10, 2, 1, false},
        {3, 10, 2, 1, true},  {4, 4, 0, 6, true}, /* more than is ever saved up: when all is there
                                                   */
        {3, 4, 0, 6, false},  {1, 1, 0, 6, true},   {1, 1, 1, 1, true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        assert_int_equal(quota_affords(rows[i].tokens, rows[i].depth, rows[i].spare, rows[i].cost),
                         rows[i].answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_full_and_fills_evenly),
        cmocka_unit_test(parts_of_tokens_add_up),
        cmocka_unit_test(debt_is_paid_first),
        cmocka_unit_test(largest_rate_does_not_overflow),
        cmocka_unit_test(rate_can_change),
        cmocka_unit_test(affords),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
