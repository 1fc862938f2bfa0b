/* The chain, and questions to it.
 *
 * A question is made before the first authenticator is asked, because that one may need what it
 * holds: the credentials in memory of their own. It is gone when it is answered or cancelled, and
 * then nothing that it asked for is under way any more, or is told to nobody.
 */
#include "auth/auth_priv.h"

#include "auth/device_auth.h"
#include "auth/devices.h"
#include "auth/http_auth.h"
#include "auth/jwt.h"
#include "auth/password.h"
#include "auth/registry.h"
#include "auth/registry_auth.h"
#include "auth/x509_auth.h"
#include "base/mem.h"
#include "mqtt/props.h"
#include "net/http_client.h"

#include <string.h>

enum { WAITING_MAX_DEFAULT = 1024 };

struct question {
    struct auth_call call;
    struct list node;
    struct auth *auth;
    struct auth_chain *chain;
    struct auth_call *current; /* of the authenticator asked last */
    uint32_t next;             /* in the chain */
    bool waiting;              /* counted, and to be told by done */
    struct auth_credentials credentials;
    struct props props;
    size_t size;
    uint8_t bytes[]; /* what the credentials point to */
};

void auth_cancel(struct auth_call *call)
{
    if (!call)
        return;
    call->done = NULL;
    call->cancel(call);
}

struct authenticator *authenticator_ref(struct authenticator *authenticator)
{
    authenticator->refs++;
    return authenticator;
}

struct authenticator *authenticator_unref(struct authenticator *authenticator)
{
    if (authenticator && --authenticator->refs == 0)
        authenticator->ops->free(authenticator);
    return NULL;
}

static struct auth_chain *chain_unref(struct auth_chain *chain)
{
    if (chain && --chain->refs == 0) {
        for (uint32_t i = 0; i < chain->count; i++) {
            if (chain->items[i]->ops->retire)
                chain->items[i]->ops->retire(chain->items[i]);
            (void)authenticator_unref(chain->items[i]);
        }
        mem_free(chain);
    }
    return NULL;
}

/* --- questions --------------------------------------------------------------------------------
 */

static void question_free(struct question *question)
{
    struct auth *auth = question->auth;
    if (question->waiting) {
        auth->waiting--;
        if (auth->deps.metrics)
            metric_add(&auth->deps.metrics->auth_waiting, -1);
    }
    list_remove(&question->node);
    (void)chain_unref(question->chain);
    explicit_bzero(question->bytes, question->size);
    mem_free(question);
}

static void question_cancel(struct auth_call *call)
{
    struct question *question = CONTAINER_OF(call, struct question, call);
    if (question->current)
        auth_cancel(TAKE(question->current));
    question_free(question);
}

static struct slice copy_to(uint8_t **at, struct slice slice)
{
    if (slice.size > 0)
        memcpy(*at, slice.bytes, slice.size);
    const struct slice copy = slice_of(*at, slice.size);
    *at += slice.size;
    return copy;
}

/* NULL when out of memory. */
static struct question *question_new(struct auth *auth, const struct auth_credentials *given)
{
    const size_t props_size = given->props ? given->props->raw.size : 0;
    const size_t size = given->client_id.size + given->username.size + given->password.size;
    struct question *question = mem_try_alloc(sizeof *question + size + props_size);
    if (!question)
        return NULL;
    *question = (struct question){
        .call.cancel = question_cancel,
        .auth = auth,
        .chain = auth->chain,
        .credentials = *given,
        .size = size + props_size,
    };
    question->chain->refs++;
    uint8_t *at = question->bytes;
    question->credentials.client_id = copy_to(&at, given->client_id);
    question->credentials.username = copy_to(&at, given->username);
    question->credentials.password = copy_to(&at, given->password);
    if (given->props) {
        question->props = *given->props;
        question->props.raw = copy_to(&at, given->props->raw);
        question->credentials.props = &question->props;
    }
    list_init(&question->node);
    list_push_back(&auth->questions, &question->node);
    return question;
}

/* Nobody has said anything. */
static enum auth_result result_of_silence(const struct auth *auth,
                                          const struct auth_credentials *credentials,
                                          struct auth_answer *ret_answer)
{
    *ret_answer = (struct auth_answer){.username = credentials->username};
    if (auth->anonymous && (!credentials->has_username || auth->chain->asked_for == 0))
        return AUTH_ALLOWED;
    return credentials->has_username && auth->chain->asked_for > 0 ? AUTH_BAD_CREDENTIALS
                                                                   : AUTH_NOT_AUTHORIZED;
}

static auth_done_fn on_step;

/* Asks on until somebody decides or has to think. */
static enum auth_result question_run(struct question *question, struct auth_answer *ret_answer)
{
    enum auth_result result = AUTH_IGNORED;
    while (result == AUTH_IGNORED && question->next < question->chain->count) {
        struct authenticator *authenticator = question->chain->items[question->next++];
        *ret_answer = (struct auth_answer){0};
        result = authenticator->ops->check(authenticator, &question->credentials, on_step, question,
                                           ret_answer, &question->current);
        ret_answer->authenticator = authenticator->ops->name;
    }
    if (result == AUTH_IGNORED)
        result = result_of_silence(question->auth, &question->credentials, ret_answer);
    ret_answer->result = result;
    return result;
}

/* A yes counts only if the chain that said it is still in force. */
static enum auth_result question_confirm(struct question *question, struct auth_answer *answer)
{
    while (answer->result == AUTH_ALLOWED && question->chain != question->auth->chain) {
        (void)chain_unref(question->chain);
        question->chain = question->auth->chain;
        question->chain->refs++;
        question->next = 0;
        (void)question_run(question, answer);
    }
    return answer->result;
}

static void on_step(void *data, const struct auth_answer *given)
{
    struct question *question = data;
    struct auth_answer answer = *given;
    question->current = NULL;
    answer.authenticator = question->chain->items[question->next - 1]->ops->name;
    if (answer.result == AUTH_IGNORED)
        (void)question_run(question, &answer);
    if (question_confirm(question, &answer) == AUTH_PENDING)
        return;
    question->call.done(question->call.data, &answer);
    question_free(question);
}

/* The last answer that was given at once lies in its question. */
static void forget_answered(struct auth *auth)
{
    if (auth->answered)
        question_free(TAKE(auth->answered));
}

enum auth_result auth_connect(struct auth *auth, const struct auth_credentials *credentials,
                              auth_done_fn *done, void *data, struct auth_answer *ret_answer,
                              struct auth_call **ret_call)
{
    ASSERT(done != NULL && ret_call != NULL);
    if (auth->chain->count == 0) {
        ret_answer->result = result_of_silence(auth, credentials, ret_answer);
        return ret_answer->result;
    }
    struct question *question = NULL;
    *ret_answer = (struct auth_answer){.result = AUTH_BUSY};
    forget_answered(auth);
    if (auth->waiting < auth->waiting_max)
        question = question_new(auth, credentials);
    if (!question)
        return AUTH_BUSY;
    const enum auth_result result = question_run(question, ret_answer);
    if (result != AUTH_PENDING) {
        auth->answered = question;
        return result;
    }
    question->call.done = done;
    question->call.data = data;
    question->waiting = true;
    auth->waiting++;
    if (auth->deps.metrics)
        metric_add(&auth->deps.metrics->auth_waiting, 1);
    *ret_call = &question->call;
    return AUTH_PENDING;
}

/* --- the authenticators there are --------------------------------------------------------------
 */

static bool has_x509(const struct auth_config *config)
{
    return config->x509.by_name || config->x509.registered;
}

static int make_x509(struct auth *auth, const struct auth_config *config,
                     struct authenticator **ret_made, struct errmsg *reterr)
{
    (void)reterr;
    ASSERT(!config->x509.registered || auth->deps.registry != NULL);
    *ret_made = config->x509.registered ? registry_auth_new(&config->x509, &auth->deps)
                                        : x509_auth_new(&config->x509, &auth->deps);
    return 0;
}

/* Devices are added while the server runs, so this authenticator is there in any case; named in the
 * chain, it is what clients must come with. */
static bool has_device(const struct auth_config *config)
{
    for (uint32_t i = 0; i < config->chain_count; i++) {
        if (strcmp(config->chain[i], DEVICE_AUTH_NAME) == 0)
            return true;
    }
    return false;
}

static int make_device(struct auth *auth, const struct auth_config *config,
                       struct authenticator **ret_made, struct errmsg *reterr)
{
    (void)config;
    (void)reterr;
    ASSERT(auth->deps.devices != NULL);
    *ret_made = device_auth_new(&auth->deps);
    return 0;
}

static bool has_users(const struct auth_config *config)
{
    return config->password_file && *config->password_file;
}

static int make_users(struct auth *auth, const struct auth_config *config,
                      struct authenticator **ret_made, struct errmsg *reterr)
{
    return password_new(config->password_file, &auth->deps, ret_made, reterr);
}

static bool has_jwt(const struct auth_config *config)
{
    return jwt_is_configured(&config->jwt);
}

static int make_jwt(struct auth *auth, const struct auth_config *config,
                    struct authenticator **ret_made, struct errmsg *reterr)
{
    return jwt_new(&config->jwt, &auth->deps, auth->http, auth->chain, ret_made, reterr);
}

static bool has_http(const struct auth_config *config)
{
    return config->http.url && *config->http.url;
}

static int make_http(struct auth *auth, const struct auth_config *config,
                     struct authenticator **ret_made, struct errmsg *reterr)
{
    (void)reterr;
    *ret_made = http_auth_new(&config->http, &auth->deps, auth->http);
    return 0;
}

/* In the order in which they are asked when the configuration gives none: those first that cost
 * little and decide by what is presented. */
static const struct kind {
    const char *name;
    bool (*is_configured)(const struct auth_config *config);
    int (*make)(struct auth *auth, const struct auth_config *config,
                struct authenticator **ret_made, struct errmsg *reterr);
    const char *needs; /* what configures it */
} kinds[] = {
    {X509_AUTH_NAME, has_x509, make_x509, "auth.x509.mode"},
    {DEVICE_AUTH_NAME, has_device, make_device, "auth.chain"},
    {"jwt", has_jwt, make_jwt, "auth.jwt.secret_file, public_key_file or jwks"},
    {"users", has_users, make_users, "auth.password_file"},
    {"http", has_http, make_http, "auth.http.url"},
};

bool auth_config_has_any(const struct auth_config *config)
{
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (kinds[i].is_configured(config))
            return true;
    }
    return false;
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}

static int check_chain(const struct auth_config *config, const char **ret_item,
                       struct errmsg *reterr)
{
    for (uint32_t i = 0; i < config->chain_count; i++) {
        const struct kind *kind = find_kind(config->chain[i]);
        *ret_item = config->chain[i];
        if (!kind) {
            errmsg_wrap(reterr, "x509, device, jwt, users and http");
            return ERR_INVALID;
        }
        if (!kind->is_configured(config)) {
            errmsg_wrap(reterr, "%s only with %s", kind->name, kind->needs);
            return ERR_INVALID;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(config->chain[k], config->chain[i]) == 0) {
                errmsg_wrap(reterr, "each name once");
                return ERR_INVALID;
            }
        }
    }
    return 0;
}

int auth_config_check(const struct auth_config *config, const char **ret_key, const char **ret_item,
                      struct errmsg *reterr)
{
    *ret_item = NULL;
    int err = jwt_check_config(&config->jwt, ret_key, ret_item, reterr);
    if (err == 0)
        err = http_auth_check_config(&config->http, ret_key, ret_item, reterr);
    if (err == 0) {
        *ret_key = "auth.chain";
        err = check_chain(config, ret_item, reterr);
    }
    if (err == 0)
        *ret_item = NULL;
    return err;
}

/* --- life --------------------------------------------------------------------------------------
 */

static uint32_t waiting_max_of(const struct auth_config *config)
{
    return config->waiting_max > 0 ? config->waiting_max : WAITING_MAX_DEFAULT;
}

static int add(struct auth *auth, const struct auth_config *config, const struct kind *kind,
               struct auth_chain *chain, struct errmsg *reterr)
{
    struct authenticator *made = NULL;
    ASSERT(chain->count < AUTH_CHAIN_MAX);
    const int err = kind->make(auth, config, &made, reterr);
    if (err < 0)
        return err;
    made->jobs_max = waiting_max_of(config);
    chain->items[chain->count++] = made;
    chain->asked_for += kind->is_configured(config);
    return 0;
}

/* Makes the authenticators that the configuration asks for. */
static int fill_chain(struct auth *auth, const struct auth_config *config, struct auth_chain *chain,
                      struct errmsg *reterr)
{
    int err = 0;
    for (uint32_t i = 0; i < config->chain_count && err == 0; i++)
        err = add(auth, config, find_kind(config->chain[i]), chain, reterr);
    for (size_t i = 0; i < ARRAY_COUNT(kinds) && config->chain_count == 0 && err == 0; i++) {
        if (kinds[i].is_configured(config) || (kinds[i].make == make_device && auth->deps.devices))
            err = add(auth, config, &kinds[i], chain, reterr);
    }
    return err;
}

/* What asks other servers is started when it is needed first. */
static int start_http(struct auth *auth, const struct auth_config *config, struct errmsg *reterr)
{
    if (auth->http || !auth->deps.loop || !auth_config_has_any(config))
        return 0;
    return http_client_new(auth->deps.loop, &auth->http, reterr);
}

int auth_configure(struct auth *auth, const struct auth_config *config, struct errmsg *reterr)
{
    struct auth_chain *chain = mem_new(sizeof *chain);
    chain->refs = 1;
    int err = start_http(auth, config, reterr);
    if (err == 0)
        err = fill_chain(auth, config, chain, reterr);
    if (err < 0) {
        (void)chain_unref(chain);
        return err;
    }
    forget_answered(auth);
    (void)chain_unref(auth->chain);
    auth->chain = chain;
    auth->anonymous = config->anonymous;
    auth->waiting_max = waiting_max_of(config);
    identities_review(auth);
    return 0;
}

static void on_device_gone(void *data, struct slice id)
{
    identities_revoke(data, DEVICE_AUTH_NAME, id);
}

static void on_certificate_gone(void *data, struct slice sn)
{
    if (sn.size > 0)
        identities_revoke(data, X509_AUTH_NAME, sn);
    else
        identities_review(data);
}

int auth_new(const struct auth_config *config, const struct auth_deps *deps, struct auth **ret_auth,
             struct errmsg *reterr)
{
    struct auth *auth = mem_new(sizeof *auth);
    auth->deps = *deps;
    list_init(&auth->questions);
    identities_init(&auth->identities);
    if (deps->devices)
        devices_watch(deps->devices, on_device_gone, auth);
    if (deps->registry)
        registry_watch(deps->registry, on_certificate_gone, auth);
    const int err = auth_configure(auth, config, reterr);
    if (err < 0) {
        (void)auth_free(auth);
        return err;
    }
    *ret_auth = auth;
    return 0;
}

struct auth *auth_free(struct auth *auth)
{
    if (!auth)
        return NULL;
    if (auth->deps.devices)
        devices_watch(auth->deps.devices, NULL, NULL);
    if (auth->deps.registry)
        registry_watch(auth->deps.registry, NULL, NULL);
    forget_answered(auth);
    while (!list_empty(&auth->questions)) /* the end of one may answer others */
        auth_cancel(&LIST_FIRST(&auth->questions, struct question, node)->call);
    (void)chain_unref(auth->chain);
    (void)http_client_free(auth->http);
    identities_done(&auth->identities, auth->deps.loop);
    mem_free(auth);
    return NULL;
}
