/* The header of the PROXY protocol, versions 1 and 2, in which a proxy or load balancer tells for
 * whom it connects. Spec: haproxy.org, "The PROXY protocol", sections 2.1 and 2.2.
 *
 * Pure functions over bytes. Thread: any.
 */
#pragma once

#include "base/buf.h"

/* Of version 2; a longer header is refused. Version 1 has at most 107 bytes. */
#define PROXY_PROTOCOL_SIZE_MAX 4096u

enum proxy_source {
    PROXY_SOURCE_NONE, /* the proxy speaks for itself, or does not know */
    PROXY_SOURCE_IPV4,
    PROXY_SOURCE_IPV6,
    PROXY_SOURCE_UNIX,
};

struct proxy_protocol {
    uint32_t size; /* of the header */
    enum proxy_source source;
    uint8_t address[16]; /* of the client, the first 4 bytes for IPv4 */
    uint16_t port;
    struct slice authority; /* version 2: the name that the client asked for (SNI); may be empty */
};

/* Parses a header at the beginning of a stream. ret_header->authority borrows from `bytes`.
 * Returns 0; ERR_AGAIN: it goes on; ERR_NOTFOUND: this is no header; ERR_MALFORMED: it begins like
 * one, but breaks the rules, or its checksum is wrong; ERR_FULL: it is too long. */
MUST_CHECK int proxy_protocol_parse(const uint8_t *bytes, size_t size,
                                    struct proxy_protocol *ret_header);
