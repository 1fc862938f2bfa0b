#include "features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHARED_COUNT 20

struct one {
    const struct library *library;
    struct mailbox mailbox;
    void *connection;
    bool present;
};

struct run {
    const struct library *library;
    char why[256];
};

typedef bool feature_fn(struct run *run, int argument);

static void mailbox_init(struct mailbox *mailbox)
{
    memset(mailbox, 0, sizeof *mailbox);
    (void)pthread_mutex_init(&mailbox->lock, NULL);
    (void)pthread_cond_init(&mailbox->changed, NULL);
}

void mailbox_put(struct mailbox *mailbox, int qos, bool retain, const void *payload, size_t size)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    char *message = mailbox->messages[(mailbox->first + mailbox->count) % MAILBOX_MAX];
    (void)snprintf(message, MESSAGE_SIZE, "%d %s %.*s", qos, retain ? "true" : "false", (int)size,
                   (const char *)payload);
    mailbox->count++;
    (void)pthread_cond_broadcast(&mailbox->changed);
    (void)pthread_mutex_unlock(&mailbox->lock);
}

/* The next message, or false when none came in time. */
static bool mailbox_take(struct mailbox *mailbox, char text[MESSAGE_SIZE], long wait_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int err = 0;
    (void)pthread_mutex_lock(&mailbox->lock);
    while (mailbox->count == 0 && err == 0) {
        err = pthread_cond_timedwait(&mailbox->changed, &mailbox->lock, &until);
    }
    const bool found = mailbox->count > 0;
    if (found) {
        memcpy(text, mailbox->messages[mailbox->first], MESSAGE_SIZE);
        mailbox->first = (mailbox->first + 1) % MAILBOX_MAX;
        mailbox->count--;
    }
    (void)pthread_mutex_unlock(&mailbox->lock);
    return found;
}

static bool fails(struct run *run, const char *what, const char *detail)
{
    (void)snprintf(run->why, sizeof run->why, "%s %s", what, detail);
    return false;
}

static bool open_one(struct run *run, struct one *one, const char *id, bool clean, bool has_will)
{
    char full[64], will[64];
    (void)snprintf(full, sizeof full, "%s-%s", run->library->name, id);
    (void)snprintf(will, sizeof will, "%s/will", run->library->name);
    one->library = run->library;
    one->present = false;
    mailbox_init(&one->mailbox);
    one->connection =
        run->library->open(full, clean, has_will ? will : NULL, &one->mailbox, &one->present);
    return one->connection || fails(run, "could not connect", id);
}

static bool subscribe(struct run *run, struct one *one, const char *prefix, const char *name,
                      int qos)
{
    char filter[128];
    (void)snprintf(filter, sizeof filter, "%s%s/%s", prefix, run->library->name, name);
    return run->library->subscribe(one->connection, filter, qos) == 0 ||
           fails(run, "could not subscribe", filter);
}

static bool publish(struct run *run, struct one *one, const char *name, const char *payload,
                    int qos)
{
    char topic[128];
    const bool retain = strcmp(name, "retained") == 0;
    (void)snprintf(topic, sizeof topic, "%s/%s", run->library->name, name);
    return run->library->publish(one->connection, topic, payload, qos, retain) == 0 ||
           fails(run, "could not publish", topic);
}

static bool expect(struct run *run, struct one *one, const char *wanted)
{
    char found[MESSAGE_SIZE];
    if (!mailbox_take(&one->mailbox, found, TIMEOUT_S * 1000)) {
        return fails(run, "did not arrive:", wanted);
    }
    return strcmp(found, wanted) == 0 || fails(run, "arrived instead:", found);
}

static bool connect_once(struct run *run, int unused)
{
    struct one one;
    (void)unused;
    if (!open_one(run, &one, "connect", true, false)) {
        return false;
    }
    run->library->close(one.connection);
    return !one.present || fails(run, "session present after a clean start", "");
}

static bool each_qos(struct run *run, int qos)
{
    struct one one;
    char name[16], payload[16], wanted[MESSAGE_SIZE];
    (void)snprintf(name, sizeof name, "qos%d", qos);
    if (!open_one(run, &one, name, true, false) || !subscribe(run, &one, "", name, qos)) {
        return false;
    }
    for (int i = 0; i < 5; i++) {
        (void)snprintf(payload, sizeof payload, "m%d", i);
        if (!publish(run, &one, name, payload, qos)) {
            return false;
        }
    }
    for (int i = 0; i < 5; i++) {
        (void)snprintf(wanted, sizeof wanted, "%d false m%d", qos, i);
        if (!expect(run, &one, wanted)) {
            return false;
        }
    }
    run->library->close(one.connection);
    return true;
}

static bool session(struct run *run, int unused)
{
    struct one away, other;
    (void)unused;
    if (!open_one(run, &away, "away", false, false) || !subscribe(run, &away, "", "session", 2)) {
        return false;
    }
    run->library->close(away.connection);
    if (!open_one(run, &other, "other", true, false) ||
        !publish(run, &other, "session", "one", 1) ||
        !publish(run, &other, "session", "three", 1)) {
        return false;
    }
    run->library->close(other.connection);
    if (!open_one(run, &away, "away", false, false)) {
        return false;
    }
    if (!away.present) {
        return fails(run, "no session present", "");
    }
    const bool good = expect(run, &away, "1 false one") && expect(run, &away, "1 false three");
    run->library->close(away.connection);
    return good;
}

static bool retained(struct run *run, int unused)
{
    struct one one;
    (void)unused;
    const bool good = open_one(run, &one, "retained", true, false) &&
                      publish(run, &one, "retained", "kept", 1) &&
                      subscribe(run, &one, "", "retained", 1) && expect(run, &one, "1 true kept") &&
                      publish(run, &one, "retained", "", 1) && expect(run, &one, "1 false ");
    if (good) {
        run->library->close(one.connection);
    }
    return good;
}

static bool will(struct run *run, int unused)
{
    struct one witness, mortal;
    (void)unused;
    if (!open_one(run, &witness, "witness", true, false) ||
        !subscribe(run, &witness, "", "will", 1) || !open_one(run, &mortal, "mortal", true, true)) {
        return false;
    }
    run->library->drop(mortal.connection);
    const bool good = expect(run, &witness, "1 false gone");
    run->library->close(witness.connection);
    return good;
}

/* Takes what the two members get, in turn, until all have come. */
static bool collect(struct run *run, struct one members[2])
{
    bool seen[SHARED_COUNT] = {false};
    for (int found = 0, tries = 0; found < SHARED_COUNT; tries++) {
        char text[MESSAGE_SIZE];
        if (tries > TIMEOUT_S * 100) {
            return fails(run, "not all arrived", "");
        }
        if (!mailbox_take(&members[tries % 2].mailbox, text, 10)) {
            continue;
        }
        const long number =
            strncmp(text, "1 false m", 9) == 0 ? strtol(text + 9, NULL, 10) : SHARED_COUNT;
        if (number < 0 || number >= SHARED_COUNT || seen[number]) {
            return fails(run, "twice or strange:", text);
        }
        seen[number] = true;
        found++;
    }
    return true;
}

static bool shared(struct run *run, int unused)
{
    struct one members[2], publisher;
    (void)unused;
    for (int i = 0; i < 2; i++) {
        if (!open_one(run, &members[i], i ? "second" : "first", true, false) ||
            !subscribe(run, &members[i], "$share/group/", "shared", 1)) {
            return false;
        }
    }
    if (!open_one(run, &publisher, "publisher", true, false)) {
        return false;
    }
    for (int i = 0; i < SHARED_COUNT; i++) {
        char payload[16];
        (void)snprintf(payload, sizeof payload, "m%d", i);
        if (!publish(run, &publisher, "shared", payload, 1)) {
            return false;
        }
    }
    const bool good = collect(run, members);
    run->library->close(members[0].connection);
    run->library->close(members[1].connection);
    run->library->close(publisher.connection);
    return good;
}

void features_run(const struct library *library)
{
    static const struct {
        const char *name;
        feature_fn *run;
        int argument;
    } rows[] = {
        {"connect", connect_once, 0},
        {"qos0", each_qos, 0},
        {"qos1", each_qos, 1},
        {"qos2", each_qos, 2},
        {"session", session, 0},
        {"retained", retained, 0},
        {"will", will, 0},
        {"shared", shared, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct run run = {.library = library};
        if (rows[i].run(&run, rows[i].argument)) {
            (void)printf("ok %s\n", rows[i].name);
        } else {
            (void)printf("not ok %s %s\n", rows[i].name, run.why);
        }
        (void)fflush(stdout);
    }
}
