/* Probe: does what it is told with the client of RocketMQ, for tests against real servers.
 *
 *     tidemq-rocketmq --namesrv HOST:PORT[,HOST:PORT…] [--access-key KEY --secret-key KEY]
 *                     [--timeout-ms N] [--heartbeat-ms N] [--tls-ca FILE [--tls-name NAME]]
 *
 * Each line on stdin is a JSON object: "do" names the command, "id" comes back with its result, the
 * rest are its arguments (commands.c). Commands start as they are read, without waiting for each
 * other; each result is a line on stdout when it is there. At the end of stdin it waits for the
 * results that are still to come, and exits 0.
 */
#pragma once

#include "rocketmq/rmq_admin.h"
#include "rocketmq/rmq_requests.h"
#include "rocketmq/rmq_results.h"

#include <jansson.h>

struct probe {
    struct loop *loop;
    struct rmq_client *client;
    struct list jobs; /* struct job */
    bool is_at_end;   /* of stdin */
};

/* How a result becomes JSON, beyond what all have in common. */
struct job;
typedef void job_tell_fn(const struct job *job, const struct rmq_result *result, json_t *out);

/* A command under way. */
struct job {
    struct list node;
    struct probe *probe;
    json_t *args; /* a reference */
    job_tell_fn *tell;
};

/* Starts a command, or prints why it cannot be. Takes a reference to args. */
void probe_start(struct probe *probe, json_t *args);
void probe_job_free(struct job *job);
/* Prints one line. Takes the reference. */
void probe_print(json_t *line);

const char *probe_text(const struct job *job, const char *name); /* NULL: not given */
int64_t probe_number(const struct job *job, const char *name, int64_t usual);

job_tell_fn probe_tell_nothing, probe_tell_sent, probe_tell_pulled, probe_tell_popped,
    probe_tell_offset, probe_tell_messages, probe_tell_value, probe_tell_body, probe_tell_hidden;
