/* Templates: texts with ${ClientId}, ${Username}, ${Password} and ${Address} in them, filled in
 * from what a client presents. Anything else in ${…} is an error, told when the configuration is
 * read. Private to auth/. Thread: any.
 */
#pragma once

#include "auth/auth.h"
#include "base/strbuf.h"

/* How a value is written. */
enum template_form {
    TEMPLATE_PLAIN,
    TEMPLATE_URL, /* percent-encoded */
};

/* Returns 0, or ERR_INVALID with the variable at fault in reterr. */
MUST_CHECK int template_check(const char *text, struct errmsg *reterr);
/* true when the variable, such as "${Password}", stands in the text. */
bool template_has(const char *text, const char *variable);
/* Adds the filled-in text; a value that the client has not given is empty. */
void template_fill(const char *text, const struct auth_credentials *credentials,
                   enum template_form form, struct strbuf *out);
