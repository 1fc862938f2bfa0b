/* What changes the registry (an enrolment, a binding) is on disk before the client hears anything;
 * then the certificate is judged again, because an administrator may have been faster. */
#include "auth/registry_auth.h"

#include "auth/registry.h"
#include "auth/x509_auth.h"
#include "base/mem.h"
#include "net/peer.h"

struct registry_auth {
    struct authenticator base;
    struct auth_deps deps;
    struct x509_config config;
};

/* A client that waits for the registry. */
struct wait {
    struct auth_call call;
    struct registry_auth *auth;                 /* a reference */
    const struct auth_credentials *credentials; /* the chain's, until answered or cancelled */
    bool submitting;                            /* the registry has not returned yet */
    bool ended;
    enum auth_result result;
    struct auth_answer answer;
};

static struct slice serial_of(const struct auth_credentials *credentials)
{
    return slice_str(credentials->peer->certificate->serial);
}

/* What speaks against one that is registered; NULL: nothing. */
static const char *judge(const struct registry_auth *auth,
                         const struct registry_certificate *registered,
                         const struct auth_credentials *credentials)
{
    struct buf *der = credentials->peer->certificate->der;
    if (!slice_equal(registered->der, slice_of(buf_bytes(der), buf_size(der))))
        return "another certificate of its serial number is registered";
    if (registered->state == REGISTRY_PENDING)
        return "it waits to be activated";
    if (registered->state == REGISTRY_REVOKED)
        return "it is revoked";
    if (registered->state != REGISTRY_ACTIVE)
        return "it is not active";
    if (!registry_is_active(auth->deps.registry, registered))
        return "its CA is not active";
    if (registered->client_id.size > 0 &&
        !slice_equal(registered->client_id, credentials->client_id))
        return "it is bound to another client ID";
    return NULL;
}

static enum auth_result allow(const struct auth_credentials *credentials,
                              struct auth_answer *ret_answer)
{
    ret_answer->subject = serial_of(credentials);
    return x509_allow(credentials->peer->certificate, ret_answer);
}

/* Of one that is registered and bound. */
static enum auth_result decide(const struct registry_auth *auth,
                               const struct auth_credentials *credentials,
                               struct auth_answer *ret_answer)
{
    const struct registry_certificate *registered =
        registry_find(auth->deps.registry, serial_of(credentials));
    const char *wrong = "it has been removed from the registry";
    if (registered)
        wrong = judge(auth, registered, credentials);
    return wrong ? x509_refuse(&auth->deps, credentials, wrong) : allow(credentials, ret_answer);
}

/* --- waiting for the registry
 * ---------------------------------------------------------------------
 */

static void wait_free(struct wait *wait)
{
    (void)authenticator_unref(&wait->auth->base);
    mem_free(wait);
}

/* The registry will still tell the end. */
static void wait_cancel(struct auth_call *call)
{
    ASSERT(call->done == NULL);
}

static void on_changed(void *data, const struct registry_result *result)
{
    struct wait *wait = data;
    wait->ended = true;
    if (!wait->submitting && !wait->call.done) {
        wait_free(wait);
        return;
    }
    if (result->outcome == REGISTRY_DONE)
        wait->result = decide(wait->auth, wait->credentials, &wait->answer);
    else
        wait->result = x509_refuse(&wait->auth->deps, wait->credentials, result->detail);
    if (result->outcome == REGISTRY_BUSY || result->outcome == REGISTRY_FAILED)
        wait->result = AUTH_BUSY; /* the client may try again */
    if (wait->submitting)
        return;
    wait->answer.result = wait->result;
    wait->call.done(wait->call.data, &wait->answer);
    wait_free(wait);
}

static struct wait *wait_new(struct registry_auth *auth, const struct auth_credentials *credentials,
                             auth_done_fn *done, void *data)
{
    struct wait *wait = mem_new(sizeof *wait);
    *wait = (struct wait){
        .call = {.done = done, .data = data, .cancel = wait_cancel},
        .auth = auth,
        .credentials = credentials,
        .submitting = true,
    };
    (void)authenticator_ref(&auth->base);
    return wait;
}

/* The registry has been asked. */
static enum auth_result wait_begin(struct wait *wait, struct auth_answer *ret_answer,
                                   struct auth_call **ret_call)
{
    wait->submitting = false;
    if (!wait->ended) {
        *ret_call = &wait->call;
        return AUTH_PENDING;
    }
    const enum auth_result result = wait->result;
    *ret_answer = wait->answer;
    wait_free(wait);
    return result;
}

/* --- the authenticator
 * -----------------------------------------------------------------------------
 */

static enum auth_result registry_check(struct authenticator *authenticator,
                                       const struct auth_credentials *credentials,
                                       auth_done_fn *done, void *data,
                                       struct auth_answer *ret_answer, struct auth_call **ret_call)
{
    struct registry_auth *auth = CONTAINER_OF(authenticator, struct registry_auth, base);
    const struct certificate *shown = credentials->peer ? credentials->peer->certificate : NULL;
    if (!shown)
        return AUTH_IGNORED;
    const char *wrong = x509_complaint(shown, auth->config.binds_client_id, credentials);
    const struct registry_certificate *registered =
        registry_find(auth->deps.registry, serial_of(credentials));
    if (!wrong && registered)
        wrong = judge(auth, registered, credentials);
    else if (!wrong && !auth->config.enrols)
        wrong = "it is not registered";
    if (wrong)
        return x509_refuse(&auth->deps, credentials, wrong);
    if (registered && registered->client_id.size > 0)
        return allow(credentials, ret_answer);
    if (auth->base.refs > auth->base.jobs_max)
        return AUTH_BUSY;
    struct wait *wait = wait_new(auth, credentials, done, data);
    if (registered)
        registry_bind(auth->deps.registry, serial_of(credentials), credentials->client_id,
                      on_changed, wait);
    else
        registry_enrol(auth->deps.registry, shown, credentials->client_id,
                       auth->config.activates ? REGISTRY_ACTIVE : REGISTRY_PENDING, on_changed,
                       wait);
    return wait_begin(wait, ret_answer, ret_call);
}

static bool registry_knows(const struct authenticator *authenticator, struct slice subject)
{
    const struct registry_auth *auth = CONTAINER_OF(authenticator, struct registry_auth, base);
    return registry_is_active(auth->deps.registry, registry_find(auth->deps.registry, subject));
}

static void registry_auth_free(struct authenticator *authenticator)
{
    mem_free(CONTAINER_OF(authenticator, struct registry_auth, base));
}

static const struct authenticator_ops registry_auth_ops = {
    .name = X509_AUTH_NAME,
    .check = registry_check,
    .knows = registry_knows,
    .free = registry_auth_free,
};

struct authenticator *registry_auth_new(const struct x509_config *config,
                                        const struct auth_deps *deps)
{
    struct registry_auth *auth = mem_new(sizeof *auth);
    ASSERT(deps->registry != NULL);
    auth->base = (struct authenticator){.ops = &registry_auth_ops, .refs = 1};
    auth->deps = *deps;
    auth->config = *config;
    return &auth->base;
}
