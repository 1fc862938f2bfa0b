/* SAS: the token that a device signs with its key, in the shape that Azure IoT Hub made known:
 *
 *     SharedAccessSignature sr=RESOURCE&sig=SIGNATURE&se=EXPIRY
 *
 * RESOURCE: `devices/ID`, or `HOST/devices/ID`, percent-encoded. EXPIRY: seconds since 1970.
 * SIGNATURE: HMAC-SHA256 under the key, of RESOURCE as it stands there, a newline, and EXPIRY; in
 * base64, percent-encoded. The order of the three does not matter; `skn` may follow and is not
 * looked at. Private to auth/. Thread: any.
 */
#pragma once

#include "base/buf.h"

#define SAS_RESOURCE_MAX   1024u /* bytes, decoded */
#define SAS_SIGNATURE_SIZE 32u
#define SAS_KEY_MAX        64u
#define SAS_KEY_MIN        16u

struct sas_key {
    uint8_t size;
    uint8_t bytes[SAS_KEY_MAX];
};

struct sas_token {
    struct slice resource_text, expiry_text; /* as they stand in the token */
    uint8_t resource[SAS_RESOURCE_MAX];      /* decoded */
    uint32_t resource_size;
    uint64_t expiry_s;
    uint8_t signature[SAS_SIGNATURE_SIZE];
};

/* Whether it begins like one. */
bool sas_looks_like_one(struct slice text);
/* The token borrows `text`. Returns 0 or ERR_MALFORMED. */
MUST_CHECK int sas_parse(struct slice text, struct sas_token *ret_token);
/* Whether the token is for that device. */
bool sas_is_for(const struct sas_token *token, struct slice device_id);
/* Whether the key has signed it; in a time that does not depend on the answer. */
bool sas_is_signed(const struct sas_token *token, const struct sas_key *key);
/* A key from base64. Returns 0, or ERR_INVALID: not base64, or of another size than 16 to 64. */
MUST_CHECK int sas_key_parse(struct slice base64, struct sas_key *ret_key);
/* A new key. */
void sas_key_make(struct sas_key *ret_key);
#define SAS_KEY_TEXT_SIZE 96u
/* In base64, with a NUL. */
void sas_key_text(const struct sas_key *key, char ret_text[SAS_KEY_TEXT_SIZE]);
