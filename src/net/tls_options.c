#include "net/tls_options.h"

#include "base/mem.h"
#include "net/listener_url.h"

#include <string.h>

struct file_list {
    char *items[TLS_FILES_MAX];
    size_t count;
};

struct tls_override {
    struct file_list certificates, private_keys, ocsp_responses;
    char *client_ca, *crl, *priorities;
    enum tls_client_certificate client_certificate;
    enum tls_version version_min;
};

static int add_file(struct file_list *list, const struct listener_option *option,
                    struct errmsg *reterr)
{
    if (list->count == TLS_FILES_MAX) {
        errmsg_wrap(reterr, "'%s' is there more than %d times", option->name, TLS_FILES_MAX);
        return ERR_INVALID;
    }
    list->items[list->count++] = mem_strdup(option->value);
    return 0;
}

static int set_once(char **text, const struct listener_option *option, struct errmsg *reterr)
{
    if (*text) {
        errmsg_wrap(reterr, "'%s' is there twice", option->name);
        return ERR_INVALID;
    }
    *text = mem_strdup(option->value);
    return 0;
}

static enum tls_client_certificate client_certificate_of(const char *word)
{
    if (strcmp(word, "required") == 0)
        return TLS_CLIENT_REQUIRED;
    return strcmp(word, "optional") == 0 ? TLS_CLIENT_OPTIONAL : TLS_CLIENT_NONE;
}

static int take_option(struct tls_override *override, const struct listener_option *option,
                       struct errmsg *reterr)
{
    const char *name = option->name;
    if (strcmp(name, "certificate") == 0)
        return add_file(&override->certificates, option, reterr);
    if (strcmp(name, "private_key") == 0)
        return add_file(&override->private_keys, option, reterr);
    if (strcmp(name, "ocsp_response") == 0)
        return add_file(&override->ocsp_responses, option, reterr);
    if (strcmp(name, "client_ca") == 0)
        return set_once(&override->client_ca, option, reterr);
    if (strcmp(name, "crl") == 0)
        return set_once(&override->crl, option, reterr);
    if (strcmp(name, "priorities") == 0)
        return set_once(&override->priorities, option, reterr);
    if (strcmp(name, "client_certificate") == 0)
        override->client_certificate = client_certificate_of(option->value);
    if (strcmp(name, "min_version") == 0)
        override->version_min =
            strcmp(option->value, "1.3") == 0 ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
    return 0;
}

int tls_override_new(const char *query, struct tls_override **ret_override, struct errmsg *reterr)
{
    struct tls_override *override = mem_new(sizeof *override);
    struct listener_option option;
    const char *rest = query;
    while (listener_option_next(&rest, &option)) {
        const int err = take_option(override, &option, reterr);
        if (err < 0) {
            (void)tls_override_free(override);
            return err;
        }
    }
    if (override->certificates.count == 0 &&
        override->private_keys.count + override->ocsp_responses.count > 0) {
        errmsg_wrap(reterr, "'private_key' and 'ocsp_response' need a 'certificate' beside them");
        (void)tls_override_free(override);
        return ERR_INVALID;
    }
    *ret_override = override;
    return 0;
}

static void clear(struct file_list *list)
{
    while (list->count > 0)
        mem_free(list->items[--list->count]);
}

struct tls_override *tls_override_free(struct tls_override *override)
{
    if (!override)
        return NULL;
    clear(&override->certificates);
    clear(&override->private_keys);
    clear(&override->ocsp_responses);
    mem_free(override->client_ca);
    mem_free(override->crl);
    mem_free(override->priorities);
    mem_free(override);
    return NULL;
}

static void replace(struct tls_names *names, const struct file_list *list)
{
    *names = (struct tls_names){(const char *const *)list->items, list->count};
}

struct tls_options tls_override_apply(const struct tls_override *override,
                                      const struct tls_options *defaults)
{
    struct tls_options options = *defaults;
    /* A certificate, its key and its OCSP response belong together. */
    if (override->certificates.count > 0) {
        replace(&options.certificates, &override->certificates);
        replace(&options.private_keys, &override->private_keys);
        replace(&options.ocsp_responses, &override->ocsp_responses);
    }
    /* So do a CA and its list of what is revoked. */
    if (override->client_ca) {
        options.client_ca = override->client_ca;
        options.crl = NULL;
    }
    if (override->crl)
        options.crl = override->crl;
    if (override->priorities)
        options.priorities = override->priorities;
    if (override->client_certificate != TLS_CLIENT_AUTO)
        options.client_certificate = override->client_certificate;
    if (override->version_min != TLS_VERSION_USUAL)
        options.version_min = override->version_min;
    return options;
}
