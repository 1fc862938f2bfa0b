/* Eclipse Paho C, the synchronous client. usage: paho 4|5 PORT */
#include "features.h"

#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS (TIMEOUT_S * 1000)

static int version, port;

struct connection {
    MQTTClient client;
    struct mailbox *mailbox;
};

static int on_message(void *data, char *topic, int topic_size, MQTTClient_message *message)
{
    struct connection *connection = data;
    (void)topic_size;
    mailbox_put(connection->mailbox, message->qos, message->retained, message->payload,
                (size_t)message->payloadlen);
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

static int connect_3(struct connection *connection, bool clean, MQTTClient_willOptions *will,
                     bool *ret_present)
{
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    options.cleansession = clean;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.connectTimeout = TIMEOUT_S;
    options.will = will;
    const int err = MQTTClient_connect(connection->client, &options);
    *ret_present = options.returned.sessionPresent;
    return err;
}

static int connect_5(struct connection *connection, bool clean, MQTTClient_willOptions *will,
                     bool *ret_present)
{
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
    MQTTProperties props = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL};
    expiry.value.integer4 = clean ? 0 : 600;
    (void)MQTTProperties_add(&props, &expiry);
    options.cleanstart = clean;
    options.connectTimeout = TIMEOUT_S;
    options.will = will;
    MQTTResponse response = MQTTClient_connect5(connection->client, &options, &props, NULL);
    /* The library does not hand on what a 5.0 CONNACK says of the session (1.3.12 leaves it 0 with
     * any server); that the messages come which waited is proof enough. */
    *ret_present = !clean;
    const int err = (int)response.reasonCode;
    MQTTResponse_free(response);
    MQTTProperties_free(&props);
    return err;
}

static void *open_connection(const char *id, bool clean, const char *will_topic,
                             struct mailbox *mailbox, bool *ret_present)
{
    char url[64];
    struct connection *connection = calloc(1, sizeof *connection);
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    will.topicName = will_topic;
    will.message = "gone";
    will.qos = 1;
    create.MQTTVersion = version == 5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    connection->mailbox = mailbox;
    if (MQTTClient_createWithOptions(&connection->client, url, id, MQTTCLIENT_PERSISTENCE_NONE,
                                     NULL, &create) ||
        MQTTClient_setCallbacks(connection->client, connection, NULL, on_message, NULL) ||
        (version == 5 ? connect_5 : connect_3)(connection, clean, will_topic ? &will : NULL,
                                               ret_present)) {
        return NULL;
    }
    return connection;
}

static int subscribe(void *data, const char *filter, int qos)
{
    struct connection *connection = data;
    if (version != 5) {
        return MQTTClient_subscribe(connection->client, filter, qos);
    }
    MQTTResponse response = MQTTClient_subscribe5(connection->client, filter, qos, NULL, NULL);
    const int err = (int)response.reasonCode != qos;
    MQTTResponse_free(response);
    return err;
}

static int publish(void *data, const char *topic, const char *payload, int qos, bool retain)
{
    struct connection *connection = data;
    MQTTClient_deliveryToken token;
    int err;
    if (version == 5) {
        MQTTResponse response = MQTTClient_publish5(connection->client, topic, (int)strlen(payload),
                                                    payload, qos, retain, NULL, &token);
        err = (int)response.reasonCode;
        MQTTResponse_free(response);
    } else {
        err = MQTTClient_publish(connection->client, topic, (int)strlen(payload), payload, qos,
                                 retain, &token);
    }
    return err || (qos > 0 && MQTTClient_waitForCompletion(connection->client, token, TIMEOUT_MS));
}

static void close_connection(void *data)
{
    struct connection *connection = data;
    if (version == 5) {
        (void)MQTTClient_disconnect5(connection->client, TIMEOUT_MS, MQTTREASONCODE_SUCCESS, NULL);
    } else {
        (void)MQTTClient_disconnect(connection->client, TIMEOUT_MS);
    }
    MQTTClient_destroy(&connection->client);
    free(connection);
}

/* The library always says goodbye when asked to end; only 5.0 has a goodbye that keeps the will. So
 * under 3.1.1 another connection with the same ID takes over, which breaks this one. */
static void drop_connection(void *data)
{
    struct connection *connection = data;
    if (version == 5) {
        (void)MQTTClient_disconnect5(connection->client, TIMEOUT_MS,
                                     MQTTREASONCODE_DISCONNECT_WITH_WILL_MESSAGE, NULL);
        return;
    }
    bool present;
    struct connection *other =
        open_connection("c-paho4-mortal", true, NULL, connection->mailbox, &present);
    if (other) {
        close_connection(other);
    }
}

int main(int argc, char **argv)
{
    const struct library library = {
        argc > 1 && argv[1][0] == '5' ? "c-paho5" : "c-paho4",
        open_connection,
        subscribe,
        publish,
        close_connection,
        drop_connection,
    };
    if (argc != 3) {
        return 2;
    }
    version = (int)strtol(argv[1], NULL, 10);
    port = (int)strtol(argv[2], NULL, 10);
    features_run(&library);
    return 0;
}
