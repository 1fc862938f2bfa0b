/* Texts with wildcards that are bytes of no UTF-8 text: what patterns become. Pure; any thread. */
#pragma once

#include "base/base.h"
#include "base/buf.h"

#define GLOB_ANY 0xffu /* any characters, none too */
#define GLOB_ONE 0xfeu /* one character */

/* Time: at most the product of both sizes. */
bool glob_matches(struct slice glob, struct slice text);
/* true when there is a topic name that both the glob and the (valid) topic filter match; also
 * sometimes when only a name that begins with '$' is, which the filter does not match. Globs with
 * GLOB_ONE are not for this. Time: the product of both sizes. */
bool glob_overlaps(struct slice glob, struct slice filter);
