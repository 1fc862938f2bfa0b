/* Rules beyond the range of one number: forms of addresses and filters, and keys that only make
 * sense together. Each rule is a function; the first that fails ends the check. */
#include "app/config_key.h"
#include "auth/auth_config.h"
#include "mqtt/topic.h"
#include "net/listener.h"

#include <string.h>

static int check_data_dir(const struct config *config, struct config_blame *ret_blame,
                          struct strbuf *allowed)
{
    ret_blame->key = "data_dir";
    if (config->data_dir[0] == '\0') {
        strbuf_add(allowed, "the name of a directory");
        return ERR_INVALID;
    }
    return 0;
}

static int check_store(const struct config *config, struct config_blame *ret_blame,
                       struct strbuf *allowed)
{
    ret_blame->key = "store";
    if (strcmp(config->store, "local") != 0 && strcmp(config->store, "mem") != 0) {
        strbuf_add(allowed, "local or mem");
        if (strncmp(config->store, "rocketmq:", 9) == 0) {
            strbuf_add(allowed, ": the engine for Apache RocketMQ is not part of this version");
        }
        return ERR_INVALID;
    }
    ret_blame->key = "meta";
    if (strcmp(config->meta, "local") != 0) {
        strbuf_add(allowed, "local");
        return ERR_INVALID;
    }
    return 0;
}

static int check_retention(const struct config *config, struct config_blame *ret_blame,
                           struct strbuf *allowed)
{
    ret_blame->key = "retention.bytes";
    if (config->retention_bytes / 4 < config->store_segment_size) {
        strbuf_add(allowed, "at least four times store.segment_size");
        return ERR_INVALID;
    }
    return 0;
}

/* Whether a listener with TLS has a certificate, be it in its own URL. */
static bool has_certificate(const struct config *config, const struct listener_url *url)
{
    struct listener_option option;
    return !url->tls || config->tls_certificate.count > 0 ||
           listener_option_find(url, "certificate", &option);
}

/* What is wrong stands behind the URL in `why`. */
static void add_forms(const char *text, const struct errmsg *why, struct strbuf *allowed)
{
    const size_t before = strlen(text) + strlen("'': ");
    strbuf_add(allowed, LISTENER_URL_FORMS);
    if (strlen(why->text) > before && before < LISTENER_HOST_MAX) {
        strbuf_addf(allowed, ": %s", why->text + before);
    }
}

static int check_listeners(const struct config *config, struct config_blame *ret_blame,
                           struct strbuf *allowed)
{
    ret_blame->key = "listeners";
    if (config->listeners.count == 0) {
        strbuf_add(allowed, "a list of at least one URL such as mqtt://127.0.0.1:1883");
        return ERR_INVALID;
    }
    for (size_t i = 0; i < config->listeners.count; i++) {
        struct listener_url url;
        struct errmsg why = {0};
        const char *text = config->listeners.items[i];
        ret_blame->item = text;
        if (listener_url_parse(text, &url, &why) < 0) {
            add_forms(text, &why, allowed);
            return ERR_INVALID;
        }
        if (!has_certificate(config, &url)) {
            strbuf_addf(allowed, "%s:// with a tls.certificate, or with ?certificate=FILE",
                        url.scheme);
            return ERR_INVALID;
        }
        ret_blame->item = NULL;
    }
    return 0;
}

int config_admin_address(const struct config *config, struct listener_url *ret_url)
{
    char text[LISTENER_HOST_MAX + 32];
    struct strbuf url;
    struct errmsg unused = {0};
    const char *colon = strrchr(config->admin_listen, ':');
    if (!colon || colon[1] == '\0' || strchr(colon, ']')) {
        return ERR_INVALID;
    }
    strbuf_init_array(&url, text, sizeof(text));
    strbuf_addf(&url, "mqtt://%s", config->admin_listen);
    if (strbuf_err(&url) < 0) {
        return ERR_INVALID;
    }
    return listener_url_parse(text, ret_url, &unused);
}

static int check_admin(const struct config *config, struct config_blame *ret_blame,
                       struct strbuf *allowed)
{
    struct listener_url url;
    ret_blame->key = "admin.listen";
    if (strcmp(config->admin_listen, "off") != 0 && config_admin_address(config, &url) < 0) {
        strbuf_add(allowed, "HOST:PORT such as 127.0.0.1:18080, or off");
        return ERR_INVALID;
    }
    return 0;
}

static int check_deny(const struct config *config, struct config_blame *ret_blame,
                      struct strbuf *allowed)
{
    ret_blame->key = "topics.deny_subscribe";
    for (size_t i = 0; i < config->topics_deny_subscribe.count; i++) {
        const char *text = config->topics_deny_subscribe.items[i];
        if (topic_filter_check(slice_str(text), TOPIC_NO_LIMIT) < 0) {
            ret_blame->item = text;
            strbuf_add(allowed, "a topic filter, in which + and # take a whole level, # the last");
            return ERR_INVALID;
        }
    }
    return 0;
}

/* Whether nobody but this machine can reach any listener. */
static bool all_local(const struct config *config)
{
    for (size_t i = 0; i < config->listeners.count; i++) {
        struct listener_url url;
        struct errmsg unused = {0};
        if (listener_url_parse(config->listeners.items[i], &url, &unused) < 0 ||
            !listener_url_is_local(&url)) {
            return false;
        }
    }
    return true;
}

bool config_allows_anonymous(const struct config *config)
{
    struct auth_config auth;
    config_auth(config, &auth);
    if (config->auth_anonymous == ANONYMOUS_AUTO) {
        return !auth_config_has_any(&auth) && all_local(config);
    }
    return config->auth_anonymous == ANONYMOUS_TRUE;
}

void config_auth(const struct config *config, struct auth_config *ret_auth)
{
    *ret_auth = (struct auth_config){
        .password_file = config->auth_password_file,
        .chain = (const char *const *)config->auth_chain.items,
        .chain_count = (uint32_t)config->auth_chain.count,
        .x509 = {.by_name = config->auth_x509_mode == X509_NAME,
                 .registered = config->auth_x509_mode == X509_REGISTERED,
                 .binds_client_id = config->auth_x509_client_id == X509_COMMON_NAME,
                 .enrols = config->auth_x509_provision == X509_JITP,
                 .activates = config->auth_x509_automatic_activation},
        .jwt =
            {
                .from_username = config->auth_jwt_from == TOKEN_USERNAME,
                .secret_file = config->auth_jwt_secret_file,
                .public_key_file = config->auth_jwt_public_key_file,
                .jwks = config->auth_jwt_jwks,
                .jwks_refresh_ms = config->auth_jwt_jwks_refresh_ms,
                .ca_file = config->auth_jwt_ca_file,
                .algorithms = (const char *const *)config->auth_jwt_algorithms.items,
                .algorithm_count = (uint32_t)config->auth_jwt_algorithms.count,
                .issuer = config->auth_jwt_issuer,
                .audience = config->auth_jwt_audience,
                .leeway_ms = config->auth_jwt_leeway_ms,
                .claims = (const char *const *)config->auth_jwt_claims.items,
                .claim_count = (uint32_t)config->auth_jwt_claims.count,
            },
        .http =
            {
                .url = config->auth_http_url,
                .is_get = config->auth_http_method == HTTP_GET,
                .headers = (const char *const *)config->auth_http_headers.items,
                .header_count = (uint32_t)config->auth_http_headers.count,
                .body = (const char *const *)config->auth_http_body.items,
                .body_count = (uint32_t)config->auth_http_body.count,
                .user_properties = config->auth_http_user_properties,
                .concurrency = (uint32_t)config->auth_http_concurrency,
                .connect_timeout_ms = (uint32_t)config->auth_http_connect_timeout_ms,
                .read_timeout_ms = (uint32_t)config->auth_http_read_timeout_ms,
                .ca_file = config->auth_http_ca_file,
            },
    };
}

static int check_auth(const struct config *config, struct config_blame *ret_blame,
                      struct strbuf *allowed)
{
    struct auth_config auth;
    struct errmsg why = {0};
    config_auth(config, &auth);
    const int err = auth_config_check(&auth, &ret_blame->key, &ret_blame->item, &why);
    if (err < 0) {
        strbuf_add(allowed, why.text);
    }
    return err;
}

static int check_access(const struct config *config, struct config_blame *ret_blame,
                        struct strbuf *allowed)
{
    ret_blame->key = config->auth_anonymous == ANONYMOUS_AUTO ? "listeners" : "auth.anonymous";
    struct auth_config auth;
    config_auth(config, &auth);
    if (auth_config_has_any(&auth) || config_allows_anonymous(config)) {
        return 0;
    }
    if (config->auth_anonymous == ANONYMOUS_AUTO) {
        strbuf_add(allowed, "loopback only until auth.password_file names a file of users, or "
                            "auth.anonymous is true to let everybody in");
    } else {
        strbuf_add(allowed, "false only with auth.password_file or another way to authenticate, or "
                            "nobody could connect");
    }
    return ERR_INVALID;
}

/* As a browser writes it (RFC 6454, section 6.2): a scheme, "://", a host, perhaps a port; or
 * "null".
 */
static bool is_origin(const char *text)
{
    const char *host = strstr(text, "://");
    return strcmp(text, "null") == 0 ||
           (host && host > text && host[3] != '\0' && !strpbrk(host + 3, "/?#@ "));
}

static int check_origins(const struct config *config, struct config_blame *ret_blame,
                         struct strbuf *allowed)
{
    ret_blame->key = "websocket.origins";
    for (size_t i = 0; i < config->websocket_origins.count; i++) {
        const char *text = config->websocket_origins.items[i];
        if (!is_origin(text)) {
            ret_blame->item = text;
            strbuf_add(allowed, "a scheme, :// and a host, with its port when it is not the usual "
                                "one, such as https://app.example.com");
            return ERR_INVALID;
        }
    }
    return 0;
}

int config_check(const struct config *config, struct config_blame *ret_blame,
                 struct strbuf *allowed)
{
    typedef int check_fn(const struct config *, struct config_blame *, struct strbuf *);
    static check_fn *const checks[] = {check_data_dir,  check_store,  check_retention,
                                       check_listeners, check_admin,  check_deny,
                                       check_auth,      check_access, check_origins};
    ret_blame->item = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        const int err = checks[i](config, ret_blame, allowed);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}
