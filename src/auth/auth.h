/* Authentication: may this client connect, and who is it?
 *
 * Authenticators form a chain. Each is one way to tell (a password file, tokens, a question to
 * another server) behind a small table of functions; it allows, denies, or ignores what it does not
 * know. The first that does not ignore decides; when all ignore, clients without a user name may be
 * anonymous, and everybody else is refused. An answer comes at once where it costs nothing, else
 * later on the loop: what blocks or takes milliseconds of processor time runs on workers.
 *
 * A changed configuration makes a new chain. Questions under way end in the chain that they began
 * in; a yes of a chain that is not in force any more is asked again of the new one.
 *
 * Thread: the loop's.
 */
#pragma once

#include "auth/auth_config.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/metrics.h"
#include "io/worker.h"

enum auth_result {
    AUTH_PENDING, /* done will be called */
    AUTH_ALLOWED,
    AUTH_IGNORED,         /* of an authenticator: the next one is asked; never of the chain */
    AUTH_BAD_CREDENTIALS, /* unknown user, wrong password, or a token that is not good */
    AUTH_NOT_AUTHORIZED,  /* credentials are needed and none were given, or they are blocked */
    AUTH_BUSY,            /* too many questions are waiting; the client may try again */
};

struct devices;  /* auth/devices.h */
struct registry; /* auth/registry.h */
struct peer;     /* net/peer.h */
struct props;    /* mqtt/props.h */

/* What a client presents; borrowed for the call. An authenticator may go on using it until it has
 * called done, or was cancelled: the chain keeps a copy. */
struct auth_credentials {
    struct slice client_id;
    struct slice username, password;
    bool has_username, has_password;
    const char *address;       /* of the client, for people; NULL = unknown */
    const struct peer *peer;   /* what the transport knows; NULL = nothing; kept by the caller until
                                * done or auth_cancel */
    const struct props *props; /* of an MQTT 5 CONNECT, or NULL */
};

/* Slices are borrowed for the callback, or until the next call of auth_connect. */
struct auth_answer {
    enum auth_result result;
    const char *authenticator; /* who decided: a name that lives for ever; NULL = nobody */
    bool is_superuser;
    uint64_t expire_at_ms; /* wall clock; the link ends then; 0 = never */
    struct slice acl;      /* rules of this client, a JSON array; empty = none */
    struct slice username; /* the user name that counts from now on; may be empty */
    struct slice subject;  /* what auth_revoke takes; empty: this link cannot be revoked */
};

/* answer->result is neither AUTH_PENDING nor, from the chain, AUTH_IGNORED. */
typedef void auth_done_fn(void *data, const struct auth_answer *answer);

/* One question under way; belongs to who answers it. */
struct auth_call {
    auth_done_fn *done; /* NULL once cancelled */
    void *data;
    void (*cancel)(
        struct auth_call *call); /* ends the work; the call is gone afterwards or later */
};

/* done will not be called. NULL is fine. */
void auth_cancel(struct auth_call *call);

/* --- one way to tell ---------------------------------------------------------------------------
 */

struct authenticator;

struct authenticator_ops {
    const char *name;
    /* Answers, with *ret_answer (cleared before) filled, or returns AUTH_PENDING with *ret_call
     * set: then `done` runs once, later, unless cancelled. done and data are to be put into the
     * call. */
    enum auth_result (*check)(struct authenticator *authenticator,
                              const struct auth_credentials *credentials, auth_done_fn *done,
                              void *data, struct auth_answer *ret_answer,
                              struct auth_call **ret_call);
    /* false: links of this subject are to end now that the configuration has changed. NULL: none
     * are. */
    bool (*knows)(const struct authenticator *authenticator, struct slice subject);
    /* It is not in force any more: ends what it does by itself. May be NULL. */
    void (*retire)(struct authenticator *authenticator);
    /* The last reference is gone; no question is under way. */
    void (*free)(struct authenticator *authenticator);
};

struct authenticator {
    const struct authenticator_ops *ops;
    uint32_t refs;     /* the chain's, and one for each job under way, cancelled ones too */
    uint32_t jobs_max; /* set by the chain */
};

struct authenticator *authenticator_ref(struct authenticator *authenticator);
/* NULL is fine; returns NULL. */
struct authenticator *authenticator_unref(struct authenticator *authenticator);

/* --- the chain ---------------------------------------------------------------------------------
 */

/* Borrowed until auth_free. */
struct auth_deps {
    struct worker_pool *workers;
    struct mailbox *mailbox;   /* of the loop */
    struct loop *loop;         /* NULL: links do not expire; for tests */
    struct log *log;           /* may be NULL */
    struct metrics *metrics;   /* may be NULL */
    struct devices *devices;   /* that may come with tokens of their own; may be NULL */
    struct registry *registry; /* of certificates; may be NULL unless the configuration asks it */
};

struct auth;

/* Reads the files that the configuration names (blocking). Without any authenticator, who gives a
 * user name is let in exactly when anonymous clients are. Returns 0, or an error with the file and
 * line at fault in reterr. */
MUST_CHECK int auth_new(const struct auth_config *config, const struct auth_deps *deps,
                        struct auth **ret_auth, struct errmsg *reterr);
/* Applies a changed configuration and reads the files again; on failure all stays as it was. Links
 * of users that are not known any more, or of an authenticator that is gone, end soon after. */
MUST_CHECK int auth_configure(struct auth *auth, const struct auth_config *config,
                              struct errmsg *reterr);
/* What is under way is cancelled; work on the pool ends on its own, so the mailbox must be emptied
 * after this. Identities must be gone. NULL is fine; returns NULL. */
struct auth *auth_free(struct auth *auth);

/* Asks. With AUTH_PENDING, *ret_call can be given to auth_cancel until done was called; otherwise
 * *ret_answer is filled. */
MUST_CHECK enum auth_result
auth_connect(struct auth *auth, const struct auth_credentials *credentials, auth_done_fn *done,
             void *data, struct auth_answer *ret_answer, struct auth_call **ret_call);
