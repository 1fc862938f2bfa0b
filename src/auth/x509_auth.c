#include "auth/x509_auth.h"

#include "base/mem.h"
#include "net/peer.h"

struct x509_auth {
    struct authenticator base;
    struct auth_deps deps;
    bool binds_client_id;
};

const char *x509_complaint(const struct certificate *certificate, bool binds_client_id,
                           const struct auth_credentials *credentials)
{
    const char *name = certificate->subject.common_name;
    if (!name || !*name)
        return "its subject has no common name";
    if (binds_client_id && !slice_equal(slice_str(name), credentials->client_id))
        return "its common name is not the client ID";
    return NULL;
}

enum auth_result x509_refuse(const struct auth_deps *deps,
                             const struct auth_credentials *credentials, const char *why)
{
    log_write(deps->log, LOG_INFO, "auth", "refused the certificate of the client at %s: %s",
              credentials->address ? credentials->address : "?", why);
    return AUTH_BAD_CREDENTIALS;
}

enum auth_result x509_allow(const struct certificate *certificate, struct auth_answer *ret_answer)
{
    ret_answer->username = slice_str(certificate->subject.common_name);
    ret_answer->expire_at_ms =
        certificate->not_after_s > 0 ? (uint64_t)certificate->not_after_s * 1000 : 0;
    return AUTH_ALLOWED;
}

static enum auth_result x509_check(struct authenticator *authenticator,
                                   const struct auth_credentials *credentials, auth_done_fn *done,
                                   void *data, struct auth_answer *ret_answer,
                                   struct auth_call **ret_call)
{
    const struct x509_auth *auth = CONTAINER_OF(authenticator, struct x509_auth, base);
    const struct certificate *certificate =
        credentials->peer ? credentials->peer->certificate : NULL;
    (void)done;
    (void)data;
    (void)ret_call;
    if (!certificate)
        return AUTH_IGNORED;
    const char *wrong = x509_complaint(certificate, auth->binds_client_id, credentials);
    return wrong ? x509_refuse(&auth->deps, credentials, wrong)
                 : x509_allow(certificate, ret_answer);
}

static void x509_free(struct authenticator *authenticator)
{
    mem_free(CONTAINER_OF(authenticator, struct x509_auth, base));
}

static const struct authenticator_ops x509_auth_ops = {
    .name = X509_AUTH_NAME,
    .check = x509_check,
    .free = x509_free,
};

struct authenticator *x509_auth_new(const struct x509_config *config, const struct auth_deps *deps)
{
    struct x509_auth *auth = mem_new(sizeof *auth);
    auth->base = (struct authenticator){.ops = &x509_auth_ops, .refs = 1};
    auth->deps = *deps;
    auth->binds_client_id = config->binds_client_id;
    return &auth->base;
}
