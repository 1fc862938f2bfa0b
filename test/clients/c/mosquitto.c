/* libmosquitto. usage: mosquitto 4|5 PORT */
#include "features.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static int version, port;

struct connection {
    struct mosquitto *mosq;
    struct mailbox *mailbox;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int connected; /* -1: not yet, else the CONNACK's code */
    int present;
    int answered; /* message ID of the last SUBACK or finished publish */
};

static void answer(struct connection *connection, int *field, int value)
{
    (void)pthread_mutex_lock(&connection->lock);
    *field = value;
    (void)pthread_cond_broadcast(&connection->changed);
    (void)pthread_mutex_unlock(&connection->lock);
}

static int wait_for(struct connection *connection, const int *field, int unwanted, int wanted)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TIMEOUT_S;
    int err = 0;
    (void)pthread_mutex_lock(&connection->lock);
    while (err == 0 && (wanted ? *field != wanted : *field == unwanted)) {
        err = pthread_cond_timedwait(&connection->changed, &connection->lock, &until);
    }
    (void)pthread_mutex_unlock(&connection->lock);
    return err;
}

static void on_connect(struct mosquitto *mosq, void *data, int code, int flags,
                       const mosquitto_property *props)
{
    struct connection *connection = data;
    (void)mosq;
    (void)props;
    connection->present = flags & 1;
    answer(connection, &connection->connected, code);
}

static void on_message(struct mosquitto *mosq, void *data, const struct mosquitto_message *message)
{
    struct connection *connection = data;
    (void)mosq;
    mailbox_put(connection->mailbox, message->qos, message->retain,
                message->payload ? message->payload : "", (size_t)message->payloadlen);
}

static void on_subscribe(struct mosquitto *mosq, void *data, int id, int count, const int *granted)
{
    struct connection *connection = data;
    (void)mosq;
    answer(connection, &connection->answered, count == 1 && granted[0] <= 2 ? id : -id);
}

static void on_publish(struct mosquitto *mosq, void *data, int id)
{
    struct connection *connection = data;
    (void)mosq;
    answer(connection, &connection->answered, id);
}

static void *open_connection(const char *id, bool clean, const char *will_topic,
                             struct mailbox *mailbox, bool *ret_present)
{
    struct connection *connection = calloc(1, sizeof *connection);
    mosquitto_property *props = NULL;
    connection->mailbox = mailbox;
    connection->connected = -1;
    (void)pthread_mutex_init(&connection->lock, NULL);
    (void)pthread_cond_init(&connection->changed, NULL);
    connection->mosq = mosquitto_new(id, clean, connection);
    (void)mosquitto_int_option(connection->mosq, MOSQ_OPT_PROTOCOL_VERSION, version);
    mosquitto_connect_v5_callback_set(connection->mosq, on_connect);
    mosquitto_message_callback_set(connection->mosq, on_message);
    mosquitto_subscribe_callback_set(connection->mosq, on_subscribe);
    mosquitto_publish_callback_set(connection->mosq, on_publish);
    if (will_topic) {
        (void)mosquitto_will_set(connection->mosq, will_topic, 4, "gone", 1, false);
    }
    if (version == MQTT_PROTOCOL_V5 && !clean) {
        (void)mosquitto_property_add_int32(&props, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 600);
    }
    (void)mosquitto_loop_start(connection->mosq);
    const int err = mosquitto_connect_bind_v5(connection->mosq, "127.0.0.1", port, 60, NULL, props);
    mosquitto_property_free_all(&props);
    if (err != MOSQ_ERR_SUCCESS || wait_for(connection, &connection->connected, -1, 0) ||
        connection->connected != 0) {
        return NULL;
    }
    *ret_present = connection->present;
    return connection;
}

static int subscribe(void *data, const char *filter, int qos)
{
    struct connection *connection = data;
    int id;
    connection->answered = 0;
    return mosquitto_subscribe(connection->mosq, &id, filter, qos) ||
           wait_for(connection, &connection->answered, 0, id);
}

static int publish(void *data, const char *topic, const char *payload, int qos, bool retain)
{
    struct connection *connection = data;
    int id;
    connection->answered = 0;
    return mosquitto_publish(connection->mosq, &id, topic, (int)strlen(payload), payload, qos,
                             retain) ||
           wait_for(connection, &connection->answered, 0, id);
}

static void free_connection(struct connection *connection)
{
    (void)mosquitto_loop_stop(connection->mosq, true);
    mosquitto_destroy(connection->mosq);
    free(connection);
}

static void close_connection(void *data)
{
    struct connection *connection = data;
    (void)mosquitto_disconnect(connection->mosq);
    (void)mosquitto_loop_stop(connection->mosq, false);
    mosquitto_destroy(connection->mosq);
    free(connection);
}

static void drop_connection(void *data)
{
    struct connection *connection = data;
    (void)shutdown(mosquitto_socket(connection->mosq), SHUT_RDWR);
    free_connection(connection);
}

int main(int argc, char **argv)
{
    const struct library library = {
        argc > 1 && argv[1][0] == '5' ? "c-mosquitto5" : "c-mosquitto4",
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
    (void)mosquitto_lib_init();
    features_run(&library);
    (void)mosquitto_lib_cleanup();
    return 0;
}
