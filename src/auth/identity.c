#include "auth/auth_priv.h"

#include "base/mem.h"

#include <string.h>

enum {
    EXPIRY_STEP_MS = 3600 * 1000, /* the wall clock may be set meanwhile */
    REVIEW_COUNT = 500,           /* identities in one slice */
    REVIEW_MS = 1,                /* between slices */
};

struct subject_key {
    const char *authenticator;
    struct slice subject;
};

static bool subject_matches(const struct hashnode *node, const void *key)
{
    const struct identity *identity = CONTAINER_OF(node, struct identity, by_subject);
    const struct subject_key *wanted = key;
    return strcmp(identity->authenticator, wanted->authenticator) == 0 &&
           slice_equal(identity->subject, wanted->subject);
}

/* From now on neither found nor told. */
static void retire(struct identity *identity)
{
    struct auth *auth = identity->auth;
    if (!identity->on_end)
        return;
    identity->on_end = NULL;
    if (identity->subject.size > 0)
        hashmap_remove(&auth->identities.by_subject, &identity->by_subject);
    list_remove(&identity->node);
    if (auth->deps.loop)
        timer_stop(loop_timers(auth->deps.loop), &identity->expiry);
}

static void end(struct identity *identity, enum identity_end why)
{
    struct metrics *metrics = identity->auth->deps.metrics;
    identity_end_fn *on_end = identity->on_end;
    void *data = identity->data;
    retire(identity);
    if (metrics)
        metric_add(why == IDENTITY_EXPIRED ? &metrics->auth_expired : &metrics->auth_revoked, 1);
    on_end(data, why);
}

/* --- expiry -----------------------------------------------------------------------------------
 */

static void wait_for_expiry(struct identity *identity)
{
    struct loop *loop = identity->auth->deps.loop;
    const uint64_t now_ms = loop_wall_ms(loop);
    const uint64_t left = identity->expire_at_ms > now_ms ? identity->expire_at_ms - now_ms : 0;
    timer_start(loop_timers(loop), &identity->expiry, MIN(left, (uint64_t)EXPIRY_STEP_MS));
}

static void on_expiry(struct timer *timer)
{
    struct identity *identity = CONTAINER_OF(timer, struct identity, expiry);
    if (loop_wall_ms(identity->auth->deps.loop) >= identity->expire_at_ms)
        end(identity, IDENTITY_EXPIRED);
    else
        wait_for_expiry(identity);
}

/* --- one identity -------------------------------------------------------------------------------
 */

int identity_new(struct auth *auth, const struct auth_answer *answer, identity_end_fn *on_end,
                 void *data, struct identity **ret_identity)
{
    struct identity *identity = mem_new(sizeof *identity);
    identity->auth = auth;
    identity->authenticator = answer->authenticator;
    identity->is_superuser = answer->is_superuser;
    identity->expire_at_ms = answer->expire_at_ms;
    identity->expiry.on_due = on_expiry;
    list_init(&identity->node);
    if (slice_keep(answer->username, &identity->username) < 0 ||
        slice_keep(answer->acl, &identity->acl) < 0 ||
        slice_keep(answer->subject, &identity->subject) < 0) {
        (void)identity_free(identity);
        return ERR_NOMEM;
    }
    identity->on_end = on_end;
    identity->data = data;
    list_push_back(&auth->identities.all, &identity->node);
    if (identity->subject.size > 0)
        hashmap_insert(&auth->identities.by_subject, &identity->by_subject,
                       hash_bytes(identity->subject.bytes, identity->subject.size));
    if (identity->expire_at_ms > 0 && auth->deps.loop)
        wait_for_expiry(identity);
    *ret_identity = identity;
    return 0;
}

struct identity *identity_free(struct identity *identity)
{
    if (identity) {
        retire(identity);
        slice_done(&identity->username);
        slice_done(&identity->acl);
        slice_done(&identity->subject);
        mem_free(identity);
    }
    return NULL;
}

/* --- all of them --------------------------------------------------------------------------------
 */

void identities_revoke(struct auth *auth, const char *authenticator, struct slice subject)
{
    const struct subject_key key = {.authenticator = authenticator, .subject = subject};
    const uint64_t hash = hash_bytes(subject.bytes, subject.size);
    struct hashnode *node;
    while ((node = hashmap_find(&auth->identities.by_subject, hash, subject_matches, &key)) != NULL)
        end(CONTAINER_OF(node, struct identity, by_subject), IDENTITY_REVOKED);
}

/* Whether the chain in force would still vouch for it, as far as can be told without asking. */
static bool is_known(const struct auth_chain *chain, const struct identity *identity)
{
    for (uint32_t i = 0; i < chain->count; i++) {
        const struct authenticator *it = chain->items[i];
        if (strcmp(it->ops->name, identity->authenticator) == 0)
            return !it->ops->knows || it->ops->knows(it, identity->subject);
    }
    return false;
}

static void on_review(struct timer *timer)
{
    struct auth *auth = CONTAINER_OF(timer, struct auth, identities.review);
    struct identities *identities = &auth->identities;
    uint32_t count = 0;
    while (identities->mark.next != &identities->all && count++ < REVIEW_COUNT) {
        struct list *node = identities->mark.next;
        struct identity *identity = CONTAINER_OF(node, struct identity, node);
        list_remove(&identities->mark);
        list_insert_before(node->next, &identities->mark);
        if (identity->authenticator && !is_known(auth->chain, identity))
            end(identity, IDENTITY_REVOKED);
    }
    if (identities->mark.next != &identities->all)
        timer_start(loop_timers(auth->deps.loop), timer, REVIEW_MS);
    else
        list_remove(&identities->mark);
}

void identities_review(struct auth *auth)
{
    struct identities *identities = &auth->identities;
    if (!auth->deps.loop || list_empty(&identities->all))
        return;
    list_remove(&identities->mark);
    list_push_front(&identities->all, &identities->mark);
    timer_start(loop_timers(auth->deps.loop), &identities->review, REVIEW_MS);
}

void identities_init(struct identities *identities)
{
    hashmap_init(&identities->by_subject);
    list_init(&identities->all);
    list_init(&identities->mark);
    identities->review.on_due = on_review;
}

void identities_done(struct identities *identities, struct loop *loop)
{
    list_remove(&identities->mark);
    ASSERT(list_empty(&identities->all));
    hashmap_done(&identities->by_subject);
    if (loop)
        timer_stop(loop_timers(loop), &identities->review);
}
