/* Registry: CAs of devices' certificates, and those certificates, each bound to a client ID.
 *
 * A CA is registered by who can sign with its key: a certificate whose common name is the
 * registration code, signed by the CA, comes along. Its devices' certificates are registered one by
 * one, or when a device connects for the first time. Both are known by their serial numbers, in
 * upper case hexadecimal; of two certificates with the same number only the first can be
 * registered.
 *
 * All are kept with the sessions. A change counts when it is on disk; then who watches is told, so
 * that links end and listeners trust other CAs.
 *
 * Rows: `K`, CA's number; `X`, certificate's number; `Y`, "code": the registration code. Numbers
 * are little endian, texts have their size (u32) in front. Thread: the loop's.
 */
#pragma once

#include "auth/records.h"
#include "base/log.h"
#include "net/certificate.h"
#include "net/tls_options.h"

#define REGISTRY_CAS_MAX          32u
#define REGISTRY_CERTIFICATES_MAX 1000000u
#define REGISTRY_CODE_SIZE        32u

struct registry;

enum registry_state {
    REGISTRY_ACTIVE = 1,
    REGISTRY_INACTIVE,
    REGISTRY_REVOKED, /* for good */
    REGISTRY_PENDING, /* came by itself, and waits to be made active */
};
/* "PENDING_ACTIVATION": as the API has it. */
const char *registry_state_text(enum registry_state state);

struct registry_times {
    uint64_t created_ms, changed_ms;
    uint64_t activated_ms, deactivated_ms; /* the last time; 0: never */
};

struct registry_ca {
    struct record record; /* its name is the serial number */
    enum registry_state state;
    struct registry_times times;
    struct certificate *certificate;
    struct certificate *verification; /* that it was registered with */
    uint64_t device_count;            /* registered certificates that it has signed */
};

struct registry_certificate {
    struct record record; /* its name is the serial number */
    enum registry_state state;
    bool came_by_itself; /* registered when it connected first */
    struct registry_times times;
    int64_t not_before_s, not_after_s;
    struct slice ca_sn;     /* owned, as all of these */
    struct slice client_id; /* the only one it may use; empty: that of its first connection */
    struct slice common_name, unit;
    struct slice der;
};

/* Reads all rows (blocking). store: borrowed; it must be closed before registry_close. now_ms:
 * asked for the wall clock. Returns 0 or an error with the reason in reterr. */
typedef uint64_t registry_clock_fn(void *clock_data);
MUST_CHECK int registry_open(struct store *store, struct meta *meta, registry_clock_fn *now_ms,
                             void *clock_data, struct registry **ret_registry,
                             struct errmsg *reterr);
struct registry *registry_close(struct registry *registry); /* NULL is fine; returns NULL */

/* Told when a certificate may not connect any more; sn empty: a CA may not, and so those that it
 * has signed. One watcher; NULL: none. */
typedef void registry_watch_fn(void *data, struct slice sn);
void registry_watch(struct registry *registry, registry_watch_fn *watch, void *data);
/* Told when registry_authorities has changed. One watcher; NULL: none. */
typedef void registry_authorities_fn(void *data);
void registry_watch_authorities(struct registry *registry, registry_authorities_fn *watch,
                                void *data);
/* The CAs in state ACTIVE; changes in place, as long as the registry lives. */
const struct tls_authorities *registry_authorities(const struct registry *registry);

/* For people: a certificate in PEM, to be mem_freed, NULL when out of memory; and the common name
 * of who has issued a CA's certificate, to be mem_freed, NULL: there is none. */
MUST_CHECK char *registry_pem(struct slice der);
MUST_CHECK char *registry_issuer_of(const struct registry_ca *ca);

struct slice registry_code(const struct registry *registry); /* empty: none was applied for */
uint64_t registry_ca_count(const struct registry *registry);
uint64_t registry_certificate_count(const struct registry *registry);
/* find: NULL when there is none. above: the first behind `sn`, which need not be one, or NULL. */
const struct registry_ca *registry_find_ca(const struct registry *registry, struct slice sn);
const struct registry_ca *registry_ca_above(const struct registry *registry, struct slice sn);
const struct registry_certificate *registry_find(const struct registry *registry, struct slice sn);
const struct registry_certificate *registry_above(const struct registry *registry, struct slice sn);
/* It is ACTIVE, and so is its CA. NULL is not. */
bool registry_is_active(const struct registry *registry,
                        const struct registry_certificate *certificate);

enum registry_outcome {
    REGISTRY_DONE,
    REGISTRY_BAD_VALUE,       /* no certificate in PEM, or no CA's; no client ID */
    REGISTRY_NO_CODE,         /* none was applied for */
    REGISTRY_WRONG_CODE,      /* the verification certificate has another common name */
    REGISTRY_WRONG_SIGNATURE, /* … or is not signed by the CA */
    REGISTRY_UNVERIFIED,      /* not signed by the CA, or outside its dates */
    REGISTRY_EXISTS,
    REGISTRY_NO_CA,
    REGISTRY_NO_CERTIFICATE,
    REGISTRY_IN_USE, /* the CA has signed certificates that are registered */
    REGISTRY_IS_REVOKED,
    REGISTRY_BUSY, /* another change of it is under way */
    REGISTRY_FULL,
    REGISTRY_FAILED, /* the store's doing */
};

/* Told once: inside the call when it fails or all is so already, else when the change is on disk.
 * detail: a sentence for who asked; empty with REGISTRY_DONE. sn: of what was changed. Texts for
 * the call; data's owner lives until then. */
struct registry_result {
    enum registry_outcome outcome;
    const char *detail;
    struct slice sn;
};
typedef void registry_done_fn(void *data, const struct registry_result *result);

/* Makes a new registration code; the one before counts no more. */
void registry_make_code(struct registry *registry, registry_done_fn *done, void *data);
/* Both in PEM. state: ACTIVE or INACTIVE. */
void registry_add_ca(struct registry *registry, struct slice pem, struct slice verification_pem,
                     enum registry_state state, registry_done_fn *done, void *data);
/* state: ACTIVE or INACTIVE. */
void registry_set_ca(struct registry *registry, struct slice sn, enum registry_state state,
                     registry_done_fn *done, void *data);
void registry_remove_ca(struct registry *registry, struct slice sn, registry_done_fn *done,
                        void *data);

/* What a certificate is registered with. */
struct registry_wish {
    struct slice pem, ca_sn;
    struct slice client_id; /* may be empty */
    enum registry_state state;
};
void registry_add(struct registry *registry, const struct registry_wish *wish,
                  registry_done_fn *done, void *data);
/* Registers one that a client has shown, under the CA that has signed it. */
void registry_enrol(struct registry *registry, const struct certificate *certificate,
                    struct slice client_id, enum registry_state state, registry_done_fn *done,
                    void *data);
/* Binds one that has no client ID yet. */
void registry_bind(struct registry *registry, struct slice sn, struct slice client_id,
                   registry_done_fn *done, void *data);
/* state: ACTIVE, INACTIVE or REVOKED. */
void registry_set(struct registry *registry, struct slice sn, enum registry_state state,
                  registry_done_fn *done, void *data);
void registry_remove(struct registry *registry, struct slice sn, registry_done_fn *done,
                     void *data);
