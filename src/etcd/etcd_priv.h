/* What the parts of the etcd client share. Private to etcd/. */
#pragma once

#include "etcd/etcd.h"
#include "etcd/etcd_json.h"
#include "net/http_client.h"

#define ETCD_ANSWER_MAX (64u * 1024 * 1024) /* bytes of JSON */
#define ETCD_AGAIN_MS   100                 /* until a member is asked after one that failed */

struct etcd {
    struct loop *loop;
    struct log *log;
    struct http_client *http;
    char **urls;
    uint32_t url_count;
    char *ca_file; /* or NULL */
    uint32_t timeout_ms;
    uint32_t member;   /* the one that is asked */
    struct list calls; /* struct etcd_call */
};

/* What is posted; all of it is borrowed for the call. */
struct etcd_post {
    const char *path;
    const struct strbuf *body;
    uint32_t timeout_ms;   /* 0: none, for a stream */
    http_part_fn *on_part; /* for a stream, else NULL */
    http_done_fn *done;
    void *data;
};

/* Posts to the member in use. Errors as http_client_start. */
MUST_CHECK int etcd_post(struct etcd *etcd, const struct etcd_post *post,
                         struct http_call **ret_call);

/* The member in use has failed: the next one is asked from now on, unless that was done already.
 * member: etcd->member when the request was posted. */
void etcd_leave_member(struct etcd *etcd, uint32_t member, const char *why);
