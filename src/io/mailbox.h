/* Mailbox: how other threads hand work to a loop. Many posters, one loop.
 *
 * Posting takes a short lock and wakes the loop through an eventfd only when the box was empty.
 */
#pragma once

#include "io/loop.h"

struct mail;
typedef void mail_fn(struct mail *mail);

/* Embed it; it belongs to the mailbox from post until `deliver` runs on the loop. */
struct mail {
    struct mail *next;
    mail_fn *deliver;
};

struct mailbox;
MUST_CHECK int mailbox_new(struct loop *loop, struct mailbox **ret_mailbox, struct errmsg *reterr);
/* Delivers what is left, then frees. Nobody may post any more. Thread: owner loop. */
struct mailbox *mailbox_free(struct mailbox *mailbox);
void mailbox_post(struct mailbox *mailbox, struct mail *mail); /* Thread: any */
/* Waits until there is mail and delivers it: for an owner that ends and cannot turn its loop.
 * Thread: owner loop. */
void mailbox_wait(struct mailbox *mailbox);
