#include "base/metrics.h"

#include "base/unit.h"

#include <pthread.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 10000, NAMES_MAX = 256 };

struct seen {
    size_t count;
    const char *names[NAMES_MAX];
    int64_t value_sum;
    int64_t sessions; /* of the gauge of that name */
};

static void note(void *data, const char *name, const char *help, bool counter, int64_t value)
{
    struct seen *seen = data;
    assert_true(seen->count < NAMES_MAX);
    assert_int_equal(strncmp(name, "tidemq_", 7), 0);
    assert_true(strlen(help) > 0);
    for (size_t i = 0; i < seen->count; i++)
        assert_string_not_equal(seen->names[i], name);
    seen->names[seen->count++] = name;
    seen->value_sum += value;
    if (strcmp(name, "tidemq_sessions") == 0) {
        assert_false(counter);
        seen->sessions = value;
    }
    if (strcmp(name, "tidemq_packets_received") == 0)
        assert_true(counter);
}

static void table_lists_each_metric_once(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct seen seen = {0};
    metrics_each(metrics, note, &seen);
    assert_int_equal(seen.count, sizeof *metrics / sizeof(int64_t));
    assert_int_equal(seen.value_sum, 0);
    metric_set(&metrics->sessions, 12);
    metric_add(&metrics->sessions, -2);
    seen = (struct seen){0};
    metrics_each(metrics, note, &seen);
    assert_int_equal(seen.sessions, 10);
    assert_int_equal(seen.value_sum, 10);
    assert_null(metrics_free(metrics));
    assert_null(metrics_free(NULL));
}

static void *count_up(void *data)
{
    struct metrics *metrics = data;
    for (int i = 0; i < ROUNDS; i++)
        metric_add(&metrics->store_appends, 1);
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, metrics), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(metric_get(&metrics->store_appends), THREADS * ROUNDS);
    (void)metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_lists_each_metric_once),
        cmocka_unit_test(threads_lose_no_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
