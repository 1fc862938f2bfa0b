#include "broker/stored_rules.h"

#include "auth/rule_text.h"
#include "base/mem.h"
#include "broker/rows.h"

#include <inttypes.h>

#define BUSY_TEXT "another change of policies or block rules is being stored; try again"

/* What is under way. */
struct rule_change {
    stored_done_fn *done;
    void *data;
    struct policies policies; /* owned; to be put, or none */
    struct block *block;      /* owned; likewise, or NULL */
    uint64_t remove_id;
    struct slice remove_name; /* owned */
};

static void change_free(struct rule_change *change)
{
    policies_done(&change->policies);
    (void)block_free(change->block);
    core_free(&change->remove_name);
    mem_free(change);
}

static void change_apply(struct broker *broker, struct rule_change *change)
{
    struct rulebook *rulebook = broker->deps.rulebook;
    if (change->policies.count > 0)
        rulebook_put_policies(rulebook, &change->policies);
    else if (change->block)
        rulebook_put_block(rulebook, TAKE(change->block));
    else if (change->remove_id)
        rulebook_remove_policy(rulebook, change->remove_id);
    else
        rulebook_remove_block(rulebook, change->remove_name);
    stored_blocks_watch(broker);
}

static void change_done(struct broker *broker, void *data, int err)
{
    struct rule_change *change = data;
    const bool put = err == 0 && change->policies.count > 0;
    const uint64_t id = put ? change->policies.items[0]->id : 0;
    broker->rule_change = NULL;
    if (err == 0)
        change_apply(broker, change);
    change->done(change->data, err, err < 0 ? err_text(err) : NULL, id);
    change_free(change);
}

/* Submits what broker->txn holds; takes the change. */
static void change_submit(struct broker *broker, struct rule_change *change)
{
    const int err = core_write(broker, STORE_SYNC, change_done, change);
    if (err < 0)
        change_done(broker, change, err);
    else
        broker->rule_change = change;
}

static struct rule_change *change_new(stored_done_fn *done, void *data)
{
    struct rule_change *change = mem_new(sizeof *change);
    change->done = done;
    change->data = data;
    change->remove_name = slice_of("", 0);
    return change;
}

/* Nothing was changed; frees what the change has. */
static void change_refuse(struct rule_change *change, int err, const char *detail)
{
    change->done(change->data, err, detail && detail[0] ? detail : err_text(err), 0);
    change_free(change);
}

/* --- policies -----------------------------------------------------------------------------------
 */

static void policy_key(struct txn *txn, enum meta_kind kind, uint64_t id)
{
    txn_begin(txn, kind);
    txn_u8(txn, ROW_POLICY);
    txn_be64(txn, id);
}

static int policy_row(struct broker *broker, const struct rule *rule)
{
    struct strbuf text;
    strbuf_init(&text, META_VALUE_MAX);
    int err = rule_text_write(rule, &text);
    if (err == 0)
        err = txn_reserve(&broker->txn, TXN_ROW_ROOM + text.size);
    if (err == 0) {
        policy_key(&broker->txn, META_PUT, rule->id);
        txn_value(&broker->txn);
        txn_bytes(&broker->txn, slice_of(text.text, text.size));
    }
    strbuf_done(&text);
    return err;
}

static int policy_prepare(struct broker *broker, struct rule *rule, struct errmsg *why)
{
    const struct rule *before = rule->id ? rulebook_policy(broker->deps.rulebook, rule->id) : NULL;
    if (broker->rule_change) {
        errmsg_wrap(why, BUSY_TEXT);
        return ERR_AGAIN;
    }
    if (rule->id && !before) {
        errmsg_wrap(why, "there is no policy of this id");
        return ERR_NOTFOUND;
    }
    const int err = rulebook_check_policy(broker->deps.rulebook, rule, why);
    if (err < 0)
        return err;
    rule->updated_ms = core_wall_ms(broker);
    rule->created_ms = before ? before->created_ms : rule->updated_ms;
    if (!before)
        rule->id = core_new_number(broker);
    return rule->id ? 0 : ERR_UNAVAILABLE;
}

void stored_policy_put(struct broker *broker, struct rule *rule, stored_done_fn *done, void *data)
{
    struct rule_change *change = change_new(done, data);
    struct errmsg why = {0};
    int err = policies_add(&change->policies, rule, NULL);
    ASSERT(err == 0);
    err = policy_prepare(broker, rule, &why);
    if (err == 0)
        err = policy_row(broker, rule);
    if (err < 0)
        change_refuse(change, err, why.text);
    else
        change_submit(broker, change);
}

/* Adds the policy of an id as it will be. */
static int order_add(struct broker *broker, struct policies *changed,
                     const struct policy_priority *wanted, struct errmsg *why)
{
    const struct rule *before = rulebook_policy(broker->deps.rulebook, wanted->id);
    struct rule *rule = NULL;
    if (!before) {
        errmsg_wrap(why, "there is no policy of the id %" PRIu64, wanted->id);
        return ERR_NOTFOUND;
    }
    for (size_t i = 0; i < changed->count; i++) {
        if (changed->items[i]->id == wanted->id) {
            errmsg_wrap(why, "the id %" PRIu64 " stands in the list twice", wanted->id);
            return ERR_EXISTS;
        }
    }
    int err = rule_with_priority(before, wanted->priority, &rule, why);
    if (err < 0)
        return err;
    rule->updated_ms = core_wall_ms(broker);
    err = policies_add(changed, rule, why);
    if (err < 0)
        (void)rule_free(rule);
    return err;
}

/* The rows of all; none is left in the transaction when it fails. */
static int order_rows(struct broker *broker, const struct policies *changed, struct errmsg *why)
{
    int err = 0;
    for (size_t i = 0; i < changed->count && err == 0; i++) {
        err = policy_row(broker, changed->items[i]);
        if (err == 0 && broker->txn.size > META_VALUE_MAX) {
            errmsg_wrap(why, "these policies are too large to be changed at once; name fewer");
            err = ERR_FULL;
        }
    }
    if (err < 0)
        txn_clear(&broker->txn);
    return err;
}

void stored_policies_order(struct broker *broker, const struct policy_priority *priorities,
                           size_t count, stored_done_fn *done, void *data)
{
    struct rule_change *change = change_new(done, data);
    struct errmsg why = {0};
    ASSERT(count > 0);
    int err = broker->rule_change ? ERR_AGAIN : 0;
    if (err < 0)
        errmsg_wrap(&why, BUSY_TEXT);
    for (size_t i = 0; i < count && err == 0; i++)
        err = order_add(broker, &change->policies, &priorities[i], &why);
    if (err == 0)
        err = rulebook_check_policies(broker->deps.rulebook, &change->policies, &why);
    if (err == 0)
        err = order_rows(broker, &change->policies, &why);
    if (err < 0)
        change_refuse(change, err, why.text);
    else
        change_submit(broker, change);
}

void stored_policy_remove(struct broker *broker, uint64_t id, stored_done_fn *done, void *data)
{
    struct rule_change *change = change_new(done, data);
    if (broker->rule_change) {
        change_refuse(change, ERR_AGAIN, BUSY_TEXT);
        return;
    }
    if (!rulebook_policy(broker->deps.rulebook, id)) {
        change_refuse(change, ERR_NOTFOUND, "there is no policy of this id");
        return;
    }
    change->remove_id = id;
    policy_key(&broker->txn, META_DELETE, id);
    change_submit(broker, change);
}

/* --- block rules --------------------------------------------------------------------------------
 */

static void block_key(struct txn *txn, enum meta_kind kind, struct slice name)
{
    txn_begin(txn, kind);
    txn_u8(txn, ROW_BLOCK);
    txn_bytes(txn, name);
}

static int block_prepare(struct broker *broker, struct block *block, bool is_new,
                         struct errmsg *why)
{
    const struct block *before = rulebook_block(broker->deps.rulebook, slice_str(block->name));
    if (broker->rule_change) {
        errmsg_wrap(why, BUSY_TEXT);
        return ERR_AGAIN;
    }
    /* One that has expired and is not removed yet does not count. */
    is_new &= !before || !block_expired(before, core_wall_ms(broker));
    const int err = rulebook_check_block(broker->deps.rulebook, block, is_new, why);
    block->updated_ms = core_wall_ms(broker);
    block->created_ms = before ? before->created_ms : block->updated_ms;
    return err;
}

void stored_block_put(struct broker *broker, struct block *block, bool is_new, stored_done_fn *done,
                      void *data)
{
    struct rule_change *change = change_new(done, data);
    struct errmsg why = {0};
    struct strbuf text;
    change->block = block;
    strbuf_init(&text, META_VALUE_MAX);
    int err = block_prepare(broker, block, is_new, &why);
    if (err == 0)
        err = block_text_write(block, &text);
    if (err == 0)
        err = txn_reserve(&broker->txn, TXN_ROW_ROOM + text.size);
    if (err < 0) {
        change_refuse(change, err, why.text);
    } else {
        block_key(&broker->txn, META_PUT, slice_str(block->name));
        txn_value(&broker->txn);
        txn_bytes(&broker->txn, slice_of(text.text, text.size));
        change_submit(broker, change);
    }
    strbuf_done(&text);
}

void stored_block_remove(struct broker *broker, struct slice name, stored_done_fn *done, void *data)
{
    struct rule_change *change = change_new(done, data);
    if (broker->rule_change) {
        change_refuse(change, ERR_AGAIN, BUSY_TEXT);
        return;
    }
    if (!rulebook_block(broker->deps.rulebook, name)) {
        change_refuse(change, ERR_NOTFOUND, "there is no block rule of this name");
        return;
    }
    if (core_copy(name, &change->remove_name) < 0) {
        change_refuse(change, ERR_NOMEM, NULL);
        return;
    }
    block_key(&broker->txn, META_DELETE, change->remove_name);
    change_submit(broker, change);
}

/* Those that have expired go; their rows lazily, since they mean nothing any more. */
static void expiry_due(struct timer *timer)
{
    struct broker *broker = CONTAINER_OF(timer, struct broker, blocks_timer);
    struct rulebook *rulebook = broker->deps.rulebook;
    const uint64_t now_ms = core_wall_ms(broker);
    /* Not while a change is under way, which may be about one of them. */
    while (!broker->rule_change) {
        const struct blocks *stored = rulebook_blocks(rulebook, ORIGIN_STORED);
        size_t i = 0;
        while (i < stored->count && !block_expired(stored->items[i], now_ms))
            i++;
        if (i == stored->count)
            break;
        const struct slice name = slice_str(stored->items[i]->name);
        log_write(broker->deps.log, LOG_INFO, "access", "block rule '%s' has expired",
                  stored->items[i]->name);
        block_key(&broker->txn, META_DELETE, name);
        core_write_lazy(broker);
        rulebook_remove_block(rulebook, name);
    }
    stored_blocks_watch(broker);
}

#define EXPIRY_WAIT_MAX_MS UINT64_C(3600000) /* the wall clock may be set meanwhile */

void stored_blocks_watch(struct broker *broker)
{
    const struct blocks *stored = rulebook_blocks(broker->deps.rulebook, ORIGIN_STORED);
    const uint64_t now_ms = core_wall_ms(broker);
    uint64_t wait_ms = UINT64_MAX;
    for (size_t i = 0; i < stored->count; i++) {
        const uint64_t expire_ms = stored->items[i]->expire_ms;
        if (expire_ms > 0)
            wait_ms = MIN(wait_ms, expire_ms > now_ms ? expire_ms - now_ms : 1000);
    }
    broker->blocks_timer.on_due = expiry_due;
    if (wait_ms < UINT64_MAX)
        timer_start(broker->deps.timers, &broker->blocks_timer, MIN(wait_ms, EXPIRY_WAIT_MAX_MS));
    else
        timer_stop(broker->deps.timers, &broker->blocks_timer);
}

/* --- recovery -----------------------------------------------------------------------------------
 */

static int recover_policy(void *data, struct slice key, struct slice value)
{
    struct broker *broker = data;
    struct rule *rule = NULL;
    struct row_reader reader = {.rest = slice_of(key.bytes + 1, key.size - 1)};
    const uint64_t id = row_be64(&reader);
    int err = reader.bad ? ERR_CORRUPT : rule_text_read(value, &rule, NULL);
    if (err == 0 && rule->id != id)
        err = ERR_CORRUPT;
    if (err == 0)
        err = rulebook_check_policy(broker->deps.rulebook, rule, NULL);
    if (err < 0) {
        (void)rule_free(rule);
        return err == ERR_NOMEM ? err : ERR_CORRUPT;
    }
    rulebook_put_policy(broker->deps.rulebook, rule);
    if (id >= broker->next_number) /* the reservation was lost with a failed write */
        broker->next_number = broker->number_limit = id + 1;
    return 0;
}

static int recover_block(void *data, struct slice key, struct slice value)
{
    struct broker *broker = data;
    struct block *block = NULL;
    const struct slice name = slice_of(key.bytes + 1, key.size - 1);
    int err = block_text_read(value, &block, NULL);
    if (err == 0 && !slice_equal(slice_str(block->name), name))
        err = ERR_CORRUPT;
    if (err == 0)
        err = rulebook_check_block(broker->deps.rulebook, block, true, NULL);
    if (err < 0) {
        (void)block_free(block);
        return err == ERR_NOMEM ? err : ERR_CORRUPT;
    }
    rulebook_put_block(broker->deps.rulebook, block);
    return 0;
}

int stored_rules_recover(struct broker *broker, struct errmsg *reterr)
{
    static const struct {
        uint8_t kind;
        meta_scan_fn *each;
        const char *what;
    } steps[] = {{ROW_POLICY, recover_policy, "policies"},
                 {ROW_BLOCK, recover_block, "block rules"}};
    if (!broker->deps.rulebook)
        return 0;
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        const int err =
            meta_scan(broker->deps.meta, slice_of(&steps[i].kind, 1), steps[i].each, broker);
        if (err < 0) {
            errmsg_wrap(reterr, "could not read the stored %s: %s", steps[i].what, err_text(err));
            return err;
        }
    }
    stored_blocks_watch(broker);
    return 0;
}
