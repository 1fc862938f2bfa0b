/* Rows that were lost with a failed write, though memory keeps what they said.
 *
 * They are written again before anything else that the store takes, because that may rely on them:
 * a queue is dropped because no row names it any more, a cursor passes what another has delivered.
 * What a session has is taken from memory; of what it had, the keys are kept while their deletion
 * is under way. Both go into one record, so that what one row hands to another is in neither moment
 * in none.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

/* What a session has to write again. */
struct lost {
    struct list node; /* broker->lost */
    struct session *session;
    struct txn deletes;
};

/* A write under way. */
struct attempt {
    uint64_t number; /* of the session */
    core_write_fn *done;
    void *data;
    struct txn deletes;
};

void lost_mark(struct broker *broker, struct session *session)
{
    if (!session->durable)
        return;
    progress_soon(broker);
    if (session->lost)
        return;
    session->lost = mem_new(sizeof *session->lost);
    session->lost->session = session;
    list_push_back(&broker->lost, &session->lost->node);
}

void lost_forget(struct session *session)
{
    struct lost *lost = TAKE(session->lost);
    if (!lost)
        return;
    list_remove(&lost->node);
    txn_done(&lost->deletes);
    mem_free(lost);
}

/* The rows of a session that has ended meanwhile belong to nobody. */
static void attempt_failed(struct broker *broker, struct attempt *attempt)
{
    struct session *session = session_by_number(broker, attempt->number);
    if (!session)
        return;
    lost_mark(broker, session);
    if (session->lost)
        txn_copy(&session->lost->deletes, &attempt->deletes);
}

static void attempt_free(struct attempt *attempt)
{
    txn_done(&attempt->deletes);
    mem_free(attempt);
}

static void attempt_done(struct broker *broker, void *data, int err)
{
    struct attempt *attempt = data;
    if (err < 0)
        attempt_failed(broker, attempt);
    if (attempt->done)
        attempt->done(broker, attempt->data, err);
    attempt_free(attempt);
}

static void copy_deletes(struct txn *to, struct txn *from)
{
    const struct meta_op *ops = txn_ops(from);
    for (uint32_t i = 0; i < from->count; i++) {
        if (ops[i].kind != META_DELETE)
            continue;
        txn_begin(to, META_DELETE);
        txn_bytes(to, ops[i].key);
    }
}

int lost_write(struct session *session, uint8_t level, core_write_fn *done, void *data)
{
    struct broker *broker = session->broker;
    struct attempt *attempt = mem_new(sizeof *attempt);
    attempt->number = session->number;
    attempt->done = done;
    attempt->data = data;
    copy_deletes(&attempt->deletes, &broker->txn);
    const int err = core_write(broker, level, attempt_done, attempt);
    if (err < 0) {
        attempt_failed(broker, attempt);
        attempt_free(attempt);
    }
    return err;
}

/* --- again ---------------------------------------------------------------------------------- */

static void put_sub(struct txn *txn, const struct sub *sub)
{
    row_put_sub(txn, sub);
    if (sub->group) {
        row_put_group(txn, sub->group);
        row_put_cursor(txn, &sub->group->cursor);
    } else if (sub_reads_queue(sub)) {
        row_put_cursor(txn, &sub->cursor);
    }
}

/* A QoS 2 delivery that no cursor knows any more has nothing but its row. */
static void put_inflight(struct txn *txn, const struct session *session)
{
    list_each (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (inflight->state == INFLIGHT_STORING && !inflight->cursor)
            inflight_put_row(txn, inflight);
    }
}

/* Returns 0, or why the store takes nothing: then it is still to be done. */
static int write_again(struct session *session)
{
    struct txn *txn = &session->broker->txn;
    txn_copy(txn, &session->lost->deletes);
    lost_forget(session);
    row_put_session(txn, session);
    row_put_cursor(txn, &session->direct); /* as far as its retained messages have got */
    put_inflight(txn, session);
    int err = 0;
    list_each (it, &session->subs) {
        put_sub(txn, CONTAINER_OF(it, struct sub, session_node));
        if (err == 0 && txn_is_large(txn))
            err = lost_write(session, STORE_LAZY, NULL, NULL);
    }
    if (err == 0 && txn->count > 0)
        err = lost_write(session, STORE_LAZY, NULL, NULL);
    txn_clear(txn);
    return err;
}

bool lost_retry(struct broker *broker)
{
    if (broker->retrying || (list_empty(&broker->lost) && list_empty(&broker->removed)))
        return true;
    struct txn kept = broker->txn;
    broker->txn = (struct txn){.parts = NULL};
    broker->retrying = true;
    bool written = sessions_remove_again(broker);
    const struct lost *lost;
    while (written && (lost = LIST_FIRST(&broker->lost, struct lost, node)))
        written = write_again(lost->session) == 0;
    broker->retrying = false;
    txn_done(&broker->txn);
    broker->txn = kept;
    return written;
}
