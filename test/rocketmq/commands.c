/* The commands, with their arguments. "place" is: topic, lmq, broker, queue. */
#include "probe.h"

#include "base/mem.h"

#include <string.h>

const char *probe_text(const struct job *job, const char *name)
{
    return json_string_value(json_object_get(job->args, name));
}

int64_t probe_number(const struct job *job, const char *name, int64_t usual)
{
    const json_t *value = json_object_get(job->args, name);
    return json_is_integer(value) ? json_integer_value(value) : usual;
}

static uint32_t number(const struct job *job, const char *name, uint32_t usual)
{
    return (uint32_t)probe_number(job, name, usual);
}

static const char *text(const struct job *job, const char *name)
{
    const char *value = probe_text(job, name);
    return value ? value : "";
}

static struct rmq_place place_of(const struct job *job)
{
    return (struct rmq_place){
        .topic = text(job, "topic"),
        .lmq = probe_text(job, "lmq"),
        .broker = probe_text(job, "broker"),
        .queue_id = (int32_t)probe_number(job, "queue", 0),
    };
}

static void on_result(void *data, const struct rmq_result *result)
{
    struct job *job = data;
    json_t *out = json_object();
    (void)json_object_set(out, "id", json_object_get(job->args, "id"));
    (void)json_object_set_new(out, "outcome", json_string(rmq_codes_outcome(result->outcome)));
    (void)json_object_set_new(out, "code", json_integer(result->code));
    (void)json_object_set_new(out, "why", result->why ? json_string(result->why) : json_null());
    (void)json_object_set_new(out, "broker", json_string(result->broker));
    (void)json_object_set_new(out, "address", json_string(result->address));
    job->tell(job, result, out);
    probe_print(out);
    probe_job_free(job);
}

/* --- send ---------------------------------------------------------------------------------------
 */

static int add_property(struct strbuf *properties, const char *name, const char *value)
{
    return value ? rmq_properties_add(properties, slice_str(name), slice_str(value)) : 0;
}

/* The names of LMQs as one property. */
static int add_lmqs(struct strbuf *properties, const json_t *lmqs)
{
    struct strbuf names;
    strbuf_init(&names, RMQ_PROPERTIES_SIZE_MAX);
    for (size_t i = 0; i < json_array_size(lmqs); i++) {
        strbuf_add(&names, i > 0 ? "," : "");
        strbuf_add(&names, json_string_value(json_array_get(lmqs, i)));
    }
    int err = strbuf_err(&names);
    if (err == 0)
        err = add_property(properties, RMQ_PROPERTY_LMQ_NAMES, names.text);
    strbuf_done(&names);
    return err;
}

static int send(struct job *job)
{
    const json_t *lmqs = json_object_get(job->args, "lmqs"), *value = NULL;
    json_t *more = json_object_get(job->args, "properties");
    const char *name = NULL;
    struct strbuf properties;
    rmq_properties_init(&properties, (uint32_t)json_array_size(lmqs));
    int err = json_array_size(lmqs) > 0 ? add_lmqs(&properties, lmqs) : 0;
    if (err == 0)
        err = add_property(&properties, RMQ_PROPERTY_KEYS, probe_text(job, "keys"));
    json_object_foreach(more, name, value)
    {
        if (err == 0)
            err = add_property(&properties, name, json_string_value(value));
    }
    if (err == 0)
        err = strbuf_err(&properties);
    struct rmq_send request = {
        .place = place_of(job),
        .properties = slice_of(properties.text, properties.size),
        .body = slice_str(text(job, "body")),
        .patience_ms = number(job, "patience_ms", 3000),
    };
    request.place.queue_id = (int32_t)probe_number(job, "queue", -1);
    job->tell = probe_tell_sent;
    if (err == 0)
        err = rmq_send(job->probe->client, &request, on_result, job, NULL);
    strbuf_done(&properties);
    return err;
}

/* --- read ---------------------------------------------------------------------------------------
 */

static int pull(struct job *job)
{
    const struct rmq_pull request = {
        .place = place_of(job),
        .group = text(job, "group"),
        .offset = (uint64_t)probe_number(job, "offset", 0),
        .count_max = number(job, "count", 32),
        .suspend_ms = number(job, "suspend_ms", 0),
    };
    job->tell = probe_tell_pulled;
    return rmq_pull(job->probe->client, &request, on_result, job, NULL);
}

static int first_offset(struct job *job)
{
    const struct rmq_place place = place_of(job);
    job->tell = probe_tell_offset;
    return rmq_edge(job->probe->client, &place, RMQ_FIRST_OFFSET, on_result, job, NULL);
}

static int next_offset(struct job *job)
{
    const struct rmq_place place = place_of(job);
    job->tell = probe_tell_offset;
    return rmq_edge(job->probe->client, &place, RMQ_NEXT_OFFSET, on_result, job, NULL);
}

static int search(struct job *job)
{
    const struct rmq_place place = place_of(job);
    job->tell = probe_tell_offset;
    return rmq_search(job->probe->client, &place, probe_number(job, "time_ms", 0), on_result, job,
                      NULL);
}

static int progress(struct job *job)
{
    const struct rmq_place place = place_of(job);
    job->tell = probe_tell_offset;
    return rmq_progress(job->probe->client, &place, text(job, "group"), on_result, job, NULL);
}

static int commit(struct job *job)
{
    const struct rmq_place place = place_of(job);
    const struct rmq_commit commit = {
        .place = &place,
        .group = text(job, "group"),
        .offset = (uint64_t)probe_number(job, "offset", 0),
    };
    return rmq_commit(job->probe->client, &commit, on_result, job, NULL);
}

static int query(struct job *job)
{
    const struct rmq_query request = {
        .topic = text(job, "topic"),
        .broker = probe_text(job, "broker"),
        .key = text(job, "key"),
        .is_unique_key = json_is_true(json_object_get(job->args, "is_unique_key")),
        .begin_ms = probe_number(job, "begin_ms", 0),
        .end_ms = probe_number(job, "end_ms", INT64_MAX),
        .count_max = number(job, "count", 32),
    };
    job->tell = probe_tell_messages;
    return rmq_query(job->probe->client, &request, on_result, job, NULL);
}

static int view(struct job *job)
{
    job->tell = probe_tell_messages;
    return rmq_view(job->probe->client, text(job, "message_id"), on_result, job, NULL);
}

/* --- POP ----------------------------------------------------------------------------------------
 */

static int pop(struct job *job)
{
    struct rmq_pop request = {
        .place = place_of(job),
        .group = text(job, "group"),
        .count_max = number(job, "count", 32),
        .invisible_ms = number(job, "invisible_ms", 60000),
        .poll_ms = number(job, "poll_ms", 0),
        .from_end = json_is_true(json_object_get(job->args, "from_end")),
    };
    job->tell = probe_tell_popped;
    return rmq_pop(job->probe->client, &request, on_result, job, NULL);
}

static struct rmq_receipt receipt_of(const struct job *job)
{
    return (struct rmq_receipt){
        .place = place_of(job),
        .group = text(job, "group"),
        .handle = slice_str(text(job, "handle")),
        .offset = (uint64_t)probe_number(job, "offset", 0),
    };
}

static int ack(struct job *job)
{
    const struct rmq_receipt receipt = receipt_of(job);
    return rmq_ack(job->probe->client, &receipt, on_result, job, NULL);
}

static int hide(struct job *job)
{
    const struct rmq_receipt receipt = receipt_of(job);
    job->tell = probe_tell_hidden;
    return rmq_hide(job->probe->client, &receipt, number(job, "invisible_ms", 60000), on_result,
                    job, NULL);
}

/* --- administration -----------------------------------------------------------------------------
 */

static int create_topic(struct job *job)
{
    const struct rmq_topic_wish wish = {
        .name = text(job, "topic"),
        .queue_count = number(job, "queues", 4),
        .attributes = probe_text(job, "attributes"),
    };
    return rmq_create_topic(job->probe->client, &wish, on_result, job);
}

static int create_group(struct job *job)
{
    return rmq_create_group(job->probe->client, text(job, "group"), on_result, job);
}

static int kv_put(struct job *job)
{
    return rmq_kv_put(job->probe->client, text(job, "space"), text(job, "key"), text(job, "value"),
                      on_result, job);
}

static int kv_get(struct job *job)
{
    job->tell = probe_tell_value;
    return rmq_kv_get(job->probe->client, text(job, "space"), text(job, "key"), on_result, job,
                      NULL);
}

static int kv_delete(struct job *job)
{
    return rmq_kv_delete(job->probe->client, text(job, "space"), text(job, "key"), on_result, job);
}

static int cluster(struct job *job)
{
    job->tell = probe_tell_body;
    return rmq_cluster(job->probe->client, on_result, job, NULL);
}

static int route(struct job *job)
{
    job->tell = probe_tell_body;
    return rmq_route(job->probe->client, text(job, "topic"), on_result, job, NULL);
}

static int broker_state(struct job *job)
{
    job->tell = probe_tell_body;
    return rmq_broker_state(job->probe->client, text(job, "address"), on_result, job, NULL);
}

static const struct {
    const char *name;
    int (*start)(struct job *job);
} commands[] = {
    {"send", send},
    {"pull", pull},
    {"first_offset", first_offset},
    {"next_offset", next_offset},
    {"search", search},
    {"progress", progress},
    {"commit", commit},
    {"query", query},
    {"view", view},
    {"pop", pop},
    {"ack", ack},
    {"hide", hide},
    {"create_topic", create_topic},
    {"create_group", create_group},
    {"kv_put", kv_put},
    {"kv_get", kv_get},
    {"kv_delete", kv_delete},
    {"cluster", cluster},
    {"route", route},
    {"broker_state", broker_state},
};

void probe_job_free(struct job *job)
{
    struct probe *probe = job->probe;
    list_remove(&job->node);
    json_decref(job->args);
    mem_free(job);
    if (probe->is_at_end && list_empty(&probe->jobs))
        loop_stop(probe->loop);
}

static void refuse(const json_t *args, const char *why)
{
    json_t *out = json_object();
    (void)json_object_set(out, "id", json_object_get(args, "id"));
    (void)json_object_set_new(out, "outcome", json_string("not_started"));
    (void)json_object_set_new(out, "why", json_string(why));
    probe_print(out);
}

void probe_start(struct probe *probe, json_t *args)
{
    const char *name = json_string_value(json_object_get(args, "do"));
    struct job *job = mem_new(sizeof *job);
    int err = ERR_NOTFOUND;
    *job = (struct job){.probe = probe, .args = json_incref(args), .tell = probe_tell_nothing};
    list_init(&job->node);
    list_push_back(&probe->jobs, &job->node);
    for (size_t i = 0; name && i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            err = commands[i].start(job);
    }
    if (err < 0) {
        refuse(args, err_text(err));
        probe_job_free(job);
    }
}
