/* Measures the embedded engine by itself: appends at several numbers of outstanding requests, the
 * drain of a backlog from disk, and recovery.
 *
 *     tidemq-store-bench DIR [MESSAGES [QUEUES]]
 *
 * DIR is made, and must not hold anything of value: what the runs leave is removed. A message has
 * 256 bytes of payload, a topic of 36 bytes and belongs to two queues: one of QUEUES (10,000), and
 * its topic's.
 * CPU is that of the whole process, all threads, user and system.
 */
#include "base/mem.h"
#include "store/local/local.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PAYLOAD_SIZE = 256, TOPIC_ID = 1 << 30, GROUP_MAX = 4096 };

struct bench {
    struct local_config config;
    struct loop *loop;
    struct worker_pool *workers;
    struct metrics *metrics;
    struct store *store;
    struct meta *meta;
    uint64_t queue_count;
    uint64_t submitted, finished, failed, target;
};

struct request {
    struct store_append req; /* first */
    struct bench *bench;
    double began;
};

struct drain {
    struct store_read req; /* first */
    struct bench *bench;
    bool waiting;
    int err;
};

static float latencies[1 << 20];
static uint64_t latency_count;

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what, int err, const struct errmsg *why)
{
    (void)fprintf(stderr, "could not %s: %s %s\n", what, err_text(err), why ? why->text : "");
    exit(1);
}

static void open_store(struct bench *bench)
{
    struct errmsg why = {0};
    const int err = local_open(&bench->config, bench->loop, bench->workers, NULL, bench->metrics,
                               &bench->store, &bench->meta, &why);
    if (err < 0)
        die("open the store", err, &why);
}

static void on_done(struct store_append *req, int err);

static void submit(struct request *request)
{
    static const char payload[PAYLOAD_SIZE];
    struct bench *bench = request->bench;
    if (bench->submitted == bench->target)
        return;
    const uint32_t queue_id = 1 + (uint32_t)(bench->submitted * 2654435761u % bench->queue_count);
    const struct message message = {
        .topic = slice_str("factory/line-07/machine-0042/reading"),
        .payload = slice_of(payload, sizeof payload),
        .client_id = slice_str("machine-0042"),
        .time_ms = 1,
        .expiry_s = MESSAGE_NO_EXPIRY,
        .topic_id = TOPIC_ID,
        .qos = 1,
    };
    request->req = (struct store_append){
        .message = &message, .queue_ids = &queue_id, .queue_count = 1, .done = on_done};
    request->began = now_s();
    const int err = store_append(bench->store, &request->req);
    if (err < 0)
        die("append", err, NULL);
    bench->submitted++;
}

static void on_done(struct store_append *req, int err)
{
    struct request *request = CONTAINER_OF(req, struct request, req);
    struct bench *bench = request->bench;
    bench->finished++;
    bench->failed += err < 0;
    if (latency_count < ARRAY_COUNT(latencies))
        latencies[latency_count++] = (float)(now_s() - request->began);
    submit(request);
}

static int compare_floats(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

static void turn(struct bench *bench)
{
    if (loop_turn(bench->loop, -1) < 0)
        exit(1);
}

static void run_appends(struct bench *bench, uint32_t group, uint64_t count)
{
    static struct request requests[GROUP_MAX];
    const int64_t syncs = metric_get(&bench->metrics->store_syncs);
    const int64_t bytes = metric_get(&bench->metrics->store_bytes);
    bench->submitted = bench->finished = bench->failed = latency_count = 0;
    bench->target = count;
    const double began = now_s(), cpu_began = cpu_s();
    for (uint32_t i = 0; i < group; i++) {
        requests[i].bench = bench;
        submit(&requests[i]);
    }
    while (bench->finished < count)
        turn(bench);
    const double took = now_s() - began, cpu = cpu_s() - cpu_began;
    qsort(latencies, latency_count, sizeof *latencies, compare_floats);
    (void)printf(
        "append  outstanding %4" PRIu32 ": %8.0f msg/s, %5.2f CPU s per million, "
        "p50 %5.2f ms, p99 %5.2f ms, %5.1f msg/sync, %3.0f bytes/msg, %" PRIu64 " failed\n",
        group, (double)count / took, cpu / (double)count * 1e6,
        (double)latencies[latency_count / 2] * 1e3,
        (double)latencies[latency_count * 99 / 100] * 1e3,
        (double)count / (double)MAX(metric_get(&bench->metrics->store_syncs) - syncs, 1),
        (double)(metric_get(&bench->metrics->store_bytes) - bytes) / (double)count, bench->failed);
}

static void on_read(struct store_read *req, int err)
{
    struct drain *drain = CONTAINER_OF(req, struct drain, req);
    drain->waiting = false;
    drain->err = err;
}

/* Reads all of the topic's queue, as one offline session would on its return. */
static void run_drain(struct bench *bench, const char *label, uint32_t queue_id)
{
    struct drain drain = {.bench = bench};
    uint64_t first = 0, next = 0;
    store_queue_bounds(bench->store, queue_id, &first, &next);
    const double began = now_s(), cpu_began = cpu_s();
    uint64_t seq = first;
    while (seq < next) {
        drain.req = (struct store_read){.queue_id = queue_id,
                                        .from_seq = seq,
                                        .entries_max = STORE_READ_MAX,
                                        .bytes_max = 1024 * 1024,
                                        .done = on_read};
        drain.err = 0;
        const int result = store_read(bench->store, &drain.req);
        drain.waiting = result == 0;
        while (drain.waiting)
            turn(bench);
        if (result < 0 || drain.err < 0)
            die("read", result < 0 ? result : drain.err, NULL);
        seq += drain.req.entry_count;
        store_release(bench->store, &drain.req);
    }
    const double took = now_s() - began, count = (double)(next - first);
    (void)printf("drain   %s: %" PRIu64 " messages, %8.0f msg/s, %5.2f CPU s per million\n", label,
                 next - first, count / took, (cpu_s() - cpu_began) / count * 1e6);
}

static void run_recovery(struct bench *bench)
{
    const double began = now_s(), cpu_began = cpu_s();
    open_store(bench);
    struct store_stats stats;
    bench->store->ops->stats(bench->store, &stats);
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    (void)printf("memory  at most %ld MB resident\n", usage.ru_maxrss / 1024);
    (void)printf("open    %.0f MB of log, %" PRIu32 " index files: %.3f s, %.3f CPU s\n",
                 (double)stats.log_bytes / 1e6, stats.index_file_count, now_s() - began,
                 cpu_s() - cpu_began);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "usage: tidemq-store-bench DIR [MESSAGES [QUEUES]]\n");
        return 2;
    }
    static const uint32_t groups[] = {1, 8, 64, 512, 4096};
    const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    struct bench bench = {.metrics = metrics_new()};
    bench.queue_count = argc > 3 ? strtoull(argv[3], NULL, 10) : 10000;
    local_config_default(&bench.config);
    bench.config.dir = argv[1];
    bench.config.pool_segments = 4;
    if (loop_new(&bench.loop, NULL) < 0 || worker_pool_new(2, &bench.workers, NULL) < 0)
        return 1;
    open_store(&bench);
    for (int i = 0; i < 500 && metric_get(&bench.metrics->store_segments_pool) < 4; i++)
        (void)!loop_turn(bench.loop, 20);
    for (size_t i = 0; i < ARRAY_COUNT(groups); i++)
        run_appends(&bench, groups[i], groups[i] < 64 ? count / 50 : count);
    run_drain(&bench, "tail and disk", TOPIC_ID);
    bench.store = store_close(bench.store);
    run_recovery(&bench);
    run_drain(&bench, "disk", TOPIC_ID);
    run_drain(&bench, "disk, sparse queue", 77);
    bench.store = store_close(bench.store);
    (void)worker_pool_free(bench.workers);
    (void)loop_free(bench.loop);
    (void)metrics_free(bench.metrics);
    return bench.failed > 0;
}
