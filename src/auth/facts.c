#include "auth/facts.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define ADDRESS_TEXT_MAX 64u

static const char *const names[FACT_COUNT] = {
    [FACT_CLIENT_ID] = "ClientId",
    [FACT_USERNAME] = "Username",
    [FACT_COUNTRY] = "Certificate.Subject.Country",
    [FACT_ORGANIZATION] = "Certificate.Subject.Organization",
    [FACT_UNIT] = "Certificate.Subject.OrganizationalUnit",
    [FACT_STATE] = "Certificate.Subject.State",
    [FACT_COMMON_NAME] = "Certificate.Subject.CommonName",
    [FACT_SERIAL] = "Certificate.Subject.SerialNumber",
};

const char *fact_name(enum fact fact)
{
    return names[fact];
}

uint32_t fact_find(struct slice text, enum fact *ret_fact)
{
    uint32_t found = 0;
    for (int i = 0; i < FACT_COUNT; i++) {
        const uint32_t size = (uint32_t)strlen(names[i]);
        if (size <= found || size > text.size ||
            strncasecmp((const char *)text.bytes, names[i], size) != 0)
            continue; /* the longest counts: Organization begins OrganizationalUnit, almost */
        found = size;
        *ret_fact = (enum fact)i;
    }
    return found;
}

static void unmap(struct address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->family != 6 || memcmp(address->bytes, mapped, sizeof mapped) != 0)
        return;
    memmove(address->bytes, address->bytes + sizeof mapped, 4);
    memset(address->bytes + 4, 0, sizeof mapped);
    address->family = 4;
}

/* The address alone, without brackets and port. Returns 0 or ERR_INVALID. */
static int parse_plain(struct slice text, struct address *ret_address)
{
    char copy[ADDRESS_TEXT_MAX];
    struct address address = {0};
    if (text.size == 0 || text.size >= sizeof copy || memchr(text.bytes, '\0', text.size))
        return ERR_INVALID;
    memcpy(copy, text.bytes, text.size);
    copy[text.size] = '\0';
    if (inet_pton(AF_INET, copy, address.bytes) == 1)
        address.family = 4;
    else if (inet_pton(AF_INET6, copy, address.bytes) == 1)
        address.family = 6;
    else
        return ERR_INVALID;
    *ret_address = address;
    return 0;
}

/* Without "[", "]" and ":port". */
static struct slice strip(struct slice text)
{
    if (text.size > 0 && text.bytes[0] == '[') {
        const uint8_t *end = memchr(text.bytes, ']', text.size);
        return end ? slice_of(text.bytes + 1, (size_t)(end - text.bytes) - 1) : slice_of("", 0);
    }
    const uint8_t *colon = text.size > 0 ? memchr(text.bytes, ':', text.size) : NULL;
    if (!colon || memrchr(text.bytes, ':', text.size) != colon)
        return text; /* no port, or IPv6 without brackets */
    return slice_of(text.bytes, (size_t)(colon - text.bytes));
}

struct address address_parse(struct slice text)
{
    struct address address = {0};
    if (parse_plain(strip(text), &address) < 0)
        return (struct address){0};
    unmap(&address);
    return address;
}

/* "0" to "128" without a sign. Returns -1 for anything else. */
static int parse_bits(struct slice text)
{
    int bits = 0;
    if (text.size == 0 || text.size > 3)
        return -1;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9')
            return -1;
        bits = bits * 10 + (text.bytes[i] - '0');
    }
    return bits;
}

int network_parse(struct slice text, struct network *ret_network)
{
    struct network network;
    const uint8_t *slash = text.size > 0 ? memchr(text.bytes, '/', text.size) : NULL;
    const uint32_t size = slash ? (uint32_t)(slash - text.bytes) : text.size;
    if (parse_plain(slice_of(text.bytes, size), &network.base) < 0)
        return ERR_INVALID;
    const int most = network.base.family == 4 ? 32 : 128;
    int bits = most;
    if (slash)
        bits = parse_bits(slice_of(slash + 1, text.size - size - 1));
    if (bits < 0 || bits > most)
        return ERR_INVALID;
    const uint8_t family = network.base.family;
    if (family == 6 && bits >= 96) {
        unmap(&network.base);
        if (network.base.family == 4)
            bits -= 96;
    }
    network.bits = (uint8_t)bits;
    *ret_network = network;
    return 0;
}

bool network_has(const struct network *network, const struct address *address)
{
    if (address->family == 0 || address->family != network->base.family)
        return false;
    const uint32_t whole = network->bits / 8, rest = network->bits % 8;
    if (memcmp(address->bytes, network->base.bytes, whole) != 0)
        return false;
    const uint8_t mask = (uint8_t)(0xff00u >> rest);
    return rest == 0 || ((address->bytes[whole] ^ network->base.bytes[whole]) & mask) == 0;
}
