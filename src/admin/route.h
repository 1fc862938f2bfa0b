/* Which request is answered by what, and who may ask. Private to admin. */
#pragma once

#include "admin/request.h"

/* true when the request carries the token, or asks for what everybody may read. */
bool route_is_authorised(const struct request *request);
/* Answers, or leaves the request waiting. */
void route_request(struct request *request);
