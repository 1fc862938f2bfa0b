/* What is known of a client when its rights are decided: names, address, certificate.
 *
 * Slices and the acl are borrowed by whoever fills a struct facts in. Pure; any thread.
 */
#pragma once

#include "base/base.h"
#include "base/buf.h"

/* What a variable in a rule may name. */
enum fact {
    FACT_CLIENT_ID,
    FACT_USERNAME,
    FACT_COUNTRY, /* of the certificate's subject, as are the rest */
    FACT_ORGANIZATION,
    FACT_UNIT,
    FACT_STATE,
    FACT_COMMON_NAME,
    FACT_SERIAL,
    FACT_COUNT,
};

/* "ClientId", "Certificate.Subject.CommonName": as written between ${ and }. */
const char *fact_name(enum fact fact);
/* Finds the fact that `text` begins with, in any case. Returns its name's size, or 0. */
uint32_t fact_find(struct slice text, enum fact *ret_fact);

/* An IP address; an IPv4 one that is mapped into IPv6 counts as IPv4. */
struct address {
    uint8_t family; /* 4, 6, or 0: none, such as of a Unix socket */
    uint8_t bytes[16];
};

/* Reads "192.0.2.1", "2001:db8::1", "[2001:db8::1]", each also with ":port" behind ("[…]:port" for
 * IPv6), as a conn knows its peer. Anything else is an address of family 0. */
struct address address_parse(struct slice text);

/* A range of addresses, or one. */
struct network {
    struct address base;
    uint8_t bits; /* of base that count */
};

/* Reads an address, or a CIDR such as "10.0.0.0/8". Returns 0 or ERR_INVALID. */
MUST_CHECK int network_parse(struct slice text, struct network *ret_network);
/* false for an address of another family, or of none. */
bool network_has(const struct network *network, const struct address *address);

struct acl;

struct facts {
    struct slice values[FACT_COUNT]; /* size 0: there is none */
    struct address address;
    struct acl *acl;   /* rules that came with the client's authentication, or NULL */
    bool is_superuser; /* nothing is checked */
};
