/* The configuration as each part of the server wants it. The results borrow from `config`. */
#pragma once

#include "admin/admin.h"
#include "app/config.h"
#include "app/instance.h"
#include "auth/auth.h"
#include "broker/broker.h"
#include "proxy/proxy.h"
#include "store/local/local.h"

void mapping_local(const struct config *config, struct local_config *ret_local);
void mapping_broker(const struct config *config, struct broker_config *ret_broker);
/* connections_max: what limits.max_connections comes to in this process. */
void mapping_proxy(const struct config *config, uint64_t connections_max,
                   struct proxy_config *ret_proxy);
void mapping_auth(const struct config *config, struct auth_config *ret_auth);
/* instance: borrowed too. */
void mapping_admin(const struct config *config, const struct instance *instance,
                   uint64_t connections_max, struct admin_config *ret_admin);
