#include "wire/proxy_protocol.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/unit.h"

#include <arpa/inet.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4      "\x21\x11"
#define V2(text)  SIGNATURE text, sizeof(SIGNATURE text) - 1

/* From memory of exactly this size, so that reading beyond is found out. */
static int parse(const void *bytes, size_t size, struct proxy_protocol *ret_header)
{
    uint8_t *copy = mem_new(size);
    memcpy(copy, bytes, size);
    const int err = proxy_protocol_parse(copy, size, ret_header);
    mem_free(copy);
    return err;
}

static void lines_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum proxy_source source;
        const char *address;
        uint16_t port;
    } rows[] = {
        {"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", PROXY_SOURCE_IPV4, "192.0.2.7", 56324},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", PROXY_SOURCE_IPV4,
         "255.255.255.255", 65535},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n", PROXY_SOURCE_IPV4, "1.2.3.4", 0},
        {"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", PROXY_SOURCE_IPV6, "2001:db8::1", 1},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         PROXY_SOURCE_IPV6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535},
        {"PROXY UNKNOWN\r\n", PROXY_SOURCE_NONE, NULL, 0},
        {"PROXY UNKNOWN ffff:: whatever it may be\r\n", PROXY_SOURCE_NONE, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct proxy_protocol header;
        uint8_t address[16] = {0};
        const size_t size = strlen(rows[i].line);
        assert_int_equal(parse(rows[i].line, size, &header), 0);
        assert_int_equal(header.size, size);
        assert_int_equal(header.source, rows[i].source);
        assert_int_equal(header.port, rows[i].port);
        if (rows[i].address)
            assert_int_equal(inet_pton(rows[i].source == PROXY_SOURCE_IPV4 ? AF_INET : AF_INET6,
                                       rows[i].address, address),
                             1);
        assert_memory_equal(header.address, address, rows[i].source == PROXY_SOURCE_IPV4 ? 4 : 16);
        /* Cut off anywhere there is more to come. */
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(parse(rows[i].line, cut, &header), ERR_AGAIN);
    }
}

static void wrong_lines_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "PROXY \r\n",
        "PROXY \n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 x\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 99999999999999999999 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1x 1\r\n",
        "PROXY TCP4 1.2.3.400 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP6 2001:db8:::1 ::1 1 1\r\n",
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff1 ::1 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct proxy_protocol header;
        if (parse(rows[i], strlen(rows[i]), &header) != ERR_MALFORMED)
            fail_msg("%s", rows[i]);
    }
    /* A NUL in the middle, and a line without an end. */
    struct proxy_protocol header;
    char text[] = "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n";
    text[13] = '\0';
    assert_int_equal(parse(text, sizeof text - 1, &header), ERR_MALFORMED);
    char endless[200];
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "PROXY UNKNOWN ", 14);
    assert_int_equal(parse(endless, 106, &header), ERR_AGAIN);
    assert_int_equal(parse(endless, 107, &header), ERR_MALFORMED);
}

static void what_is_no_header_is_told_at_once(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "\x10", "\x16\x03", "P\x10", "PROXX", "GET / HTTP/1.1\r\n", "\r\n\r\n\r", "\r\n\r\nX"};
    struct proxy_protocol header;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        assert_int_equal(parse(rows[i], strlen(rows[i]), &header), ERR_NOTFOUND);
    assert_int_equal(proxy_protocol_parse(NULL, 0, &header), ERR_AGAIN);
}

static void binary_headers_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum proxy_source source;
        uint8_t first;
        uint16_t port;
        const char *authority;
    } rows[] = {
        {V2(TCP4 "\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"), PROXY_SOURCE_IPV4, 0xc0,
         0xdc04, ""},
        {V2(TCP4 "\0\x16\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb\x02\0\x03"
                 "a.b\x04\0\x01x"),
         PROXY_SOURCE_IPV4, 0xc0, 0xdc04, "a.b"},
        {V2("\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34\x56\x78"),
         PROXY_SOURCE_IPV6, 0x20, 0x1234, ""},
        {V2("\x20\0\0\0"), PROXY_SOURCE_NONE, 0, 0, ""},
        {V2("\x20\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"), PROXY_SOURCE_NONE, 0,
         0, ""},
        {V2("\x20\xff\0\x02\xaa\xbb"), PROXY_SOURCE_NONE, 0, 0, ""},
        {V2("\x21\0\0\x02\xaa\xbb"), PROXY_SOURCE_NONE, 0, 0, ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct proxy_protocol header;
        assert_int_equal(
            proxy_protocol_parse((const uint8_t *)rows[i].bytes, rows[i].size, &header), 0);
        assert_int_equal(header.size, rows[i].size);
        assert_int_equal(header.source, rows[i].source);
        assert_int_equal(header.address[0], rows[i].first);
        assert_int_equal(header.port, rows[i].port);
        assert_true(slice_equal(header.authority, slice_str(rows[i].authority)));
        for (size_t cut = 0; cut < rows[i].size; cut++)
            assert_int_equal(parse(rows[i].bytes, cut, &header), ERR_AGAIN);
    }
    uint8_t local[16 + 216] = SIGNATURE "\x21\x31\0\xd8";
    struct proxy_protocol header;
    assert_int_equal(parse(local, sizeof local, &header), 0);
    assert_int_equal(header.source, PROXY_SOURCE_UNIX);
}

static void wrong_binary_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        int err;
    } rows[] = {
        {V2("\x11\x11\0\0"), ERR_MALFORMED},                         /* version 1 */
        {V2("\x31\x11\0\0"), ERR_MALFORMED},                         /* version 3 */
        {V2("\x22\x11\0\0"), ERR_MALFORMED},                         /* an unknown command */
        {V2("\x21\x11\0\x0b\0\0\0\0\0\0\0\0\0\0\0"), ERR_MALFORMED}, /* too short for its family */
        {V2("\x21\x21\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0"), ERR_MALFORMED},
        {V2("\x21\x31\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0"), ERR_MALFORMED},
        {V2("\x21\x12\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0"), ERR_MALFORMED},  /* datagrams */
        {V2("\x21\x41\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0"), ERR_MALFORMED},  /* an unknown family */
        {V2(TCP4 "\0\x0d\0\0\0\0\0\0\0\0\0\0\0\0\x02"), ERR_MALFORMED}, /* half a TLV */
        {V2(TCP4 "\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\x01"), ERR_MALFORMED}, /* longer than all */
        {V2(TCP4 "\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0"), ERR_MALFORMED},   /* a short checksum */
        {V2(TCP4 "\0\x13\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\x04\0\0\0\0"),
         ERR_MALFORMED}, /* a wrong one */
        {V2("\x21\x11\xff\xff"), ERR_FULL},
        {V2("\x20\x00\x0f\xf1"), ERR_FULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct proxy_protocol header;
        if (parse(rows[i].bytes, rows[i].size, &header) != rows[i].err)
            fail_msg("row %zu", i);
    }
    struct proxy_protocol header;
    assert_int_equal(parse(V2("\x20\x00\x0f\xf0"), &header), ERR_AGAIN); /* the longest */
}

static void checksums_are_verified(void **state)
{
    (void)state;
    uint8_t bytes[] = SIGNATURE TCP4 "\0\x13\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
                                     "\x03\0\x04\0\0\0\0";
    const size_t size = sizeof bytes - 1;
    struct proxy_protocol header;
    const uint32_t crc = crc32c(0, bytes, size);
    for (int i = 0; i < 4; i++)
        bytes[size - 4 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    assert_int_equal(parse(bytes, size, &header), 0);
    for (size_t i = 16; i < size; i++) {
        bytes[i] ^= 1;
        if (i != 28) /* there a TLV of another type is none of ours */
            assert_int_equal(parse(bytes, size, &header), ERR_MALFORMED);
        bytes[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_parsed),
        cmocka_unit_test(wrong_lines_are_refused),
        cmocka_unit_test(what_is_no_header_is_told_at_once),
        cmocka_unit_test(binary_headers_are_parsed),
        cmocka_unit_test(wrong_binary_headers_are_refused),
        cmocka_unit_test(checksums_are_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
