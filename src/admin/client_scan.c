/* Each step reads a page of clients and keeps the newest `number` seen so far in a heap whose root
 * is the oldest of them; when the last page is read the heap is sorted and the clients are read
 * again for their details. */
#include "admin/client_scan.h"

#include "admin/actions.h"
#include "admin/client_json.h"
#include "base/mem.h"

#include <stdlib.h>

#define STEP_CLIENTS 1000

struct found {
    uint64_t time_ms;
    struct slice client_id; /* kept */
};

struct scan {
    struct request *request;
    struct timer step; /* due at once: the next step runs in the next iteration */
    enum client_filter filter;
    size_t number;
    uint64_t max_ms;
    struct slice after; /* kept */
    struct slice last;  /* of the page being read; kept */
    struct found heap[CLIENT_SCAN_MAX];
    size_t heap_count;
};

static void swap(struct found *a, struct found *b)
{
    const struct found kept = *a;
    *a = *b;
    *b = kept;
}

static void sift_up(struct found *heap, size_t at)
{
    while (at > 0 && heap[(at - 1) / 2].time_ms > heap[at].time_ms) {
        swap(&heap[at], &heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
}

static void sift_down(struct found *heap, size_t count)
{
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
            if (heap[child].time_ms < heap[least].time_ms) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        swap(&heap[at], &heap[least]);
        at = least;
    }
}

/* A copy that lives on its own. */
static struct slice copy_of(struct slice slice)
{
    struct slice kept;
    return slice_keep(slice_of(slice.bytes, slice.size), &kept) == 0 ? kept : slice_of(NULL, 0);
}

static void consider(void *data, const struct client_info *info)
{
    struct scan *scan = data;
    const uint64_t time_ms = info->online ? info->connected_ms : info->disconnected_ms;
    slice_done(&scan->last);
    scan->last = copy_of(info->client_id);
    if (time_ms > scan->max_ms) {
        return;
    }
    if (scan->heap_count < scan->number) {
        scan->heap[scan->heap_count] = (struct found){time_ms, copy_of(info->client_id)};
        sift_up(scan->heap, scan->heap_count++);
    } else if (time_ms > scan->heap[0].time_ms) {
        slice_done(&scan->heap[0].client_id);
        scan->heap[0] = (struct found){time_ms, copy_of(info->client_id)};
        sift_down(scan->heap, scan->heap_count);
    }
}

static void add_subscription(void *data, const struct subscription_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "TopicFilter", request_json_text(info->filter));
    (void)json_object_set_new(row, "Qos", json_integer(info->qos));
    (void)json_object_set_new(row, "Lag", json_integer((json_int_t)info->lag));
    (void)json_object_set_new(row, "Inflight", json_integer(info->inflight));
    (void)json_object_set_new(row, "UserProperties", json_array());
    (void)json_array_append_new(data, row);
}

/* Appends the client; nothing when it has gone meanwhile. */
static void append_client(json_t *clients, struct broker *broker, struct slice client_id)
{
    struct client_info info;
    json_t *subscriptions = json_array();
    if (inspect_client(broker, client_id, &info, add_subscription, subscriptions) < 0) {
        json_decref(subscriptions);
        return;
    }
    json_t *row = client_json_tdmq(&info);
    (void)json_object_set_new(row, "MQTTClientSubscriptions", subscriptions);
    (void)json_array_append_new(clients, row);
}

static json_t *wrap_clients(json_t *clients)
{
    json_t *response = json_object();
    (void)json_object_set_new(response, "Clients", clients);
    return response;
}

json_t *client_scan_one(struct broker *broker, struct slice client_id)
{
    json_t *clients = json_array();
    append_client(clients, broker, client_id);
    return wrap_clients(clients);
}

static int compare_newest_first(const void *a, const void *b)
{
    const struct found *left = a, *right = b;
    return (left->time_ms < right->time_ms) - (left->time_ms > right->time_ms);
}

static void scan_free(struct scan *scan)
{
    for (size_t i = 0; i < scan->heap_count; i++) {
        slice_done(&scan->heap[i].client_id);
    }
    slice_done(&scan->after);
    slice_done(&scan->last);
    mem_free(scan);
}

static void scan_end(struct scan *scan)
{
    struct request *request = scan->request;
    json_t *clients = json_array();
    qsort(scan->heap, scan->heap_count, sizeof(scan->heap[0]), compare_newest_first);
    for (size_t i = 0; i < scan->heap_count; i++) {
        append_client(clients, request->admin->deps.broker, scan->heap[i].client_id);
    }
    actions_reply(request, wrap_clients(clients));
    scan_free(scan);
    request_done_waiting(request);
}

static void on_step(struct timer *timer)
{
    struct scan *scan = CONTAINER_OF(timer, struct scan, step);
    const struct admin_deps *deps = &scan->request->admin->deps;
    const size_t count =
        inspect_clients(deps->broker, scan->after, STEP_CLIENTS, scan->filter, consider, scan);
    slice_done(&scan->after);
    scan->after = scan->last;
    scan->last = (struct slice){0};
    if (count == STEP_CLIENTS && scan->after.size > 0) {
        timer_start(loop_timers(deps->loop), &scan->step, 0);
    } else {
        scan_end(scan);
    }
}

/* The connection has gone before the scan ended. */
static void on_cancel(struct request *request, void *data)
{
    struct scan *scan = data;
    timer_stop(loop_timers(request->admin->deps.loop), &scan->step);
    scan_free(scan);
    request_done_waiting(request);
}

void client_scan_start(struct request *request, enum client_filter filter, size_t number,
                       uint64_t max_ms)
{
    ASSERT(number > 0);
    ASSERT(number <= CLIENT_SCAN_MAX);
    struct scan *scan = mem_new(sizeof(*scan));
    scan->request = request;
    scan->filter = filter;
    scan->number = number;
    scan->max_ms = max_ms;
    scan->step.on_due = on_step;
    request_wait(request, on_cancel, scan);
    timer_start(loop_timers(request->admin->deps.loop), &scan->step, 0);
}
