/* How clients are authenticated, as the configuration says. All texts are copied by who takes them.
 */
#pragma once

#include "base/base.h"

/* Signed tokens (auth/jwt.h). At most one of secret_file, public_key_file and jwks is not empty. */
struct jwt_config {
    bool from_username; /* else the password */
    const char *secret_file, *public_key_file;
    const char *jwks; /* a URL, a set of keys itself (`{…}`), or the name of a file with one */
    uint64_t jwks_refresh_ms;
    const char *ca_file;           /* certificates to trust for a URL; "" = the system's */
    const char *const *algorithms; /* that may be used; none given: all that fit the keys */
    uint32_t algorithm_count;
    const char *issuer, *audience; /* "" = any */
    uint64_t leeway_ms;
    const char *const *claims; /* "name=template" */
    uint32_t claim_count;
};

/* A question to another server (auth/http_auth.h). */
struct http_auth_config {
    const char *url;            /* a template; NULL or "": none */
    bool is_get;                /* else POST */
    const char *const *headers; /* "Name: template" */
    uint32_t header_count;
    const char *const *body; /* "name=template": JSON of a POST, query of a GET */
    uint32_t body_count;
    bool user_properties; /* of CONNECT, as headers */
    uint32_t concurrency; /* requests at once */
    uint32_t connect_timeout_ms, read_timeout_ms;
    const char *ca_file; /* certificates to trust; NULL or "": the system's */
};

/* The certificate of a client (auth/x509_auth.h). */
struct x509_config {
    bool by_name;         /* who shows one is its common name */
    bool registered;      /* the same, of those in the registry only (auth/registry_auth.h) */
    bool binds_client_id; /* which must be the client ID as well */
    bool enrols;          /* certificates register themselves when they come first */
    bool activates;       /* … and are active at once */
};

struct auth_config {
    bool anonymous;           /* clients without a user name may connect */
    uint32_t waiting_max;     /* questions under way at once; 0 = 1,024 */
    const char *const *chain; /* names of authenticators in order; none: all that are configured */
    uint32_t chain_count;
    const char *password_file; /* NULL or "": none */
    struct x509_config x509;
    struct jwt_config jwt;
    struct http_auth_config http;
};

/* true when there is any authenticator. */
bool auth_config_has_any(const struct auth_config *config);
/* Checks what can be told without reading files. Returns 0, or ERR_INVALID with *ret_key, the key
 * of the configuration at fault, *ret_item, the item of a list or NULL, and what is allowed in
 * reterr. */
MUST_CHECK int auth_config_check(const struct auth_config *config, const char **ret_key,
                                 const char **ret_item, struct errmsg *reterr);
