/* Ranges of config.def fit the types here; `narrow` states it once more. */
#include "app/mapping.h"

static uint32_t narrow(uint64_t value)
{
    ASSERT(value <= UINT32_MAX);
    return (uint32_t)value;
}

static uint16_t narrow_16(uint64_t value)
{
    ASSERT(value <= UINT16_MAX);
    return (uint16_t)value;
}

/* Seconds, rounded up, so that a small value does not become "never". */
static uint32_t seconds(uint64_t ms)
{
    return narrow((ms + 999) / 1000);
}

void mapping_local(const struct config *config, struct local_config *ret_local)
{
    local_config_default(ret_local);
    ret_local->dir = config->data_dir;
    ret_local->segment_size = config->store_segment_size;
    ret_local->retention_bytes = config->retention_bytes;
    ret_local->retention_ms = config->retention_time_ms;
    ret_local->checkpoint_ms = config->store_checkpoint_interval_ms;
    ret_local->pool_segments = narrow(config->store_pool_segments);
    /* Where memory.limit is small, so are the engine's parts of it. */
    const uint64_t memory = config->memory_limit;
    ret_local->tail_bytes = MIN(config->store_tail_bytes, memory / 8);
    ret_local->seal_entries = MIN(config->store_seal_entries, memory / 16 / sizeof(uint64_t));
    ret_local->overlay_bytes = MIN(ret_local->overlay_bytes, memory / 16);
    ret_local->pressure_bytes = MIN(ret_local->pressure_bytes, memory / 32);
}

void mapping_broker(const struct config *config, struct broker_config *ret_broker)
{
    broker_config_default(ret_broker);
    ret_broker->topics_auto_create = config->topics_auto_create;
    ret_broker->topics_strict_names = config->limits_profile == PROFILE_TDMQ;
    ret_broker->topics_max = narrow(config->limits_topics);
    ret_broker->deny_subscribe = (const char *const *)config->topics_deny_subscribe.items;
    ret_broker->deny_subscribe_count = config->topics_deny_subscribe.count;
    ret_broker->duplicate_client_id = config->sessions_duplicate_client_id == CONFIG_REJECT
                                          ? DUPLICATE_REJECT
                                          : DUPLICATE_TAKEOVER;
    ret_broker->session_expiry_max_s = seconds(config->sessions_expiry_max_ms);
    ret_broker->sessions_max = narrow(config->sessions_max);
    ret_broker->retry_interval_s = seconds(config->sessions_retry_interval_ms);
    ret_broker->filters_per_client_max = narrow(config->limits_filters_per_client);
    ret_broker->subscriptions_max = narrow(config->limits_subscriptions);
    ret_broker->payload_max = narrow(config->limits_payload_max);
    ret_broker->clients_max = narrow(config->limits_clients);
    ret_broker->tps = narrow(config->limits_tps);
    ret_broker->client_tps = narrow(config->limits_client_tps);
    ret_broker->connect_rate = narrow(config->limits_connect_rate);
    ret_broker->will_connect_rate = narrow(config->limits_will_connect_rate);
    ret_broker->subscribe_rate = narrow(config->limits_subscribe_rate);
    ret_broker->unsubscribe_rate = narrow(config->limits_unsubscribe_rate);
    ret_broker->receive_max = narrow_16(config->limits_receive_maximum);
    ret_broker->max_inflight = narrow_16(config->limits_max_inflight);
    ret_broker->topic_levels_max = narrow(config->limits_topic_levels);
    ret_broker->restart_grace_s = seconds(config->sessions_restart_grace_ms);
    ret_broker->sys_interval_s = seconds(config->sys_interval_ms);
    ret_broker->qos0_log = config->topics_qos0_log;
    ret_broker->retained_bytes_max = config->limits_retained_bytes;
    ret_broker->memory_max = config->memory_limit / 8 * 7; /* the rest is for what passes through */
}

static struct tls_names names_of(const struct config_list *list)
{
    return (struct tls_names){(const char *const *)list->items, list->count};
}

static struct tls_options tls_of(const struct config *config)
{
    static const struct tls_authorities nobody = {0};
    return (struct tls_options){
        .certificates = names_of(&config->tls_certificate),
        .private_keys = names_of(&config->tls_private_key),
        .ocsp_responses = names_of(&config->tls_ocsp_response),
        .client_ca = config->tls_client_ca,
        .registered = config->auth_x509_mode == X509_REGISTERED ? &nobody : NULL,
        .crl = config->tls_crl,
        .client_certificate = (enum tls_client_certificate)config->tls_client_certificate,
        .version_min =
            config->tls_min_version == CONFIG_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .priorities = config->tls_priorities,
    };
}

void mapping_proxy(const struct config *config, uint64_t connections_max,
                   struct proxy_config *ret_proxy)
{
    proxy_config_default(ret_proxy);
    ret_proxy->connections_max = narrow(connections_max);
    ret_proxy->connect_timeout_ms = narrow(config->limits_connect_timeout_ms);
    ret_proxy->packet_max = narrow(config->limits_max_packet_size);
    ret_proxy->memory_max = config->memory_limit;
    ret_proxy->tls = tls_of(config);
    ret_proxy->websocket = (struct ws_options){
        .origins = (const char *const *)config->websocket_origins.items,
        .origin_count = narrow(config->websocket_origins.count),
        .frame_max = MAX(config->websocket_max_frame_size, config->limits_max_packet_size),
    };
    ret_proxy->data_dir = config->data_dir;
    ret_proxy->loop_count = narrow(config->threads_loops);
    ret_proxy->keep_alive_max_s = narrow_16(seconds(config->limits_keep_alive_max_ms));
    ret_proxy->receive_max = narrow_16(config->limits_receive_maximum);
    ret_proxy->rates = config->limits_tps > 0 || config->limits_client_tps > 0 ||
                       config->limits_unsubscribe_rate > 0;
    ret_proxy->topic_alias_max = narrow_16(config->limits_topic_alias_max);
}

void mapping_auth(const struct config *config, struct auth_config *ret_auth)
{
    config_auth(config, ret_auth);
    ret_auth->anonymous = config_allows_anonymous(config);
}

void mapping_admin(const struct config *config, const struct instance *instance,
                   uint64_t connections_max, struct admin_config *ret_admin)
{
    *ret_admin = (struct admin_config){
        .token = instance->token,
        .instance_id = instance->id,
        .data_dir = config->data_dir,
        .store_name = config->store,
        .created_ms = instance->created_ms,
        .topics_max = config->limits_topics,
        .filters_per_client_max = config->limits_filters_per_client,
        .subscriptions_max = config->limits_subscriptions,
        .connections_max = connections_max,
        .clients_max = config->limits_clients ? config->limits_clients : connections_max,
        .asks_registry = config->auth_x509_mode == X509_REGISTERED,
        .trusts_cas = config->tls_client_ca[0] != '\0',
        .enrols = config->auth_x509_provision == X509_JITP,
        .activates = config->auth_x509_automatic_activation,
    };
}
