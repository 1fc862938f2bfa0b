/* The eventfd is written behind the lock, or the loop would wake only to wait for it. So a poster
 * may still be in the mailbox when its mail has been delivered; freeing waits until it is out.
 */
#include "io/mailbox.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    struct io_watch watch; /* first: on_mail gets the mailbox from it */
    struct loop *loop;
    pthread_mutex_t lock; /* of the two below */
    struct mail *first, *last;
    _Atomic uint32_t waking; /* posters between the lock and the end of their write */
};

/* Delivers what was posted until now, in order. */
static bool deliver_all(struct mailbox *mailbox)
{
    (void)pthread_mutex_lock(&mailbox->lock);
    struct mail *mail = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    (void)pthread_mutex_unlock(&mailbox->lock);
    if (!mail)
        return false;
    while (mail) {
        struct mail *next = mail->next; /* deliver may free the mail */
        mail->next = NULL;
        mail->deliver(mail);
        mail = next;
    }
    return true;
}

static void on_mail(struct io_watch *watch, unsigned events)
{
    (void)events;
    uint64_t count = 0;
    (void)!read(watch->fd, &count, sizeof count);
    (void)deliver_all(CONTAINER_OF(watch, struct mailbox, watch));
}

int mailbox_new(struct loop *loop, struct mailbox **ret_mailbox, struct errmsg *reterr)
{
    struct mailbox *mailbox = mem_new(sizeof *mailbox);
    mailbox->loop = loop;
    mailbox->watch.on_event = on_mail;
    mailbox->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = mailbox->watch.fd < 0 ? -errno : io_watch_start(loop, &mailbox->watch, IO_READ);
    if (err < 0) {
        errmsg_wrap(reterr, "could not create a mailbox: %s", err_text(err));
        if (mailbox->watch.fd >= 0)
            (void)close(mailbox->watch.fd);
        mem_free(mailbox);
        return err;
    }
    err = pthread_mutex_init(&mailbox->lock, NULL);
    ASSERT(err == 0);
    *ret_mailbox = mailbox;
    return 0;
}

struct mailbox *mailbox_free(struct mailbox *mailbox)
{
    if (!mailbox)
        return NULL;
    io_watch_stop(mailbox->loop, &mailbox->watch);
    while (deliver_all(mailbox))
        continue;
    while (atomic_load_explicit(&mailbox->waking, memory_order_acquire) > 0)
        (void)sched_yield();
    (void)close(mailbox->watch.fd);
    (void)pthread_mutex_destroy(&mailbox->lock);
    mem_free(mailbox);
    return NULL;
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    ASSERT(mail->deliver != NULL);
    mail->next = NULL;
    (void)pthread_mutex_lock(&mailbox->lock);
    const bool was_empty = !mailbox->first;
    if (was_empty)
        mailbox->first = mail;
    else
        mailbox->last->next = mail;
    mailbox->last = mail;
    if (was_empty)
        (void)atomic_fetch_add_explicit(&mailbox->waking, 1, memory_order_relaxed);
    (void)pthread_mutex_unlock(&mailbox->lock);
    if (was_empty) {
        const uint64_t one = 1;
        (void)!write(mailbox->watch.fd, &one, sizeof one);
        (void)atomic_fetch_sub_explicit(&mailbox->waking, 1, memory_order_release);
    }
}

void mailbox_wait(struct mailbox *mailbox)
{
    while (!deliver_all(mailbox)) {
        struct pollfd poll_fd = {.fd = mailbox->watch.fd, .events = POLLIN};
        uint64_t count = 0;
        (void)poll(&poll_fd, 1, -1);
        (void)!read(mailbox->watch.fd, &count, sizeof count);
    }
}
