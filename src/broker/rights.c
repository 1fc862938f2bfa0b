/* Rights: what links may do, asked of their access (auth/access.h), and what a change of the
 * rulebook means for those that are there already.
 *
 * A subscription is allowed as a whole: every name its filter matches may be received. So it is
 * judged when it is made, when its session comes back, and after each change of the rulebook, and
 * delivery looks at one flag. One that is not allowed any more stays in its session and gets
 * nothing: messages pass it by, as do those that waited for it. When it is allowed again it goes on
 * with what comes then. A member of a shared group gives what it has not acknowledged to others.
 *
 * Sessions are walked in slices, so that a million of them do not hold up the loop.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "mqtt/topic.h"

#define SLICE_SESSIONS 256u
#define SHOWN_MAX      200u /* bytes of a name in a log line */
#define REASON_ROOM    160u

static int shown(struct slice text)
{
    return (int)MIN(text.size, SHOWN_MAX);
}

static void log_denied(const struct broker *broker, const struct access *access,
                       const struct rule_request *request, const struct decision *decision)
{
    char reason[REASON_ROOM];
    const struct slice client_id = access_facts(access).values[FACT_CLIENT_ID];
    (void)access_reason(access, decision, reason, sizeof reason);
    if (request->action == RULE_CONNECT)
        log_write(broker->deps.log, LOG_INFO, "access", "client '%.*s' may not connect: %s",
                  shown(client_id), (const char *)client_id.bytes, reason);
    else
        log_write(broker->deps.log, LOG_INFO, "access",
                  "client '%.*s' may not %s '%.*s' at QoS %u%s: %s", shown(client_id),
                  (const char *)client_id.bytes,
                  request->action == RULE_PUB ? "publish to" : "subscribe to",
                  shown(request->topic), (const char *)request->topic.bytes, request->qos,
                  request->retain ? " with RETAIN" : "", reason);
}

/* Asks; a no is logged and counted. */
static bool allows(const struct broker *broker, struct access *access,
                   const struct rule_request *request, _Atomic int64_t *denied)
{
    struct decision decision;
    if (access_check(access, request, &decision))
        return true;
    metric_add(denied, 1);
    log_denied(broker, access, request, &decision);
    return false;
}

bool rights_publish(const struct broker *broker, struct access *access,
                    const struct publish_request *publish)
{
    if (!access_is_checked(access))
        return true;
    const struct rule_request request = {.action = RULE_PUB,
                                         .topic = publish->topic,
                                         .qos = publish->qos,
                                         .retain = publish->retain};
    return allows(broker, access, &request, &broker->deps.metrics->denied_publish);
}

bool rights_subscribe(const struct session *session, struct slice filter, uint8_t qos)
{
    const struct rule_request request = {.action = RULE_SUB, .topic = filter, .qos = qos};
    return allows(session->broker, session->access, &request,
                  &session->broker->deps.metrics->denied_subscribe);
}

/* --- CONNECT ------------------------------------------------------------------------------------
 */

static bool is_blocked(const struct broker *broker, const struct access *access)
{
    if (!broker->deps.rulebook || !access)
        return false;
    const struct facts facts = access_facts(access);
    const struct block *block =
        rulebook_blocks_client(broker->deps.rulebook, &facts, core_wall_ms(broker));
    if (!block)
        return false;
    const struct slice client_id = facts.values[FACT_CLIENT_ID];
    metric_add(&broker->deps.metrics->denied_blocked, 1);
    log_write(broker->deps.log, LOG_INFO, "access", "client '%.*s' is blocked by rule '%s'",
              shown(client_id), (const char *)client_id.bytes, block->name);
    return true;
}

static bool may_connect(const struct broker *broker, struct access *access)
{
    const struct rule_request request = {.action = RULE_CONNECT};
    return allows(broker, access, &request, &broker->deps.metrics->denied_connect);
}

static bool may_leave_will(const struct broker *broker, struct access *access,
                           const struct packet_connect *packet)
{
    const struct rule_request request = {.action = RULE_PUB,
                                         .topic = packet->will_topic,
                                         .qos = packet->will_qos,
                                         .retain = packet->will_retain};
    return !packet->has_will ||
           allows(broker, access, &request, &broker->deps.metrics->denied_publish);
}

uint8_t rights_connect(const struct broker *broker, struct access *access,
                       const struct packet_connect *packet, const char **ret_text)
{
    if (is_blocked(broker, access)) {
        *ret_text = "this client is blocked";
        return REASON_BANNED;
    }
    if (!may_connect(broker, access)) {
        *ret_text = "this client may not connect";
        return REASON_NOT_AUTHORIZED;
    }
    if (!may_leave_will(broker, access, packet)) {
        *ret_text = "this client may not publish its will";
        return REASON_NOT_AUTHORIZED;
    }
    return 0;
}

/* --- what is there already ----------------------------------------------------------------------
 */

static void sub_judge(struct sub *sub)
{
    struct session *session = sub->session;
    const struct rule_request request = {
        .action = RULE_SUB, .topic = sub->filter->text, .qos = sub->qos};
    struct decision decision;
    const bool denied =
        !sub->filter->is_private && !access_check(session->access, &request, &decision);
    if (denied == sub->denied)
        return;
    sub->denied = denied;
    if (denied)
        log_denied(session->broker, session->access, &request, &decision);
    if (sub->group && denied)
        group_member_offline(sub->group, session);
    else if (sub->group)
        group_member_online(sub->group, session);
}

void rights_judge(struct session *session)
{
    session->any_denied = false;
    list_each (it, &session->subs) {
        struct sub *sub = CONTAINER_OF(it, struct sub, session_node);
        sub_judge(sub);
        session->any_denied |= sub->denied;
    }
}

static void session_review(struct session *session)
{
    const struct broker *broker = session->broker;
    if (!session->link || !session->access || session->kick)
        return;
    if (is_blocked(broker, session->access))
        session_kick_later(session, REASON_ADMINISTRATIVE);
    else if (!may_connect(broker, session->access))
        session_kick_later(session, REASON_NOT_AUTHORIZED);
    else if (!session->opening) /* else it is judged once it is open */
        rights_judge(session);
}

/* One slice. Nothing in it frees a session: those that must go are closed at the end of the turn.
 */
static void review_due(struct timer *timer)
{
    struct broker *broker = CONTAINER_OF(timer, struct broker, review_timer);
    struct session *session = session_above(broker, broker->reviewed);
    struct slice last = slice_of("", 0);
    for (uint32_t i = 0; session && i < SLICE_SESSIONS; i++) {
        session_review(session);
        last = session->client_id;
        session = session_next(session);
    }
    struct slice reached = slice_of("", 0);
    if (session && core_copy(last, &reached) < 0) { /* no memory to remember where: go on now */
        for (; session; session = session_next(session))
            session_review(session);
    }
    core_free(&broker->reviewed);
    broker->reviewed = reached;
    if (session)
        timer_start(broker->deps.timers, timer, 0);
}

static void on_rulebook_changed(void *data)
{
    struct broker *broker = data;
    core_free(&broker->reviewed); /* from the beginning again */
    timer_start(broker->deps.timers, &broker->review_timer, 0);
}

void rights_init(struct broker *broker)
{
    broker->reviewed = slice_of("", 0);
    broker->review_timer.on_due = review_due;
    if (broker->deps.rulebook)
        rulebook_watch(broker->deps.rulebook, on_rulebook_changed, broker);
}

void rights_done(struct broker *broker)
{
    if (broker->deps.rulebook)
        rulebook_watch(broker->deps.rulebook, NULL, NULL);
    timer_stop(broker->deps.timers, &broker->review_timer);
    timer_stop(broker->deps.timers, &broker->blocks_timer);
    core_free(&broker->reviewed);
}

static bool group_denied(const struct session *session, const struct group *group)
{
    const struct sub *sub = sub_find(session, group->filter, group);
    return sub && sub->denied;
}

bool rights_may_receive(struct session *session, const struct group *group, struct slice topic)
{
    struct broker *broker = session->broker;
    struct slice first, client_id;
    if (!session->any_denied)
        return true;
    if (group)
        return !group_denied(session, group);
    bool matched = false;
    const struct trie_matches matches = trie_match(broker->trie, topic);
    for (uint32_t i = 0; i < matches.count; i++) {
        const struct sub *sub = sub_find(session, matches.values[i], NULL);
        if (sub && !sub->denied)
            return true;
        matched |= sub != NULL;
    }
    /* Without any subscription left it is what was begun before the last one ended. */
    return !matched || (topic_p2p_parse(topic, &first, &client_id) &&
                        slice_equal(client_id, session->client_id));
}
