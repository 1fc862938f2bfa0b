#include "broker/core_priv.h"

#define EACH_CLIENT (-1)

static int64_t used_of(const struct broker *broker, enum quota_kind kind)
{
    return (int64_t)quota_used(&broker->quota, kind, core_now_ms(broker));
}

void inspect_limits(const struct broker *broker, limit_each_fn *each, void *data)
{
    const struct broker_config *config = &broker->config;
    const struct metrics *metrics = broker->deps.metrics;
    const struct {
        const char *name;
        uint64_t limit;
        int64_t used;
        const _Atomic int64_t *refused;
    } rows[] = {
        {"limits.clients", config->clients_max, broker->online_count, &metrics->limit_clients},
        {"limits.connect_rate", config->connect_rate, used_of(broker, QUOTA_CONNECTS),
         &metrics->limit_connect_rate},
        {"limits.will_connect_rate", config->will_connect_rate, used_of(broker, QUOTA_WILLS),
         &metrics->limit_will_connect_rate},
        {"limits.tps", config->tps, used_of(broker, QUOTA_MESSAGES), &metrics->limit_tps},
        {"limits.client_tps", config->client_tps, EACH_CLIENT, &metrics->limit_client_tps},
        {"limits.subscribe_rate", config->subscribe_rate, used_of(broker, QUOTA_SUBSCRIBES),
         &metrics->limit_subscribe_rate},
        {"limits.unsubscribe_rate", config->unsubscribe_rate, used_of(broker, QUOTA_UNSUBSCRIBES),
         &metrics->limit_unsubscribe_rate},
        {"limits.filters_per_client", config->filters_per_client_max, EACH_CLIENT,
         &metrics->limit_filters_per_client},
        {"limits.subscriptions", config->subscriptions_max, (int64_t)broker->sub_count,
         &metrics->limit_subscriptions},
        {"limits.topics", config->topics_max, broker->topic_count, &metrics->limit_topics},
        {"limits.payload_max", config->payload_max, EACH_CLIENT, &metrics->limit_payload},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct limit_info info = {.name = rows[i].name,
                                        .limit = rows[i].limit,
                                        .used = rows[i].used,
                                        .refused = metric_get(rows[i].refused)};
        each(data, &info);
    }
}
