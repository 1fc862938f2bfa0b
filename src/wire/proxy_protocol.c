#include "wire/proxy_protocol.h"

#include "base/crc32c.h"

#include <arpa/inet.h>
#include <string.h>

/* --- version 1: a line of text ---------------------------------------------------------------- */

#define V1_BEGIN "PROXY "

enum { V1_SIZE_MAX = 107, WORD_MAX = 46, TEXT_BEGIN_SIZE = sizeof V1_BEGIN - 1 };

/* Takes the next word and the one blank, or the line's end, behind it. */
static int take_word(struct slice *rest, char end, char ret_word[WORD_MAX])
{
    const uint8_t *found = rest->size > 0 ? memchr(rest->bytes, end, rest->size) : NULL;
    const size_t size = found ? (size_t)(found - rest->bytes) : WORD_MAX;
    if (size == 0 || size >= WORD_MAX || memchr(rest->bytes, '\0', size))
        return ERR_MALFORMED;
    memcpy(ret_word, rest->bytes, size);
    ret_word[size] = '\0';
    *rest = slice_of(rest->bytes + size + 1, rest->size - size - 1);
    return 0;
}

static int take_address(struct slice *rest, int family, uint8_t *ret_address)
{
    char word[WORD_MAX];
    const int err = take_word(rest, ' ', word);
    if (err < 0)
        return err;
    return inet_pton(family, word, ret_address) == 1 ? 0 : ERR_MALFORMED;
}

static int take_port(struct slice *rest, char end, uint16_t *ret_port)
{
    char word[WORD_MAX];
    uint32_t port = 0;
    int err = take_word(rest, end, word);
    if (err == 0 && word[0] == '0' && word[1] != '\0')
        err = ERR_MALFORMED;
    for (const char *p = word; err == 0 && *p != '\0'; p++) {
        port = port * 10 + (uint32_t)(*p - '0');
        if (*p < '0' || *p > '9' || port > UINT16_MAX)
            err = ERR_MALFORMED;
    }
    *ret_port = (uint16_t)port;
    return err;
}

/* line: behind "PROXY ", with the CR at its end. */
static int parse_line(struct slice line, struct proxy_protocol *header)
{
    uint8_t destination[16];
    uint16_t destination_port;
    int family;
    if (line.size >= 8 && memcmp(line.bytes, "UNKNOWN", 7) == 0 &&
        (line.bytes[7] == ' ' || line.bytes[7] == '\r'))
        return 0;
    if (line.size < 5)
        return ERR_MALFORMED;
    if (memcmp(line.bytes, "TCP4 ", 5) == 0)
        family = AF_INET;
    else if (memcmp(line.bytes, "TCP6 ", 5) == 0)
        family = AF_INET6;
    else
        return ERR_MALFORMED;
    struct slice rest = slice_of(line.bytes + 5, line.size - 5);
    int err = take_address(&rest, family, header->address);
    if (err == 0)
        err = take_address(&rest, family, destination);
    if (err == 0)
        err = take_port(&rest, ' ', &header->port);
    if (err == 0)
        err = take_port(&rest, '\r', &destination_port);
    header->source = family == AF_INET ? PROXY_SOURCE_IPV4 : PROXY_SOURCE_IPV6;
    return err == 0 && rest.size > 0 ? ERR_MALFORMED : err;
}

static int parse_v1(const uint8_t *bytes, size_t size, struct proxy_protocol *header)
{
    const uint8_t *end = memchr(bytes, '\n', MIN(size, (size_t)V1_SIZE_MAX));
    if (!end)
        return size < V1_SIZE_MAX ? ERR_AGAIN : ERR_MALFORMED;
    if (end - bytes <= TEXT_BEGIN_SIZE || end[-1] != '\r')
        return ERR_MALFORMED;
    header->size = (uint32_t)(end + 1 - bytes);
    return parse_line(slice_of(bytes + TEXT_BEGIN_SIZE, (size_t)(end - bytes) - TEXT_BEGIN_SIZE),
                      header);
}

/* --- version 2: binary ------------------------------------------------------------------------ */

static const uint8_t v2_begin[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { HEAD_SIZE = 16, CHECKSUM_SIZE = 4, TLV_HEAD_SIZE = 3 };
enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };
enum { FAMILY_NONE = 0x00, FAMILY_TCP4 = 0x11, FAMILY_TCP6 = 0x21, FAMILY_UNIX = 0x31 };
enum { TLV_AUTHORITY = 0x02, TLV_CHECKSUM = 0x03 };

static uint16_t u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* The header's checksum, with zeros where it stands itself. */
static bool is_intact(const uint8_t *header, uint32_t size, uint32_t offset)
{
    static const uint8_t zeros[CHECKSUM_SIZE];
    const uint8_t *told = header + offset;
    const uint32_t end = offset + CHECKSUM_SIZE;
    uint32_t crc = crc32c(0, header, offset);
    crc = crc32c(crc, zeros, sizeof zeros);
    crc = crc32c(crc, header + end, size - end);
    return crc == ((uint32_t)u16(told) << 16 | u16(told + 2));
}

static int parse_tlvs(const uint8_t *bytes, uint32_t begin, struct proxy_protocol *header)
{
    uint32_t at = begin;
    while (at < header->size) {
        if (header->size - at < TLV_HEAD_SIZE)
            return ERR_MALFORMED;
        const uint8_t type = bytes[at];
        const uint32_t size = u16(bytes + at + 1);
        at += TLV_HEAD_SIZE;
        if (header->size - at < size)
            return ERR_MALFORMED;
        if (type == TLV_AUTHORITY)
            header->authority = slice_of(bytes + at, size);
        if (type == TLV_CHECKSUM && (size != CHECKSUM_SIZE || !is_intact(bytes, header->size, at)))
            return ERR_MALFORMED;
        at += size;
    }
    return 0;
}

/* Addresses are the client's, the proxy's, then the two ports. */
static int parse_addresses(const uint8_t *bytes, struct proxy_protocol *header)
{
    static const struct {
        uint8_t family;
        enum proxy_source source;
        uint32_t address_size, size;
    } kinds[] = {
        {FAMILY_NONE, PROXY_SOURCE_NONE, 0, 0},
        {FAMILY_TCP4, PROXY_SOURCE_IPV4, 4, 12},
        {FAMILY_TCP6, PROXY_SOURCE_IPV6, 16, 36},
        {FAMILY_UNIX, PROXY_SOURCE_UNIX, 0, 216},
    };
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (kinds[i].family != bytes[13])
            continue;
        if (header->size < HEAD_SIZE + kinds[i].size)
            return ERR_MALFORMED;
        /* With an unknown family what follows may be anything. */
        if (kinds[i].family == FAMILY_NONE)
            return 0;
        header->source = kinds[i].source;
        memcpy(header->address, bytes + HEAD_SIZE, kinds[i].address_size);
        if (kinds[i].address_size > 0)
            header->port = u16(bytes + HEAD_SIZE + kinds[i].address_size * 2);
        return parse_tlvs(bytes, HEAD_SIZE + kinds[i].size, header);
    }
    return ERR_MALFORMED;
}

static int parse_v2(const uint8_t *bytes, size_t size, struct proxy_protocol *header)
{
    if (size < HEAD_SIZE)
        return ERR_AGAIN;
    if (bytes[12] != COMMAND_LOCAL && bytes[12] != COMMAND_PROXY)
        return ERR_MALFORMED;
    header->size = HEAD_SIZE + u16(bytes + 14);
    if (header->size > PROXY_PROTOCOL_SIZE_MAX)
        return ERR_FULL;
    if (size < header->size)
        return ERR_AGAIN;
    return bytes[12] == COMMAND_LOCAL ? 0 : parse_addresses(bytes, header);
}

/* --- both ------------------------------------------------------------------------------------- */

static bool begins(const uint8_t *bytes, size_t size, const void *with, size_t with_size)
{
    return size == 0 || memcmp(bytes, with, MIN(size, with_size)) == 0;
}

int proxy_protocol_parse(const uint8_t *bytes, size_t size, struct proxy_protocol *ret_header)
{
    struct proxy_protocol header = {0};
    int err = ERR_NOTFOUND;
    if (begins(bytes, size, V1_BEGIN, TEXT_BEGIN_SIZE))
        err = size < TEXT_BEGIN_SIZE ? ERR_AGAIN : parse_v1(bytes, size, &header);
    else if (begins(bytes, size, v2_begin, sizeof v2_begin))
        err = size < sizeof v2_begin ? ERR_AGAIN : parse_v2(bytes, size, &header);
    if (err == 0)
        *ret_header = header;
    return err;
}
