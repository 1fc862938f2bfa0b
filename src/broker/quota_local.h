/* The quota service of a server that is alone: a bucket for each kind. Thread: loop. */
#pragma once

#include "broker/quota_service.h"

#define QUOTA_LOCAL_LEASE_MS 10u /* what has come in so long is one lease */

/* Freed with ops->free. */
struct quota_service *quota_local_new(void);
