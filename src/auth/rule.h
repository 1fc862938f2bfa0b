/* Rules: who may (or may not) do what. A policy is a rule with a name and a priority; the rules
 * that an authenticator gives for one client (acl.h) are the same without them.
 *
 * A rule is built field by field from texts, whatever file, request or row they come from, and does
 * not change after rule_check. Pure; any thread.
 * Source: reference of TDMQ for MQTT, sections 6 and 11 (CreateAuthorizationPolicy).
 */
#pragma once

#include "auth/pattern.h"

#define RULE_RESOURCES_MAX 64u
#define RULE_NETWORKS_MAX  16u
#define RULE_NAME_MIN      3u /* characters */
#define RULE_NAME_MAX      64u
#define RULE_REMARK_MAX    128u
#define RULE_PRIORITY_MAX  1000000u

enum rule_action { RULE_CONNECT = 1, RULE_PUB = 2, RULE_SUB = 4 };
enum { RULE_QOS_ANY = 7 };                                              /* bit n: QoS n */
enum { RULE_RETAINED = 1, RULE_NOT_RETAINED = 2, RULE_RETAIN_ANY = 3 }; /* as the API's Retain */

struct rule {
    uint64_t id;         /* of a stored policy; 0: it has none */
    char *name, *remark; /* owned; name NULL in an ACL, remark may be NULL */
    uint32_t priority;   /* smaller first */
    bool allow;
    bool has_effect, has_priority, has_version;
    bool mqtt_only;      /* `*` in topics is an ordinary character */
    uint8_t actions;     /* of enum rule_action; 0: missing */
    uint8_t qos, retain; /* 0 until rule_check: any */
    uint32_t resource_count, network_count;
    struct pattern **resources;           /* owned; none: any topic */
    struct pattern_head *heads;           /* owned; of the resources */
    struct pattern *client_id, *username; /* owned; NULL: any */
    struct network *networks;             /* owned; none: any address, no address too */
    char *ip;                             /* owned, as written; NULL: none */
    uint64_t created_ms, updated_ms;      /* wall clock; 0: not known */
};

struct rule *rule_new(void);
struct rule *rule_free(struct rule *rule); /* NULL is fine; returns NULL */

enum rule_field {
    RULE_NAME,
    RULE_VERSION,
    RULE_PRIORITY,
    RULE_EFFECT,
    RULE_ACTIONS,
    RULE_RESOURCES,
    RULE_CLIENT_ID,
    RULE_USERNAME,
    RULE_IP,
    RULE_QOS,
    RULE_RETAIN,
    RULE_REMARK,
    RULE_FIELD_COUNT,
};

/* What a field is called in a file ("client_id") and in the API ("ClientId"). */
const char *rule_field_name(enum rule_field field, bool in_api);
/* Returns RULE_FIELD_COUNT for an unknown name. */
enum rule_field rule_field_find(struct slice name, bool in_api);

/* One field's value: one text, in which commas separate the items of fields that take several; or,
 * with is_list, the items themselves. A text that is empty leaves the field out. */
struct rule_value {
    const struct slice *items;
    size_t count;
    bool is_list;
};

/* Sets a field; a second value for it is an error. Returns 0; ERR_INVALID with what is allowed in
 * reterr, without the field's name; ERR_NOMEM. */
MUST_CHECK int rule_set(struct rule *rule, enum rule_field field, struct rule_value value,
                        struct errmsg *reterr);
/* Completes a rule. is_policy: it needs a name and a priority. Returns 0, or ERR_INVALID with what
 * is missing. */
MUST_CHECK int rule_check(struct rule *rule, bool is_policy, bool in_api, struct errmsg *reterr);

/* What a client wants to do. */
struct rule_request {
    enum rule_action action;
    struct slice topic; /* PUB: a topic name; SUB: a filter without $share/; CONNECT: not used */
    uint8_t qos;        /* PUB, SUB */
    bool retain;        /* PUB */
};

enum rule_result {
    RULE_MATCHES,
    RULE_OTHER_ACTION,
    RULE_OTHER_CLIENT,
    RULE_OTHER_USERNAME,
    RULE_OTHER_ADDRESS,
    RULE_OTHER_QOS,
    RULE_OTHER_RETAIN,
    RULE_OTHER_TOPIC,
};

/* Whether it is about this client at all: by client ID, user name and address. RULE_MATCHES, or the
 * first of those that is another. */
enum rule_result rule_concerns(const struct rule *rule, const struct facts *facts);
/* The rest: whether it decides the request of such a client. A rule that allows decides a SUB when
 * one of its topics covers the whole filter, one that denies when they have a topic in common.
 * QoS and topics do not matter for CONNECT, retain only for PUB. */
enum rule_result rule_decides(const struct rule *rule, const struct facts *facts,
                              const struct rule_request *request);
/* "the client ID does not match"; static. */
const char *rule_result_text(enum rule_result result);
