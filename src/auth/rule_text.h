/* Policies and block rules as texts to be stored: the JSON of their items in the API. Pure; any
 * thread. */
#pragma once

#include "auth/rulebook.h"
#include "base/strbuf.h"

/* Returns 0, ERR_NOMEM or ERR_FULL. */
MUST_CHECK int rule_text_write(const struct rule *rule, struct strbuf *out);
MUST_CHECK int block_text_write(const struct block *block, struct strbuf *out);
/* The same rule with another priority, ids and times included; the caller owns it. Returns 0;
 * ERR_INVALID with a sentence in reterr: there is no such priority; ERR_NOMEM. */
MUST_CHECK int rule_with_priority(const struct rule *rule, uint32_t priority,
                                  struct rule **ret_rule, struct errmsg *reterr);
/* Reads what was written. Returns 0; ERR_INVALID with a sentence in reterr; ERR_NOMEM. */
MUST_CHECK int rule_text_read(struct slice text, struct rule **ret_rule, struct errmsg *reterr);
MUST_CHECK int block_text_read(struct slice text, struct block **ret_block, struct errmsg *reterr);
