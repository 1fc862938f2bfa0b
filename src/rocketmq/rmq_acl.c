#include "rocketmq/rmq_acl.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

enum { SHA1_SIZE = 20 };

static bool is_before(struct slice a, struct slice b)
{
    const uint32_t size = MIN(a.size, b.size);
    const int order = size > 0 ? memcmp(a.bytes, b.bytes, size) : 0;
    return order < 0 || (order == 0 && a.size < b.size);
}

/* There are few, and many of them in order already. */
static void sort(const struct rmq_fields *fields, uint8_t order[RMQ_FIELDS_MAX])
{
    for (uint32_t i = 0; i < fields->count; i++) {
        uint32_t place = i;
        while (place > 0 &&
               is_before(fields->items[i].name, fields->items[order[place - 1]].name)) {
            order[place] = order[place - 1];
            place--;
        }
        order[place] = (uint8_t)i;
    }
}

int rmq_acl_sign(struct rmq_fields *fields, struct slice body, const char *access_key,
                 const char *secret_key, char room[RMQ_SIGNATURE_SIZE_MAX])
{
    uint8_t order[RMQ_FIELDS_MAX], digest[SHA1_SIZE];
    gnutls_hmac_hd_t hmac = NULL;
    gnutls_datum_t text = {0};
    rmq_fields_add_text(fields, "AccessKey", access_key);
    sort(fields, order);
    int code = gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA1, secret_key, strlen(secret_key));
    if (code < 0)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < fields->count && code >= 0; i++) {
        const struct slice value = fields->items[order[i]].value;
        code = value.size > 0 ? gnutls_hmac(hmac, value.bytes, value.size) : 0;
    }
    if (code >= 0 && body.size > 0)
        code = gnutls_hmac(hmac, body.bytes, body.size);
    gnutls_hmac_deinit(hmac, digest);
    if (code >= 0)
        code = gnutls_base64_encode2(&(gnutls_datum_t){digest, sizeof digest}, &text);
    if (code < 0)
        return ERR_NOMEM;
    ASSERT(text.size < RMQ_SIGNATURE_SIZE_MAX);
    memcpy(room, text.data, text.size);
    room[text.size] = '\0';
    gnutls_free(text.data);
    rmq_fields_add_text(fields, "Signature", room);
    return 0;
}
