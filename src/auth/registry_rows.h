/* How the registry's records are written as rows. Private to auth/. */
#pragma once

#include "auth/registry.h"
#include "base/buf.h"

/* Each returns a row in a buf of its own, or NULL when out of memory. */
MUST_CHECK struct buf *registry_row_of_ca(const struct registry_ca *ca);
MUST_CHECK struct buf *registry_row_of(const struct registry_certificate *certificate);
/* Each fills in a cleared struct, all but the name; what it has then is to be freed in any case.
 * Returns 0, ERR_CORRUPT or ERR_NOMEM. */
MUST_CHECK int registry_read_ca(struct slice row, struct registry_ca *ca);
MUST_CHECK int registry_read(struct slice row, struct registry_certificate *certificate);
