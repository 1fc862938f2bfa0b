/* Configuration: the values of config.def, gathered from four sources.
 *
 * Later ones win: the defaults (those of limits.profile included), the file, the environment
 * (TIDEMQ_DATA_DIR for data_dir), --set. Everything is checked before anything is used, and the
 * message says where the wrong value was given, and what is allowed. Thread: any.
 */
#pragma once

#include "app/setting.h"
#include "base/base.h"
#include "base/strbuf.h"

struct config_list {
    char **items;
    size_t count;
};

/* In the order of their words in config.def. */
enum auth_anonymous { ANONYMOUS_AUTO, ANONYMOUS_TRUE, ANONYMOUS_FALSE };
enum config_http_method { HTTP_POST, HTTP_GET };
enum config_x509_mode { X509_OFF, X509_NAME, X509_REGISTERED };
enum config_x509_client_id { X509_ANY, X509_COMMON_NAME };
enum config_x509_provision { X509_API, X509_JITP };
enum config_token_from { TOKEN_PASSWORD, TOKEN_USERNAME };
enum config_duplicate { CONFIG_TAKEOVER, CONFIG_REJECT };
enum config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };
enum limits_profile { PROFILE_DEFAULT, PROFILE_TDMQ };

#define CONFIG_C_BOOL        bool
#define CONFIG_C_COUNT       uint64_t
#define CONFIG_C_SIZE        uint64_t
#define CONFIG_C_DURATION    uint64_t
#define CONFIG_C_CHOICE      int
#define CONFIG_C_TEXT        char *
#define CONFIG_C_LIST        struct config_list
#define CONFIG_C_SECRET_TEXT CONFIG_C_TEXT
#define CONFIG_C_SECRET_LIST CONFIG_C_LIST

/* One field for each key; texts and lists are owned. */
struct config {
#define X(field, kind, ...) CONFIG_C_##kind field;
#include "app/config.def"
#undef X
};

/* Where values come from; everything borrowed for the call. */
struct config_source {
    const char *file;        /* NULL: none */
    const char *const *sets; /* "key=value" */
    size_t set_count;
    char *const *environment; /* "NAME=value", NULL at the end; may be NULL */
};

/* Reads all sources into *ret_config; config_done it. *ret_config is written on success only.
 * unknown_environment: called for each TIDEMQ_ variable that is no key; may be NULL.
 * Returns 0; ERR_INVALID: a value, key or form is wrong; ERR_FULL: file too large; ERR_NOMEM;
 * -errno: the file cannot be read. */
typedef void config_unknown_fn(void *data, const char *variable);
MUST_CHECK int config_load(const struct config_source *source,
                           config_unknown_fn *unknown_environment, void *data,
                           struct config *ret_config, struct errmsg *reterr);
void config_done(struct config *config);

/* The first key that differs and cannot change while running; NULL when there is none. */
const char *config_restart_key(const struct config *before, const struct config *after);

/* Where the admin API listens. Returns 0, or ERR_INVALID when that is off or not well-formed. */
struct listener_url;
MUST_CHECK int config_admin_address(const struct config *config, struct listener_url *ret_url);
/* Whether clients without a user name may connect: auth.anonymous with `auto` decided. May block to
 * resolve the names of listeners. */
bool config_allows_anonymous(const struct config *config);

/* What authenticates clients, borrowed from `config`; `anonymous` is left false. */
struct auth_config;
void config_auth(const struct config *config, struct auth_config *ret_auth);

/* docs/configuration.md, and the part of `serve --help` that lists the keys. */
void config_reference(struct strbuf *out);
void config_help(struct strbuf *out);
