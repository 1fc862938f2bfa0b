/* An entry is a digest of issuer and serial number, in a sorted array. */
#include "net/revocations.h"

#include "base/mem.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_SIZE = 16, SERIAL_MAX = 64 };

struct entry {
    uint8_t digest[ENTRY_SIZE];
};

struct issuer {
    struct entry name;
    int64_t next_s; /* when the next list is due; INT64_MAX = never */
};

struct revocations {
    struct entry *entries;
    struct issuer *issuers;
    size_t entry_count, entry_room;
    unsigned issuer_count;
};

static int digest_of(const gnutls_datum_t *issuer, const uint8_t *serial, size_t serial_size,
                     struct entry *ret_entry)
{
    uint8_t digest[32];
    gnutls_hash_hd_t hash = NULL;
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0)
        return ERR_NOMEM;
    int err = gnutls_hash(hash, issuer->data, issuer->size);
    if (err >= 0 && serial_size > 0)
        err = gnutls_hash(hash, serial, serial_size);
    gnutls_hash_deinit(hash, digest);
    memcpy(ret_entry->digest, digest, ENTRY_SIZE);
    return err < 0 ? ERR_NOMEM : 0;
}

static int add_entry(struct revocations *revocations, const struct entry *entry)
{
    if (revocations->entry_count == revocations->entry_room) {
        const size_t room = MAX(revocations->entry_room * 2, (size_t)64);
        struct entry *entries = mem_try_realloc(revocations->entries, room * sizeof *entries);
        if (!entries)
            return ERR_NOMEM;
        revocations->entries = entries;
        revocations->entry_room = room;
    }
    revocations->entries[revocations->entry_count++] = *entry;
    return 0;
}

static int add_serials(struct revocations *revocations, gnutls_x509_crl_t crl,
                       const gnutls_datum_t *issuer)
{
    gnutls_x509_crl_iter_t iter = NULL;
    int err = 0;
    while (err == 0) {
        uint8_t serial[SERIAL_MAX];
        size_t size = sizeof serial;
        time_t when = 0;
        struct entry entry;
        const int got = gnutls_x509_crl_iter_crt_serial(crl, &iter, serial, &size, &when);
        if (got == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        err = got < 0 ? ERR_MALFORMED : digest_of(issuer, serial, size, &entry);
        if (err == 0)
            err = add_entry(revocations, &entry);
    }
    gnutls_x509_crl_iter_deinit(iter);
    return err;
}

static struct issuer *find_issuer(const struct revocations *revocations, const struct entry *name)
{
    for (unsigned i = 0; i < revocations->issuer_count; i++) {
        if (memcmp(&revocations->issuers[i].name, name, sizeof *name) == 0)
            return &revocations->issuers[i];
    }
    return NULL;
}

static int add_list(struct revocations *revocations, gnutls_x509_crl_t crl)
{
    gnutls_datum_t issuer = {0};
    struct entry name;
    if (gnutls_x509_crl_get_raw_issuer_dn(crl, &issuer) < 0)
        return ERR_MALFORMED;
    int err = digest_of(&issuer, NULL, 0, &name);
    if (err == 0) {
        const time_t next = gnutls_x509_crl_get_next_update(crl);
        const int64_t next_s = next == (time_t)-1 ? INT64_MAX : next;
        struct issuer *known = find_issuer(revocations, &name);
        if (known)
            known->next_s = MAX(known->next_s, next_s);
        else
            revocations->issuers[revocations->issuer_count++] = (struct issuer){name, next_s};
        err = add_serials(revocations, crl, &issuer);
    }
    gnutls_free(issuer.data);
    return err;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct entry));
}

int revocations_new(const gnutls_x509_crl_t *crls, unsigned count,
                    struct revocations **ret_revocations)
{
    struct revocations *revocations = mem_new(sizeof *revocations);
    revocations->issuers = mem_try_alloc(count * sizeof *revocations->issuers);
    int err = revocations->issuers ? 0 : ERR_NOMEM;
    for (unsigned i = 0; i < count && err == 0; i++)
        err = add_list(revocations, crls[i]);
    if (err < 0) {
        (void)revocations_free(revocations);
        return err;
    }
    if (revocations->entry_count > 0)
        qsort(revocations->entries, revocations->entry_count, sizeof(struct entry), compare);
    *ret_revocations = revocations;
    return 0;
}

struct revocations *revocations_free(struct revocations *revocations)
{
    if (!revocations)
        return NULL;
    mem_free(revocations->entries);
    mem_free(revocations->issuers);
    mem_free(revocations);
    return NULL;
}

enum revocation revocations_find(const struct revocations *revocations, gnutls_x509_crt_t crt,
                                 int64_t now_s)
{
    uint8_t serial[SERIAL_MAX];
    size_t size = sizeof serial;
    gnutls_datum_t dn = {0};
    struct entry entry = {0}, name = {0};
    if (!revocations)
        return REVOCATION_NONE;
    /* What cannot be looked up is not let in. */
    enum revocation found = REVOCATION_REVOKED;
    if (gnutls_x509_crt_get_serial(crt, serial, &size) >= 0 &&
        gnutls_x509_crt_get_raw_issuer_dn(crt, &dn) >= 0 &&
        digest_of(&dn, serial, size, &entry) == 0 && digest_of(&dn, NULL, 0, &name) == 0) {
        const struct issuer *issuer = find_issuer(revocations, &name);
        const bool named = revocations->entry_count > 0 &&
                           bsearch(&entry, revocations->entries, revocations->entry_count,
                                   sizeof entry, compare) != NULL;
        const bool outdated = issuer && issuer->next_s < now_s;
        found = named ? REVOCATION_REVOKED : outdated ? REVOCATION_OUTDATED : REVOCATION_NONE;
    }
    gnutls_free(dn.data);
    return found;
}
