/* The broker object: assembly, numbers, and writes of rows. */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/match_cache.h"
#include "broker/rows.h"

#define NUMBER_BLOCK 1024u

/* The cache of matches takes this part of the memory allowed, and not more entries than this. */
#define CACHE_PART        32u
#define CACHE_ENTRIES_MAX UINT64_C(65536)

struct write {
    struct store_append append;
    struct broker *broker;
    core_write_fn *done;
    void *data;
};

void broker_config_default(struct broker_config *config)
{
    *config = (struct broker_config){
        .topics_max = 100000,
        .duplicate_client_id = DUPLICATE_TAKEOVER,
        .session_expiry_max_s = 7 * 24 * 3600,
        .sessions_max = UINT32_MAX,
        .filters_per_client_max = UINT32_MAX,
        .subscriptions_max = UINT32_MAX,
        .payload_max = 256u << 20,
        .receive_max = 1024,
        .max_inflight = 1024,
        .topic_levels_max = 128,
        .restart_grace_s = 10,
        .sys_interval_s = 10,
        .qos0_log = true,
        .retained_bytes_max = UINT64_MAX,
        .memory_max = UINT64_MAX,
    };
}

uint64_t core_head(const struct broker *broker)
{
    struct store_stats stats;
    broker->deps.store->ops->stats(broker->deps.store, &stats);
    return stats.head_position;
}

uint64_t core_now_ms(const struct broker *broker)
{
    return timer_set_now_ms(broker->deps.timers);
}

uint64_t core_wall_ms(const struct broker *broker)
{
    return broker->deps.wall_ms(broker->deps.clock_data);
}

int core_copy(struct slice bytes, struct slice *ret_copy)
{
    if (bytes.size == 0) {
        *ret_copy = slice_of("", 0);
        return 0;
    }
    void *copy = mem_try_copy(bytes.bytes, bytes.size);
    if (!copy)
        return ERR_NOMEM;
    *ret_copy = slice_of(copy, bytes.size);
    return 0;
}

bool core_is_full(const struct broker *broker)
{
    return mem_used() > broker->config.memory_max;
}

void core_free(struct slice *slice)
{
    if (slice->size)
        mem_free((void *)(uintptr_t)slice->bytes);
    *slice = slice_of("", 0);
}

void core_ended(struct broker *broker)
{
    ASSERT(broker->pending > 0);
    broker->pending--;
    if (broker->pending == 0 && broker->draining && broker->idle) {
        void (*idle)(void *data) = broker->idle;
        broker->idle = NULL;
        idle(broker->idle_data);
    }
}

static void write_done(struct store_append *append, int err)
{
    struct write *write = CONTAINER_OF(append, struct write, append);
    struct broker *broker = write->broker;
    if (write->done)
        write->done(broker, write->data, err);
    mem_free(write);
    core_ended(broker);
}

int core_write(struct broker *broker, uint8_t level, core_write_fn *done, void *data)
{
    ASSERT(broker->txn.count > 0);
    (void)lost_retry(broker);
    struct write *write = mem_new(sizeof *write);
    write->broker = broker;
    write->done = done;
    write->data = data;
    write->append = (struct store_append){
        .ops = txn_ops(&broker->txn),
        .op_count = (uint16_t)broker->txn.count,
        .level = level,
        .done = write_done,
    };
    ASSERT(broker->txn.count <= UINT16_MAX);
    const int err = store_append(broker->deps.store, &write->append);
    txn_clear(&broker->txn);
    if (err < 0)
        mem_free(write);
    else
        broker->pending++;
    return err;
}

void core_write_lazy(struct broker *broker)
{
    if (broker->txn.count == 0)
        return;
    const int err = core_write(broker, STORE_LAZY, NULL, NULL);
    if (err < 0)
        log_write(broker->deps.log, LOG_WARN, "store", "rows were not written: %s", err_text(err));
}

/* A reservation that was lost with a failed write is made again by the next who needs a number. */
static void numbers_written(struct broker *broker, void *data, int err)
{
    (void)data;
    if (err < 0) {
        broker->number_limit = broker->next_number;
        broker->queue_id_limit = broker->next_queue_id;
    }
}

/* Reserves a block ahead in a transaction of its own, so that what broker->txn holds is untouched.
 */
static int numbers_reserve(struct broker *broker)
{
    const uint64_t number_limit = broker->next_number + NUMBER_BLOCK;
    const uint32_t queue_id_limit = broker->next_queue_id + QUEUE_ID_BLOCK;
    ASSERT(queue_id_limit > broker->next_queue_id);
    struct txn kept = broker->txn;
    broker->txn = (struct txn){.parts = NULL};
    row_put_numbers(&broker->txn, number_limit, queue_id_limit);
    const int err = core_write(broker, STORE_LAZY, numbers_written, NULL);
    txn_done(&broker->txn);
    broker->txn = kept;
    if (err == 0) {
        broker->number_limit = number_limit;
        broker->queue_id_limit = queue_id_limit;
    }
    return err;
}

uint64_t core_new_number(struct broker *broker)
{
    if (broker->next_number >= broker->number_limit && numbers_reserve(broker) < 0)
        return 0;
    return broker->next_number++;
}

/* Above all that are ever reserved, and above those of every earlier start: a million a
 * millisecond would have to be used up for two to meet. */
uint64_t core_passing_number(struct broker *broker)
{
    if (broker->next_passing == 0)
        broker->next_passing = PASSING_NUMBERS | core_wall_ms(broker) << 20;
    return broker->next_passing++;
}

uint32_t core_new_queue_id(struct broker *broker)
{
    if (broker->next_queue_id >= broker->queue_id_limit && numbers_reserve(broker) < 0)
        return 0;
    return broker->next_queue_id++;
}

static void on_trim(void *data, uint64_t position)
{
    trim_begin(data, position);
}

static void on_writable(void *data, bool writable, const char *reason)
{
    struct broker *broker = data;
    broker->writable = writable;
    metric_set(&broker->deps.metrics->store_writable, writable);
    if (writable) {
        log_write(broker->deps.log, LOG_INFO, "store", "the log takes writes again");
        progress_flush(broker); /* before anything is acknowledged that relies on lost rows */
        wills_retry(broker);
    } else {
        log_write(broker->deps.log, LOG_ERROR, "store", "the log takes no writes: %s", reason);
    }
}

static void on_drained(void *data)
{
    struct broker *broker = data;
    if (broker->deps.on_drained)
        broker->deps.on_drained(broker->deps.drained_data);
}

static void broker_init_tables(struct broker *broker)
{
    hashmap_init(&broker->topics_by_name);
    hashmap_init(&broker->topics_by_id);
    topics_init(broker);
    hashmap_init(&broker->filters_by_queue);
    hashmap_init(&broker->subs);
    hashmap_init(&broker->sessions);
    hashmap_init(&broker->sessions_by_number);
    list_init(&broker->session_list);
    sessions_init(broker);
    list_init(&broker->dirty_cursors);
    list_init(&broker->finished);
    list_init(&broker->spare_inflights);
    list_init(&broker->dropped_queues);
    hashmap_init(&broker->removals);
    retained_jobs_init(broker);
    list_init(&broker->removed);
    list_init(&broker->lost);
    wills_init(broker);
    rights_init(broker);
    throttle_init(broker);
    const uint64_t cached = broker->config.memory_max / CACHE_PART / MATCH_ENTRY_BYTES;
    broker->trie = trie_new((uint32_t)MIN(cached, CACHE_ENTRIES_MAX));
    broker->retained = retained_new();
    broker->queue_ids = mem_new(FILTER_MATCH_MAX * sizeof *broker->queue_ids);
    broker->next_number = 1;
    broker->next_queue_id = 1;
}

int broker_new(const struct broker_config *config, const struct broker_deps *deps,
               struct broker **ret_broker, struct errmsg *reterr)
{
    struct broker *broker = mem_new(sizeof *broker);
    broker->config = *config;
    broker->deps = *deps;
    broker->writable = true;
    metric_set(&deps->metrics->store_writable, 1);
    broker_init_tables(broker);
    progress_init(broker);
    broker->started_ms = core_now_ms(broker);
    const struct store_watcher watcher = {
        .on_trim = on_trim, .on_writable = on_writable, .on_drained = on_drained, .data = broker};
    deps->store->ops->watch(deps->store, &watcher);
    const int err = recover_all(broker, reterr);
    if (err < 0) {
        (void)broker_free(broker);
        return err;
    }
    broker->sys = sys_new(broker);
    *ret_broker = broker;
    return 0;
}

void broker_configure(struct broker *broker, const struct broker_config *config)
{
    broker->config = *config;
    quota_configure(&broker->quota, config);
    sys_configure(broker->sys);
}

void broker_drain(struct broker *broker, void (*idle)(void *data), void *data)
{
    broker->draining = true;
    broker->idle = idle;
    broker->idle_data = data;
    broker->pending++; /* held until all links are closed */
    list_each_safe (it, &broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        if (session->durable && !list_empty(&session->retained_jobs))
            retained_jobs_put(session);
        core_write_lazy(broker);
        if (session->link)
            session_kick(session, REASON_SHUTTING_DOWN, NULL);
    }
    wills_retry(broker);
    progress_flush(broker);
    core_ended(broker);
}

struct broker *broker_free(struct broker *broker)
{
    if (!broker)
        return NULL;
    broker->closing = true;
    while (!list_empty(&broker->session_list))
        session_free(LIST_FIRST(&broker->session_list, struct session, node));
    struct topic *topic = NULL;
    while ((topic = topic_first_of(broker)))
        topic_remove(broker, topic);
    progress_free_finished(broker);
    inflight_free_spare(broker);
    progress_free_dropped(&broker->dropped_queues);
    publish_free_all(broker);
    timer_stop(broker->deps.timers, &broker->progress_timer);
    timer_stop(broker->deps.timers, &broker->retained_timer);
    wills_done(broker);
    rights_done(broker);
    throttle_done(broker);
    sessions_forget_removed(broker);
    broker->sys = sys_free(broker->sys);
    broker->trim = trim_free(broker, broker->trim);
    hashmap_done(&broker->topics_by_name);
    hashmap_done(&broker->topics_by_id);
    hashmap_done(&broker->filters_by_queue);
    hashmap_done(&broker->subs);
    hashmap_done(&broker->sessions);
    hashmap_done(&broker->sessions_by_number);
    (void)trie_free(broker->trie);
    (void)retained_free(broker->retained);
    mem_free(broker->queue_ids);
    txn_done(&broker->txn);
    mem_free(broker);
    return NULL;
}
