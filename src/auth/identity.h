/* Identity: who a link is, as an authenticator said, and until when.
 *
 * Identities are found by what the authenticator knows the client by (the subject: a user name, a
 * device ID), so that links end when a user is removed or a device disabled, without a walk over
 * all links. An owner that is told of the end frees the identity when it likes.
 *
 * Thread: the loop's.
 */
#pragma once

#include "auth/auth.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "io/loop.h"

enum identity_end {
    IDENTITY_EXPIRED, /* what the client showed is not valid any longer */
    IDENTITY_REVOKED, /* the user or device was removed or disabled */
};

/* Told once. The owner may free the identity inside. */
typedef void identity_end_fn(void *data, enum identity_end why);

struct identity {
    const char *authenticator; /* NULL = nobody vouched: an anonymous client */
    bool is_superuser;
    uint64_t expire_at_ms; /* wall clock; 0 = never */
    struct slice username; /* owned, as all three */
    struct slice acl;      /* rules of this client, a JSON array; empty = none */
    struct slice subject;

    struct auth *auth;
    identity_end_fn *on_end; /* NULL once told */
    void *data;
    struct hashnode by_subject; /* while on_end is set and there is a subject */
    struct list node;
    struct timer expiry;
};

/* Copies the answer of an authenticator. Returns 0 or ERR_NOMEM. */
MUST_CHECK int identity_new(struct auth *auth, const struct auth_answer *answer,
                            identity_end_fn *on_end, void *data, struct identity **ret_identity);
struct identity *identity_free(struct identity *identity); /* NULL is fine; returns NULL */

/* All identities of one auth. */
struct identities {
    struct hashmap by_subject;
    struct list all;
    struct list mark;    /* in `all`, while a review is under way: what stands before it is done */
    struct timer review; /* its next slice */
};

void identities_init(struct identities *identities);
/* All identities must be gone. */
void identities_done(struct identities *identities, struct loop *loop);
/* Ends every link of that subject. */
void identities_revoke(struct auth *auth, const char *authenticator, struct slice subject);
/* Begins to ask the chain in force, in slices, whether it still knows each identity. */
void identities_review(struct auth *auth);
