#include "admin/client_json.h"

#include "admin/request.h"

json_t *client_json(const struct client_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "client_id", request_json_text(info->client_id));
    (void)json_object_set_new(row, "username", request_json_text(info->username));
    (void)json_object_set_new(row, "address", json_string(info->address));
    (void)json_object_set_new(row, "version", json_integer(info->version));
    (void)json_object_set_new(row, "online", json_boolean(info->online));
    (void)json_object_set_new(row, "clean_start", json_boolean(info->clean_start));
    (void)json_object_set_new(row, "keep_alive_s", json_integer(info->keep_alive_s));
    (void)json_object_set_new(row, "expiry_s", json_integer(info->expiry_s));
    (void)json_object_set_new(row, "created_ms", json_integer((json_int_t)info->created_ms));
    (void)json_object_set_new(row, "connected_ms", json_integer((json_int_t)info->connected_ms));
    (void)json_object_set_new(row, "disconnected_ms",
                              json_integer((json_int_t)info->disconnected_ms));
    (void)json_object_set_new(row, "inflight", json_integer(info->inflight));
    (void)json_object_set_new(row, "trimmed", json_integer((json_int_t)info->trimmed));
    (void)json_object_set_new(row, "subscription_count", json_integer(info->subscription_count));
    (void)json_object_set_new(row, "has_will", json_boolean(info->has_will));
    return row;
}

json_t *client_json_tdmq(const struct client_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "ClientId", request_json_text(info->client_id));
    (void)json_object_set_new(row, "ClientAddress", json_string(info->address));
    (void)json_object_set_new(row, "ProtocolVersion", json_integer(info->version));
    (void)json_object_set_new(row, "Keepalive", json_integer(info->keep_alive_s));
    (void)json_object_set_new(row, "ConnectionStatus",
                              json_string(info->online ? "CONNECTED" : "DISCONNECTED"));
    (void)json_object_set_new(row, "CreateTime", json_integer((json_int_t)info->created_ms));
    (void)json_object_set_new(row, "ConnectTime", json_integer((json_int_t)info->connected_ms));
    (void)json_object_set_new(row, "DisconnectTime",
                              json_integer((json_int_t)info->disconnected_ms));
    (void)json_object_set_new(row, "CleanSession", json_boolean(info->clean_start));
    (void)json_object_set_new(row, "ExpireIntervalInSeconds", json_integer(info->expiry_s));
    return row;
}
