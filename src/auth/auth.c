#include "auth/auth.h"

#include "auth/password.h"
#include "base/mem.h"

enum { WAITING_MAX_DEFAULT = 1024 };

struct auth {
    struct auth_deps deps;
    bool anonymous;
    struct authenticator *password; /* NULL without a password file */
};

static struct authenticator *authenticator_free(struct authenticator *authenticator)
{
    if (authenticator)
        authenticator->ops->free(authenticator);
    return NULL;
}

int auth_configure(struct auth *auth, const struct auth_config *config, struct errmsg *reterr)
{
    struct authenticator *password = NULL;
    if (config->password_file && *config->password_file) {
        const struct password_config options = {
            .path = config->password_file,
            .waiting_max = config->waiting_max > 0 ? config->waiting_max : WAITING_MAX_DEFAULT,
            .workers = auth->deps.workers,
            .mailbox = auth->deps.mailbox,
        };
        const int err = password_new(&options, &password, reterr);
        if (err < 0)
            return err;
    }
    (void)authenticator_free(auth->password);
    auth->password = password;
    auth->anonymous = config->anonymous;
    return 0;
}

int auth_new(const struct auth_config *config, const struct auth_deps *deps, struct auth **ret_auth,
             struct errmsg *reterr)
{
    struct auth *auth = mem_new(sizeof *auth);
    auth->deps = *deps;
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
    if (auth) {
        (void)authenticator_free(auth->password);
        mem_free(auth);
    }
    return NULL;
}

enum auth_result auth_connect(struct auth *auth, const struct auth_credentials *credentials,
                              auth_done_fn *done, void *data, struct auth_call **ret_call)
{
    ASSERT(done != NULL && ret_call != NULL);
    if (!credentials->has_username || !auth->password)
        return auth->anonymous ? AUTH_ALLOWED : AUTH_NOT_AUTHORIZED;
    return auth->password->ops->check(auth->password, credentials, done, data, ret_call);
}

void auth_cancel(struct auth_call *call)
{
    call->done = NULL;
}
