/* Registered CAs and certificates as the API writes them. Private to admin. */
#pragma once

#include "admin/request.h"
#include "auth/registry.h"

json_t *registry_ca_json(const struct registry_ca *ca);
json_t *registry_certificate_json(const struct registry_certificate *certificate);

/* A serial number as people write it, made what the registry knows it by: upper case, without the
 * colons and leading zeros that some tools print. */
struct serial {
    char text[RECORD_NAME_MAX + 1];
};
void serial_read(struct slice text, struct serial *ret_serial);
struct slice serial_slice(const struct serial *serial);
