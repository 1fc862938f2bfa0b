/* Authentication: may this client connect?
 *
 * An authenticator is one way to tell (a password file now; others later) behind a small table of
 * functions. The answer comes at once where it costs nothing, else later on the loop: a question
 * may block or take milliseconds of processor time, so that work runs on the worker pool.
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "io/worker.h"

enum auth_result {
    AUTH_PENDING, /* done will be called */
    AUTH_ALLOWED,
    AUTH_BAD_CREDENTIALS, /* unknown user or wrong password */
    AUTH_NOT_AUTHORIZED,  /* credentials are needed and none were given */
    AUTH_BUSY,            /* too many questions are waiting; the client may try again */
};

/* What a client presents; borrowed for the call. */
struct auth_credentials {
    struct slice client_id;
    struct slice username, password;
    bool has_username, has_password;
};

/* `result` is never AUTH_PENDING. */
typedef void auth_done_fn(void *data, enum auth_result result);

/* One question under way; belongs to the authenticator. */
struct auth_call {
    auth_done_fn *done; /* NULL once cancelled */
    void *data;
};

struct authenticator;

struct authenticator_ops {
    const char *name;
    /* Answers, or returns AUTH_PENDING with *ret_call set: then `done` runs once, later, unless
     * cancelled. done and data are to be put into the call. */
    enum auth_result (*check)(struct authenticator *authenticator,
                              const struct auth_credentials *credentials, auth_done_fn *done,
                              void *data, struct auth_call **ret_call);
    /* Cancels what is under way; work that runs already ends on its own. */
    void (*free)(struct authenticator *authenticator);
};

struct authenticator {
    const struct authenticator_ops *ops;
};

struct auth_config {
    bool anonymous;            /* clients without a user name may connect */
    const char *password_file; /* NULL or "": none; copied */
    uint32_t waiting_max;      /* questions under way at once; 0 = 1,024 */
};

struct auth_deps {
    struct worker_pool *workers; /* borrowed until auth_free */
    struct mailbox *mailbox;     /* of the loop, likewise */
};

struct auth;

/* Reads the password file (blocking). Without one, who gives a user name is let in exactly when
 * anonymous clients are. Returns 0, or an error with the line at fault in reterr. */
MUST_CHECK int auth_new(const struct auth_config *config, const struct auth_deps *deps,
                        struct auth **ret_auth, struct errmsg *reterr);
/* Applies a changed configuration and reads the password file again; on failure all stays as it
 * was. */
MUST_CHECK int auth_configure(struct auth *auth, const struct auth_config *config,
                              struct errmsg *reterr);
/* What is under way is cancelled; work on the pool ends on its own, so the mailbox must be emptied
 * after this. NULL is fine; returns NULL. */
struct auth *auth_free(struct auth *auth);

/* Asks. With AUTH_PENDING, *ret_call can be given to auth_cancel until done was called. */
MUST_CHECK enum auth_result auth_connect(struct auth *auth,
                                         const struct auth_credentials *credentials,
                                         auth_done_fn *done, void *data,
                                         struct auth_call **ret_call);
/* done will not be called. */
void auth_cancel(struct auth_call *call);
