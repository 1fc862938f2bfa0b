/* A change makes a record anew, as it will be, and puts it in place of the one before when its row
 * is on disk. Whoever asked waits in a struct pending meanwhile. */
#include "auth/registry.h"

#include "auth/registry_rows.h"
#include "base/mem.h"
#include "net/certificate_check.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CODE_NAME "code"

struct code {
    struct record record;
    struct slice text; /* owned */
};

struct registry {
    struct records cas, certificates, codes;
    registry_clock_fn *now_ms;
    void *clock_data;
    registry_watch_fn *watch;
    void *watch_data;
    registry_authorities_fn *authorities_watch;
    void *authorities_data;
    struct tls_authorities authorities;
    struct slice ders[REGISTRY_CAS_MAX]; /* of the authorities; borrowed from the CAs */
};

/* Who asked for a change. */
struct pending {
    registry_done_fn *done;
    void *data;
    struct slice sn; /* owned */
};

const char *registry_state_text(enum registry_state state)
{
    static const char *const texts[] = {
        [REGISTRY_ACTIVE] = "ACTIVE",
        [REGISTRY_INACTIVE] = "INACTIVE",
        [REGISTRY_REVOKED] = "REVOKED",
        [REGISTRY_PENDING] = "PENDING_ACTIVATION",
    };
    ASSERT(state >= REGISTRY_ACTIVE && state <= REGISTRY_PENDING);
    return texts[state];
}

/* --- the three kinds of records ------------------------------------------------------------------
 */

static struct registry_ca *ca_of(struct record *record)
{
    return record ? CONTAINER_OF(record, struct registry_ca, record) : NULL;
}

static struct registry_certificate *certificate_of(struct record *record)
{
    return record ? CONTAINER_OF(record, struct registry_certificate, record) : NULL;
}

static void free_ca(struct record *record)
{
    struct registry_ca *ca = ca_of(record);
    (void)certificate_free(ca->certificate);
    (void)certificate_free(ca->verification);
    mem_free(ca);
}

static int decode_ca(void *owner, struct slice value, struct record **ret_record)
{
    struct registry_ca *ca = mem_new(sizeof *ca);
    (void)owner;
    const int err = registry_read_ca(value, ca);
    if (err < 0) {
        free_ca(&ca->record);
        return err;
    }
    *ret_record = &ca->record;
    return 0;
}

static void list_authorities(struct registry *registry)
{
    struct tls_authorities *list = &registry->authorities;
    list->ders = registry->ders;
    list->count = 0;
    const struct registry_ca *ca = registry_ca_above(registry, slice_of("", 0));
    for (; ca; ca = registry_ca_above(registry, ca->record.name)) {
        if (ca->state != REGISTRY_ACTIVE)
            continue;
        ASSERT(list->count < REGISTRY_CAS_MAX);
        registry->ders[list->count++] =
            slice_of(buf_bytes(ca->certificate->der), buf_size(ca->certificate->der));
    }
}

static void on_ca_changed(void *owner, struct record *before, struct record *after)
{
    struct registry *registry = owner;
    const struct registry_ca *was = ca_of(before);
    struct registry_ca *is = ca_of(after);
    if (was && is)
        is->device_count = was->device_count;
    list_authorities(registry);
    if (registry->authorities_watch)
        registry->authorities_watch(registry->authorities_data);
    if (was && (!is || is->state != REGISTRY_ACTIVE) && registry->watch)
        registry->watch(registry->watch_data, slice_of("", 0));
}

static void free_certificate(struct record *record)
{
    struct registry_certificate *certificate = certificate_of(record);
    slice_done(&certificate->ca_sn);
    slice_done(&certificate->client_id);
    slice_done(&certificate->common_name);
    slice_done(&certificate->unit);
    slice_done(&certificate->der);
    mem_free(certificate);
}

static int decode_certificate(void *owner, struct slice value, struct record **ret_record)
{
    struct registry_certificate *certificate = mem_new(sizeof *certificate);
    (void)owner;
    const int err = registry_read(value, certificate);
    if (err < 0) {
        free_certificate(&certificate->record);
        return err;
    }
    *ret_record = &certificate->record;
    return 0;
}

static void count_device(struct registry *registry, struct slice ca_sn, uint64_t more)
{
    struct registry_ca *ca = ca_of(records_find(&registry->cas, ca_sn));
    if (ca)
        ca->device_count += more;
}

static void on_certificate_changed(void *owner, struct record *before, struct record *after)
{
    struct registry *registry = owner;
    const struct registry_certificate *was = certificate_of(before), *is = certificate_of(after);
    if (was)
        count_device(registry, was->ca_sn, UINT64_MAX); /* one less */
    if (is)
        count_device(registry, is->ca_sn, 1);
    if (was && (!is || is->state != REGISTRY_ACTIVE) && registry->watch)
        registry->watch(registry->watch_data, was->record.name);
}

static void free_code(struct record *record)
{
    struct code *code = CONTAINER_OF(record, struct code, record);
    slice_done(&code->text);
    mem_free(code);
}

static int decode_code(void *owner, struct slice value, struct record **ret_record)
{
    struct code *code = mem_new(sizeof *code);
    (void)owner;
    const int err = slice_keep(value, &code->text);
    if (err < 0) {
        free_code(&code->record);
        return err;
    }
    *ret_record = &code->record;
    return 0;
}

static const struct record_kind ca_kind = {
    .row = 'K', .decode = decode_ca, .free = free_ca, .on_changed = on_ca_changed};
static const struct record_kind certificate_kind = {.row = 'X',
                                                    .decode = decode_certificate,
                                                    .free = free_certificate,
                                                    .on_changed = on_certificate_changed};
static const struct record_kind code_kind = {.row = 'Y', .decode = decode_code, .free = free_code};

/* --- what is there
 * --------------------------------------------------------------------------------
 */

void registry_watch(struct registry *registry, registry_watch_fn *watch, void *data)
{
    registry->watch = watch;
    registry->watch_data = data;
}

void registry_watch_authorities(struct registry *registry, registry_authorities_fn *watch,
                                void *data)
{
    registry->authorities_watch = watch;
    registry->authorities_data = data;
}

const struct tls_authorities *registry_authorities(const struct registry *registry)
{
    return &registry->authorities;
}

char *registry_pem(struct slice der)
{
    return certificate_write_pem(der);
}

char *registry_issuer_of(const struct registry_ca *ca)
{
    return certificate_issuer_name(ca->certificate);
}

struct slice registry_code(const struct registry *registry)
{
    const struct record *record = records_find(&registry->codes, slice_str(CODE_NAME));
    return record ? CONTAINER_OF(record, struct code, record)->text : slice_of("", 0);
}

uint64_t registry_ca_count(const struct registry *registry)
{
    return registry->cas.count;
}

uint64_t registry_certificate_count(const struct registry *registry)
{
    return registry->certificates.count;
}

const struct registry_ca *registry_find_ca(const struct registry *registry, struct slice sn)
{
    return ca_of(records_find(&registry->cas, sn));
}

const struct registry_ca *registry_ca_above(const struct registry *registry, struct slice sn)
{
    return ca_of(records_above(&registry->cas, sn));
}

const struct registry_certificate *registry_find(const struct registry *registry, struct slice sn)
{
    return certificate_of(records_find(&registry->certificates, sn));
}

const struct registry_certificate *registry_above(const struct registry *registry, struct slice sn)
{
    return certificate_of(records_above(&registry->certificates, sn));
}

bool registry_is_active(const struct registry *registry,
                        const struct registry_certificate *certificate)
{
    if (!certificate || certificate->state != REGISTRY_ACTIVE)
        return false;
    const struct registry_ca *ca = registry_find_ca(registry, certificate->ca_sn);
    return ca && ca->state == REGISTRY_ACTIVE;
}

/* --- answers
 * --------------------------------------------------------------------------------------
 */

/* Takes pending over. */
static void tell(struct pending *pending, enum registry_outcome outcome, const char *detail)
{
    const struct registry_result result = {.outcome = outcome, .detail = detail, .sn = pending->sn};
    pending->done(pending->data, &result);
    slice_done(&pending->sn);
    mem_free(pending);
}

static void on_stored(void *data, int err)
{
    tell(data, err < 0 ? REGISTRY_FAILED : REGISTRY_DONE, err < 0 ? err_text(err) : "");
}

/* After a submit; takes pending over when that has failed. */
static void end_submit(struct pending *pending, int err)
{
    if (err == ERR_AGAIN)
        tell(pending, REGISTRY_BUSY, "another change of it is under way; try again");
    else if (err == ERR_FULL)
        tell(pending, REGISTRY_FULL, "the disk is busy; try again");
    else if (err < 0)
        tell(pending, REGISTRY_FAILED, err_text(err));
}

/* Without a number when memory is short; then the store says so as well. */
static struct pending *pending_new(struct slice sn, registry_done_fn *done, void *data)
{
    struct pending *pending = mem_new(sizeof *pending);
    *pending = (struct pending){.done = done, .data = data};
    if (slice_keep(sn, &pending->sn) < 0)
        pending->sn = slice_of("", 0);
    return pending;
}

static uint64_t now_of(const struct registry *registry)
{
    return registry->now_ms(registry->clock_data);
}

static void set_state(enum registry_state *state, struct registry_times *times, uint64_t now_ms,
                      enum registry_state fresh)
{
    times->changed_ms = now_ms;
    if (times->created_ms == 0)
        times->created_ms = now_ms;
    if (fresh == REGISTRY_ACTIVE && *state != fresh)
        times->activated_ms = now_ms;
    else if (fresh != REGISTRY_PENDING && *state != fresh)
        times->deactivated_ms = now_ms;
    *state = fresh;
}

/* --- the registration code
 * ------------------------------------------------------------------------
 */

void registry_make_code(struct registry *registry, registry_done_fn *done, void *data)
{
    uint8_t random[REGISTRY_CODE_SIZE / 2];
    char text[REGISTRY_CODE_SIZE + 1];
    struct pending *pending = pending_new(slice_of("", 0), done, data);
    struct code *code = mem_new(sizeof *code);
    randombytes_buf(random, sizeof random);
    (void)sodium_bin2hex(text, sizeof text, random, sizeof random);
    int err = slice_keep(slice_str(text), &code->text);
    if (err == 0)
        err = record_name(&code->record, slice_str(CODE_NAME));
    if (err < 0)
        (void)record_free(&code_kind, &code->record);
    else
        err =
            records_put_take(&registry->codes, &code->record, slice_str(text), on_stored, pending);
    end_submit(pending, err);
}

/* --- CAs
 * ------------------------------------------------------------------------------------------
 */

/* Takes the CA over. */
static void put_ca(struct registry *registry, struct registry_ca *ca, struct pending *pending)
{
    struct buf *row = registry_row_of_ca(ca);
    int err = ERR_NOMEM;
    if (row)
        err = records_put_take(&registry->cas, &ca->record, slice_of(buf_bytes(row), buf_size(row)),
                               on_stored, pending);
    else
        (void)record_free(&ca_kind, &ca->record);
    (void)buf_unref(row);
    end_submit(pending, err);
}

/* Whether the two certificates prove that who sends them owns the CA's key. */
static enum registry_outcome judge_ca(const struct registry *registry, const struct registry_ca *ca,
                                      const char **ret_detail)
{
    const struct slice code = registry_code(registry);
    const char *name = ca->verification->subject.common_name;
    if (!certificate_is_ca(ca->certificate)) {
        *ret_detail = "it is not the certificate of a CA (basic constraints: CA:TRUE)";
        return REGISTRY_BAD_VALUE;
    }
    const int64_t now_s = (int64_t)(now_of(registry) / 1000);
    if (now_s < ca->certificate->not_before_s || now_s > ca->certificate->not_after_s) {
        *ret_detail = "the CA's certificate has expired, or is not valid yet";
        return REGISTRY_UNVERIFIED;
    }
    if (code.size == 0) {
        *ret_detail = "there is no registration code: apply for one first";
        return REGISTRY_NO_CODE;
    }
    if (!name || !slice_equal(slice_str(name), code)) {
        *ret_detail =
            "the common name of the verification certificate is not the registration code";
        return REGISTRY_WRONG_CODE;
    }
    *ret_detail = certificate_complaint(ca->verification, ca->certificate);
    return *ret_detail ? REGISTRY_WRONG_SIGNATURE : REGISTRY_DONE;
}

static enum registry_outcome read_ca(struct slice pem, struct slice verification_pem,
                                     struct registry_ca *ca, const char **ret_detail)
{
    *ret_detail = "the CA's certificate is not one certificate in PEM";
    if (certificate_read_pem(pem, &ca->certificate) < 0 || !*ca->certificate->serial ||
        record_name(&ca->record, slice_str(ca->certificate->serial)) < 0)
        return REGISTRY_BAD_VALUE;
    *ret_detail = "the verification certificate is not one certificate in PEM";
    if (certificate_read_pem(verification_pem, &ca->verification) < 0)
        return REGISTRY_BAD_VALUE;
    return REGISTRY_DONE;
}

void registry_add_ca(struct registry *registry, struct slice pem, struct slice verification_pem,
                     enum registry_state state, registry_done_fn *done, void *data)
{
    struct registry_ca *ca = mem_new(sizeof *ca);
    const char *detail = "";
    enum registry_outcome outcome = read_ca(pem, verification_pem, ca, &detail);
    if (outcome == REGISTRY_DONE)
        outcome = judge_ca(registry, ca, &detail);
    if (outcome == REGISTRY_DONE && registry_find_ca(registry, ca->record.name)) {
        outcome = REGISTRY_EXISTS;
        detail = "a CA of this serial number is registered already";
    }
    if (outcome == REGISTRY_DONE && registry->cas.count >= REGISTRY_CAS_MAX) {
        outcome = REGISTRY_FULL;
        detail = "there are 32 CAs already: delete one that is not needed";
    }
    struct pending *pending = pending_new(ca->record.name, done, data);
    if (outcome != REGISTRY_DONE) {
        tell(pending, outcome, detail);
        (void)record_free(&ca_kind, &ca->record);
        return;
    }
    set_state(&ca->state, &ca->times, now_of(registry), state);
    put_ca(registry, ca, pending);
}

/* The same again, for a change; NULL when out of memory. */
static struct registry_ca *copy_ca(const struct registry_ca *ca)
{
    const struct slice ders[] = {
        slice_of(buf_bytes(ca->certificate->der), buf_size(ca->certificate->der)),
        slice_of(buf_bytes(ca->verification->der), buf_size(ca->verification->der)),
    };
    struct registry_ca *copy = mem_new(sizeof *copy);
    copy->state = ca->state;
    copy->times = ca->times;
    if (record_name(&copy->record, ca->record.name) == 0 &&
        certificate_parse(&ders[0], 1, &copy->certificate) == 0 &&
        certificate_parse(&ders[1], 1, &copy->verification) == 0)
        return copy;
    (void)record_free(&ca_kind, &copy->record);
    return NULL;
}

#define NO_CA_TEXT          "no CA of this serial number is registered"
#define NO_CERTIFICATE_TEXT "no certificate of this serial number is registered"
#define BUSY_TEXT           "another change of it is under way; try again"

void registry_set_ca(struct registry *registry, struct slice sn, enum registry_state state,
                     registry_done_fn *done, void *data)
{
    const struct registry_ca *before = registry_find_ca(registry, sn);
    struct pending *pending = pending_new(sn, done, data);
    if (records_is_changing(&registry->cas, sn)) {
        tell(pending, REGISTRY_BUSY, BUSY_TEXT);
        return;
    }
    if (!before) {
        tell(pending, REGISTRY_NO_CA, NO_CA_TEXT);
        return;
    }
    if (before->state == state) {
        tell(pending, REGISTRY_DONE, "");
        return;
    }
    struct registry_ca *ca = copy_ca(before);
    if (!ca) {
        end_submit(pending, ERR_NOMEM);
        return;
    }
    set_state(&ca->state, &ca->times, now_of(registry), state);
    put_ca(registry, ca, pending);
}

void registry_remove_ca(struct registry *registry, struct slice sn, registry_done_fn *done,
                        void *data)
{
    const struct registry_ca *ca = registry_find_ca(registry, sn);
    struct pending *pending = pending_new(sn, done, data);
    if (!ca)
        tell(pending, REGISTRY_NO_CA, NO_CA_TEXT);
    else if (ca->device_count > 0)
        tell(pending, REGISTRY_IN_USE,
             "certificates that it has signed are registered: delete those first");
    else if (!list_empty(&registry->certificates.changes)) /* perhaps under this CA */
        tell(pending, REGISTRY_BUSY, BUSY_TEXT);
    else
        end_submit(pending, records_remove(&registry->cas, sn, on_stored, pending));
}

/* --- certificates of devices ---------------------------------------------------------------------
 */

/* Takes the certificate over. */
static void put(struct registry *registry, struct registry_certificate *certificate,
                struct pending *pending)
{
    struct buf *row = registry_row_of(certificate);
    int err = ERR_NOMEM;
    if (row)
        err = records_put_take(&registry->certificates, &certificate->record,
                               slice_of(buf_bytes(row), buf_size(row)), on_stored, pending);
    else
        (void)record_free(&certificate_kind, &certificate->record);
    (void)buf_unref(row);
    end_submit(pending, err);
}

static int keep_text(const char *text, struct slice *ret_kept)
{
    return slice_keep(slice_str(text ? text : ""), ret_kept);
}

/* NULL when out of memory. */
static struct registry_certificate *certificate_new(const struct certificate *from,
                                                    struct slice ca_sn, struct slice client_id)
{
    struct registry_certificate *made = mem_new(sizeof *made);
    made->not_before_s = from->not_before_s;
    made->not_after_s = from->not_after_s;
    if (record_name(&made->record, slice_str(from->serial)) == 0 &&
        slice_keep(ca_sn, &made->ca_sn) == 0 && slice_keep(client_id, &made->client_id) == 0 &&
        keep_text(from->subject.common_name, &made->common_name) == 0 &&
        keep_text(from->subject.organizational_unit, &made->unit) == 0 &&
        slice_keep(slice_of(buf_bytes(from->der), buf_size(from->der)), &made->der) == 0)
        return made;
    (void)record_free(&certificate_kind, &made->record);
    return NULL;
}

static struct registry_certificate *copy_of(const struct registry_certificate *it)
{
    struct registry_certificate *copy = mem_new(sizeof *copy);
    copy->state = it->state;
    copy->came_by_itself = it->came_by_itself;
    copy->times = it->times;
    copy->not_before_s = it->not_before_s;
    copy->not_after_s = it->not_after_s;
    if (record_name(&copy->record, it->record.name) == 0 &&
        slice_keep(it->ca_sn, &copy->ca_sn) == 0 &&
        slice_keep(it->client_id, &copy->client_id) == 0 &&
        slice_keep(it->common_name, &copy->common_name) == 0 &&
        slice_keep(it->unit, &copy->unit) == 0 && slice_keep(it->der, &copy->der) == 0)
        return copy;
    (void)record_free(&certificate_kind, &copy->record);
    return NULL;
}

/* What speaks against registering it; ca: who is to have signed it. */
static enum registry_outcome judge(const struct registry *registry,
                                   const struct certificate *certificate,
                                   const struct registry_ca *ca, const char **ret_detail)
{
    if (!*certificate->serial) {
        *ret_detail = "it has no serial number";
        return REGISTRY_BAD_VALUE;
    }
    if (registry_find(registry, slice_str(certificate->serial))) {
        *ret_detail = "a certificate of this serial number is registered already";
        return REGISTRY_EXISTS;
    }
    if (records_is_changing(&registry->cas, ca->record.name)) {
        *ret_detail = BUSY_TEXT;
        return REGISTRY_BUSY;
    }
    if (registry->certificates.count >= REGISTRY_CERTIFICATES_MAX) {
        *ret_detail = "there are too many certificates: delete those that are not needed";
        return REGISTRY_FULL;
    }
    *ret_detail = certificate_complaint(certificate, ca->certificate);
    return *ret_detail ? REGISTRY_UNVERIFIED : REGISTRY_DONE;
}

/* Judged already. */
static void take(struct registry *registry, struct registry_certificate *made,
                 enum registry_state state, struct pending *pending)
{
    if (!made) {
        end_submit(pending, ERR_NOMEM);
        return;
    }
    set_state(&made->state, &made->times, now_of(registry), state);
    put(registry, made, pending);
}

static enum registry_outcome read_wish(const struct registry *registry,
                                       const struct registry_wish *wish,
                                       struct certificate **ret_certificate,
                                       const char **ret_detail)
{
    const struct registry_ca *ca = registry_find_ca(registry, wish->ca_sn);
    *ret_detail = NO_CA_TEXT;
    if (!ca)
        return REGISTRY_NO_CA;
    *ret_detail = "a client ID is at most 256 bytes without control characters";
    if (wish->client_id.size > 0 && !record_name_is_sound(wish->client_id))
        return REGISTRY_BAD_VALUE;
    *ret_detail = "the certificate is not one certificate in PEM";
    if (certificate_read_pem(wish->pem, ret_certificate) < 0)
        return REGISTRY_BAD_VALUE;
    return judge(registry, *ret_certificate, ca, ret_detail);
}

void registry_add(struct registry *registry, const struct registry_wish *wish,
                  registry_done_fn *done, void *data)
{
    struct certificate *certificate = NULL;
    const char *detail = "";
    const enum registry_outcome outcome = read_wish(registry, wish, &certificate, &detail);
    struct pending *pending =
        pending_new(slice_str(certificate ? certificate->serial : ""), done, data);
    if (outcome == REGISTRY_DONE)
        take(registry, certificate_new(certificate, wish->ca_sn, wish->client_id), wish->state,
             pending);
    else
        tell(pending, outcome, detail);
    (void)certificate_free(certificate);
}

/* NULL: none of those that are active. */
static const struct registry_ca *signer_of(const struct registry *registry,
                                           const struct certificate *certificate)
{
    const struct registry_ca *ca = registry_ca_above(registry, slice_of("", 0));
    while (ca && (ca->state != REGISTRY_ACTIVE ||
                  certificate_complaint(certificate, ca->certificate) != NULL))
        ca = registry_ca_above(registry, ca->record.name);
    return ca;
}

void registry_enrol(struct registry *registry, const struct certificate *certificate,
                    struct slice client_id, enum registry_state state, registry_done_fn *done,
                    void *data)
{
    const struct registry_ca *ca = signer_of(registry, certificate);
    const char *detail = "no registered CA that is active has signed it";
    enum registry_outcome outcome = REGISTRY_NO_CA;
    if (ca)
        outcome = judge(registry, certificate, ca, &detail);
    if (outcome == REGISTRY_DONE && !record_name_is_sound(client_id)) {
        outcome = REGISTRY_BAD_VALUE;
        detail = "it came with a client ID that no certificate can be bound to";
    }
    struct pending *pending = pending_new(slice_str(certificate->serial), done, data);
    if (outcome != REGISTRY_DONE) {
        tell(pending, outcome, detail);
        return;
    }
    struct registry_certificate *made = certificate_new(certificate, ca->record.name, client_id);
    if (made)
        made->came_by_itself = true;
    take(registry, made, state, pending);
}

/* Finds what is to be changed and makes a copy; NULL: pending has been told. */
static struct registry_certificate *begin_change(struct registry *registry, struct slice sn,
                                                 struct pending *pending)
{
    const struct registry_certificate *before = registry_find(registry, sn);
    if (records_is_changing(&registry->certificates, sn)) {
        tell(pending, REGISTRY_BUSY, BUSY_TEXT);
        return NULL;
    }
    if (!before) {
        tell(pending, REGISTRY_NO_CERTIFICATE, NO_CERTIFICATE_TEXT);
        return NULL;
    }
    struct registry_certificate *copy = copy_of(before);
    if (!copy)
        end_submit(pending, ERR_NOMEM);
    return copy;
}

void registry_bind(struct registry *registry, struct slice sn, struct slice client_id,
                   registry_done_fn *done, void *data)
{
    struct pending *pending = pending_new(sn, done, data);
    if (!record_name_is_sound(client_id)) {
        tell(pending, REGISTRY_BAD_VALUE,
             "it came with a client ID that no certificate can be bound to");
        return;
    }
    struct registry_certificate *made = begin_change(registry, sn, pending);
    if (!made)
        return;
    ASSERT(made->client_id.size == 0);
    if (slice_keep(client_id, &made->client_id) < 0) {
        (void)record_free(&certificate_kind, &made->record);
        end_submit(pending, ERR_NOMEM);
        return;
    }
    made->times.changed_ms = now_of(registry);
    put(registry, made, pending);
}

void registry_set(struct registry *registry, struct slice sn, enum registry_state state,
                  registry_done_fn *done, void *data)
{
    struct pending *pending = pending_new(sn, done, data);
    struct registry_certificate *made = begin_change(registry, sn, pending);
    if (!made)
        return;
    const enum registry_state before = made->state;
    if (before != state && before != REGISTRY_REVOKED) {
        set_state(&made->state, &made->times, now_of(registry), state);
        put(registry, made, pending);
        return;
    }
    (void)record_free(&certificate_kind, &made->record);
    if (before == state)
        tell(pending, REGISTRY_DONE, "");
    else
        tell(pending, REGISTRY_IS_REVOKED,
             "the certificate is revoked for good: give the device a new one");
}

void registry_remove(struct registry *registry, struct slice sn, registry_done_fn *done, void *data)
{
    struct pending *pending = pending_new(sn, done, data);
    const int err = records_remove(&registry->certificates, sn, on_stored, pending);
    if (err == ERR_NOTFOUND)
        tell(pending, REGISTRY_NO_CERTIFICATE, NO_CERTIFICATE_TEXT);
    else
        end_submit(pending, err);
}

/* --- life
 * -----------------------------------------------------------------------------------------
 */

static int read_all(struct registry *registry, struct store *store, struct meta *meta)
{
    int err = sodium_init() < 0 ? ERR_UNAVAILABLE : 0;
    if (err == 0)
        err = records_init(&registry->codes, &code_kind, registry, store, meta);
    if (err == 0)
        err = records_init(&registry->cas, &ca_kind, registry, store, meta);
    if (err == 0)
        err = records_init(&registry->certificates, &certificate_kind, registry, store, meta);
    if (err == 0 && registry->cas.count > REGISTRY_CAS_MAX)
        err = ERR_CORRUPT;
    return err;
}

int registry_open(struct store *store, struct meta *meta, registry_clock_fn *now_ms,
                  void *clock_data, struct registry **ret_registry, struct errmsg *reterr)
{
    struct registry *registry = mem_new(sizeof *registry);
    registry->now_ms = now_ms;
    registry->clock_data = clock_data;
    const int err = read_all(registry, store, meta);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read the registry of certificates: %s", err_text(err));
        (void)registry_close(registry);
        return err;
    }
    const struct registry_certificate *it = registry_above(registry, slice_of("", 0));
    for (; it; it = registry_above(registry, it->record.name))
        count_device(registry, it->ca_sn, 1);
    list_authorities(registry);
    *ret_registry = registry;
    return 0;
}

struct registry *registry_close(struct registry *registry)
{
    if (registry) {
        records_done(&registry->codes);
        records_done(&registry->cas);
        records_done(&registry->certificates);
        mem_free(registry);
    }
    return NULL;
}
