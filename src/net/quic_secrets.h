/* What QUIC keeps secret and must know again after a restart: with the keys lost, clients could not
 * be told that their connection is gone, and their tokens and tickets would be worthless. One file,
 * readable by its owner only, made at the first start with QUIC. Thread: any. */
#pragma once

#include "base/base.h"

#define QUIC_SECRETS_FILE "quic.secrets"

struct quic_secrets {
    uint8_t token[32];  /* of Retry and NEW_TOKEN */
    uint8_t reset[32];  /* of stateless resets */
    uint8_t ticket[64]; /* of session tickets */
};

/* Reads the file in `dir`, making it when there is none. Blocking. Returns 0; ERR_CORRUPT: it is
 * not of its form; -errno. */
MUST_CHECK int quic_secrets_open(const char *dir, struct quic_secrets *ret_secrets,
                                 struct errmsg *reterr);
