#include "auth/jwt.h"

#include "auth/auth_priv.h"
#include "auth/claims.h"
#include "auth/job.h"
#include "auth/jwks_source.h"
#include "auth/template.h"
#include "base/mem.h"
#include "io/file.h"
#include "io/loop.h"
#include "net/http_client.h"

#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#define KEY_FILE_MAX (256u * 1024)

struct jwt {
    struct authenticator base;
    struct auth_deps deps;
    bool from_username;
    struct claims_rules rules;  /* with texts of our own; unchanged, so workers read them */
    struct jws_keys *keys;      /* NULL with a source */
    struct jwks_source *source; /* until it is retired; or NULL */
};

struct jwt_job {
    struct auth_job base;
    const struct auth_credentials *asked; /* there until the job is cancelled or answered */
    struct auth_credentials credentials;  /* a copy, for the worker */
    struct jws_keys *keys;                /* referenced */
    uint64_t now_ms;
    enum jws_verdict verdict;
    int err;
    struct claims_result result;
    size_t size;
    uint8_t bytes[];
};

/* --- on a worker --------------------------------------------------------------------------------
 */

static struct slice token_of(const struct jwt *jwt, const struct auth_credentials *credentials)
{
    return jwt->from_username ? credentials->username : credentials->password;
}

static void job_run(struct auth_job *base)
{
    struct jwt_job *job = CONTAINER_OF(base, struct jwt_job, base);
    const struct jwt *jwt = CONTAINER_OF(base->authenticator, struct jwt, base);
    json_t *claims = NULL;
    job->verdict = jws_verify(token_of(jwt, &job->credentials), job->keys, &claims);
    if (job->verdict == JWS_GOOD)
        job->err = claims_check(claims, &jwt->rules, &job->credentials, job->now_ms, &job->result);
    json_decref(claims);
}

/* --- on the loop --------------------------------------------------------------------------------
 */

static const char *why_refused(const struct jwt_job *job)
{
    switch (job->verdict) {
    case JWS_GOOD:
        return job->result.wrong;
    case JWS_NO_TOKEN:
    case JWS_MALFORMED:
        return "it is malformed";
    case JWS_ALGORITHM:
        return "no key may be used with its algorithm";
    case JWS_UNKNOWN_KEY:
        return "it names a key that is not known";
    case JWS_SIGNATURE:
        return "its signature is wrong";
    }
    return NULL;
}

static void job_answer(struct auth_job *base, struct auth_answer *ret_answer)
{
    const struct jwt_job *job = CONTAINER_OF(base, struct jwt_job, base);
    const struct jwt *jwt = CONTAINER_OF(base->authenticator, struct jwt, base);
    const char *why = why_refused(job);
    if (job->err < 0) {
        ret_answer->result = AUTH_BUSY;
        return;
    }
    if (job->verdict == JWS_UNKNOWN_KEY && jwt->source && jwks_source_hurry(jwt->source)) {
        ret_answer->result = AUTH_BUSY; /* until the new keys are here */
        return;
    }
    if (why) {
        log_write(jwt->deps.log, LOG_INFO, "auth", "refused the token of the client at %s: %s",
                  job->asked->address ? job->asked->address : "?", why);
        ret_answer->result = AUTH_BAD_CREDENTIALS;
        return;
    }
    ret_answer->result = AUTH_ALLOWED;
    ret_answer->expire_at_ms = job->result.expire_at_ms;
    ret_answer->acl = job->result.acl;
    ret_answer->username = job->result.username;
}

static void job_free(struct auth_job *base)
{
    struct jwt_job *job = CONTAINER_OF(base, struct jwt_job, base);
    claims_done(&job->result);
    (void)jws_keys_unref(job->keys);
    sodium_memzero(job->bytes, job->size);
    mem_free(job);
}

static struct slice copy_to(uint8_t **at, struct slice slice)
{
    if (slice.size > 0)
        memcpy(*at, slice.bytes, slice.size);
    const struct slice copy = slice_of(*at, slice.size);
    *at += slice.size;
    return copy;
}

static enum auth_result jwt_check(struct authenticator *authenticator,
                                  const struct auth_credentials *credentials, auth_done_fn *done,
                                  void *data, struct auth_answer *ret_answer,
                                  struct auth_call **ret_call)
{
    struct jwt *jwt = CONTAINER_OF(authenticator, struct jwt, base);
    struct jws_keys *keys = jwt->source ? jwks_source_keys(jwt->source) : jwt->keys;
    (void)ret_answer;
    if (!jws_looks_like_one(token_of(jwt, credentials)))
        return AUTH_IGNORED;
    const struct slice address = slice_str(credentials->address ? credentials->address : "");
    const size_t size = credentials->client_id.size + credentials->username.size +
                        credentials->password.size + address.size + 1;
    struct jwt_job *job = keys ? mem_try_alloc(sizeof *job + size) : NULL;
    if (!job)
        return AUTH_BUSY; /* the keys are still on their way, or there is no memory */
    *job = (struct jwt_job){
        .base = {.run = job_run, .answer = job_answer, .free = job_free},
        .asked = credentials,
        .keys = jws_keys_ref(keys),
        .now_ms = loop_wall_ms(jwt->deps.loop),
        .size = size,
    };
    uint8_t *at = job->bytes;
    job->credentials.client_id = copy_to(&at, credentials->client_id);
    job->credentials.username = copy_to(&at, credentials->username);
    job->credentials.password = copy_to(&at, credentials->password);
    job->credentials.address = (const char *)copy_to(&at, address).bytes;
    *at = '\0';
    return auth_job_submit(&job->base, authenticator, &jwt->deps, done, data, ret_call);
}

static void jwt_retire(struct authenticator *authenticator)
{
    struct jwt *jwt = CONTAINER_OF(authenticator, struct jwt, base);
    jwt->source = jwks_source_unref(jwt->source);
}

static void jwt_free(struct authenticator *authenticator)
{
    struct jwt *jwt = CONTAINER_OF(authenticator, struct jwt, base);
    ASSERT(!jwt->source);
    (void)jws_keys_unref(jwt->keys);
    for (uint32_t i = 0; i < jwt->rules.expected_count; i++)
        mem_free(jwt->rules.expected[i]);
    mem_free(jwt->rules.expected);
    mem_free((char *)jwt->rules.issuer);
    mem_free((char *)jwt->rules.audience);
    mem_free(jwt);
}

static const struct authenticator_ops jwt_ops = {
    .name = "jwt",
    .check = jwt_check,
    .retire = jwt_retire,
    .free = jwt_free,
};

/* --- configuration ------------------------------------------------------------------------------
 */

static bool is_given(const char *text)
{
    return text && *text;
}

bool jwt_is_configured(const struct jwt_config *config)
{
    return is_given(config->secret_file) || is_given(config->public_key_file) ||
           is_given(config->jwks);
}

static bool is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static uint32_t allowed_algorithms(const struct jwt_config *config)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < config->algorithm_count; i++)
        bits |= jws_algorithm_bit(config->algorithms[i]);
    return config->algorithm_count > 0 ? bits : JWS_ALL;
}

int jwt_check_config(const struct jwt_config *config, const char **ret_key, const char **ret_item,
                     struct errmsg *reterr)
{
    const int sources =
        is_given(config->secret_file) + is_given(config->public_key_file) + is_given(config->jwks);
    *ret_key = "auth.jwt.jwks";
    if (is_given(config->jwks) && is_url(config->jwks) && !http_url_is_sound(config->jwks)) {
        errmsg_wrap(reterr, "a URL http://... or https://...");
        return ERR_INVALID;
    }
    if (sources > 1) {
        *ret_key =
            is_given(config->secret_file) ? "auth.jwt.secret_file" : "auth.jwt.public_key_file";
        errmsg_wrap(reterr, "one of auth.jwt.secret_file, auth.jwt.public_key_file and "
                            "auth.jwt.jwks, not two: a key is either secret or public");
        return ERR_INVALID;
    }
    *ret_key = "auth.jwt.algorithms";
    for (uint32_t i = 0; i < config->algorithm_count; i++) {
        *ret_item = config->algorithms[i];
        if (jws_algorithm_bit(config->algorithms[i]) == 0) {
            errmsg_wrap(reterr, "HS256 to HS512, RS256 to RS512, PS256 to PS512, ES256 to ES512 "
                                "and EdDSA");
            return ERR_INVALID;
        }
    }
    *ret_key = "auth.jwt.claims";
    for (uint32_t i = 0; i < config->claim_count; i++) {
        *ret_item = config->claims[i];
        if (claims_check_rule(config->claims[i], reterr) < 0)
            return ERR_INVALID;
    }
    return 0;
}

/* --- keys ---------------------------------------------------------------------------------------
 */

typedef int keys_fn(struct slice text, uint32_t allowed, struct jws_keys **ret_keys,
                    struct errmsg *reterr);

/* Line ends behind a secret are the editor's, not the secret's. */
static struct slice without_line_end(struct slice text)
{
    while (text.size > 0 &&
           (text.bytes[text.size - 1] == '\n' || text.bytes[text.size - 1] == '\r'))
        text.size--;
    return text;
}

static int read_keys(const char *what, const char *path, uint32_t allowed, keys_fn *make,
                     struct jws_keys **ret_keys, struct errmsg *reterr)
{
    char *text = NULL;
    size_t size = 0;
    int err = file_read_whole(AT_FDCWD, path, KEY_FILE_MAX, &text, &size);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read %s '%s': %s", what, path, err_text(err));
        return err;
    }
    err = make(without_line_end(slice_of(text, size)), allowed, ret_keys, reterr);
    if (err < 0)
        errmsg_wrap(reterr, "%s '%s'", what, path);
    sodium_memzero(text, size);
    mem_free(text);
    return err;
}

/* That of the chain before, or NULL. */
static struct jwks_source *source_of(const struct auth_chain *before)
{
    for (uint32_t i = 0; before && i < before->count; i++) {
        if (before->items[i]->ops == &jwt_ops)
            return CONTAINER_OF(before->items[i], struct jwt, base)->source;
    }
    return NULL;
}

static int make_keys(struct jwt *jwt, const struct jwt_config *config, struct http_client *http,
                     const struct auth_chain *before, struct errmsg *reterr)
{
    const uint32_t allowed = allowed_algorithms(config);
    if (is_given(config->secret_file))
        return read_keys("auth.jwt.secret_file", config->secret_file, allowed, jws_keys_secret,
                         &jwt->keys, reterr);
    if (is_given(config->public_key_file))
        return read_keys("auth.jwt.public_key_file", config->public_key_file, allowed, jws_keys_pem,
                         &jwt->keys, reterr);
    if (*config->jwks == '{') {
        const int err = jws_keys_set(slice_str(config->jwks), allowed, &jwt->keys, reterr);
        if (err < 0)
            errmsg_wrap(reterr, "auth.jwt.jwks");
        return err;
    }
    if (!is_url(config->jwks))
        return read_keys("auth.jwt.jwks", config->jwks, allowed, jws_keys_set, &jwt->keys, reterr);
    const struct jwks_source_config wanted = {
        .url = config->jwks,
        .ca_file = config->ca_file ? config->ca_file : "",
        .refresh_ms = config->jwks_refresh_ms,
        .allowed = allowed,
    };
    struct jwks_source *source = source_of(before);
    jwt->source = source && jwks_source_is(source, &wanted)
                      ? jwks_source_ref(source)
                      : jwks_source_new(&wanted, &jwt->deps, http);
    return 0;
}

static void copy_rules(struct jwt *jwt, const struct jwt_config *config)
{
    struct claims_rules *rules = &jwt->rules;
    rules->leeway_ms = config->leeway_ms;
    rules->issuer = is_given(config->issuer) ? mem_strdup(config->issuer) : NULL;
    rules->audience = is_given(config->audience) ? mem_strdup(config->audience) : NULL;
    rules->expected = mem_new((config->claim_count + 1) * sizeof(char *));
    for (uint32_t i = 0; i < config->claim_count; i++)
        rules->expected[rules->expected_count++] = mem_strdup(config->claims[i]);
}

int jwt_new(const struct jwt_config *config, const struct auth_deps *deps, struct http_client *http,
            const struct auth_chain *before, struct authenticator **ret_authenticator,
            struct errmsg *reterr)
{
    struct jwt *jwt = mem_new(sizeof *jwt);
    jwt->base = (struct authenticator){.ops = &jwt_ops, .refs = 1};
    jwt->deps = *deps;
    jwt->from_username = config->from_username;
    copy_rules(jwt, config);
    const int err = make_keys(jwt, config, http, before, reterr);
    if (err < 0) {
        jwt_free(&jwt->base);
        return err;
    }
    *ret_authenticator = &jwt->base;
    return 0;
}
