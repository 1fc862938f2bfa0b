/* Signatures of requests: HMAC-SHA1 with the secret key over the values of all fields, in order of
 * their names, and the body. The same in ACL 1.0 and 2.0.
 *
 * Spec: [RMQ AclUtils.java] [RMQ AclSigner.java]. Thread: any.
 */
#pragma once

#include "rocketmq/rmq_fields.h"

#define RMQ_SIGNATURE_SIZE_MAX 32u /* with its NUL */

/* Adds AccessKey and Signature, whose text is written into `room`; keys and room are borrowed by
 * the fields. Returns 0 or ERR_NOMEM. */
MUST_CHECK int rmq_acl_sign(struct rmq_fields *fields, struct slice body, const char *access_key,
                            const char *secret_key, char room[RMQ_SIGNATURE_SIZE_MAX]);
