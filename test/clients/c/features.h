/* What each C library is asked to do, once for all of them. A library is a table of functions over
 * an opaque connection; every one of them waits for its answer and returns 0 or an error. Received
 * messages go into the mailbox that the connection was opened with. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define MAILBOX_MAX  256
#define MESSAGE_SIZE 64
#define TIMEOUT_S    20

/* "qos retain payload" of each message that has arrived and was not taken. */
struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char messages[MAILBOX_MAX][MESSAGE_SIZE];
    size_t first, count;
};

struct library {
    const char *name;
    void *(*open)(const char *id, bool clean, const char *will_topic, struct mailbox *mailbox,
                  bool *ret_present); /* NULL: not connected */
    int (*subscribe)(void *connection, const char *filter, int qos);
    int (*publish)(void *connection, const char *topic, const char *payload, int qos, bool retain);
    void (*close)(void *connection);
    void (*drop)(void *connection); /* without DISCONNECT */
};

void mailbox_put(struct mailbox *mailbox, int qos, bool retain, const void *payload, size_t size);
/* Runs all features, prints "ok NAME" or "not ok NAME why" for each. */
void features_run(const struct library *library);
