/* One MQTT connection of the load generator: socket, packets in and out, publishing. */
#pragma once
#include "gen.h"

/* `filter` and `topic` are copied and may be NULL. */
void client_init(struct client *client, struct gen *gen, uint32_t index, const char *id);
void client_set_filter(struct client *client, const char *filter);
void client_set_topic(struct client *client, const char *topic);
void client_done(struct client *client);

/* Starts connecting; the state reaches CLIENT_READY later. Returns false after gen_fail(). */
bool client_open(struct client *client);

/* Sends DISCONNECT if there is a connection, and closes the socket. */
void client_close(struct client *client);

/* Handles epoll's events. */
void client_on_events(struct client *client, uint32_t events);

/* Returns how many messages the client may put into its next write: 0 or a whole batch, or the
 * remainder of its share. */
uint32_t client_sendable(const struct client *client);

/* Publishes `count` messages with one write. */
void client_publish(struct client *client, uint32_t count);
