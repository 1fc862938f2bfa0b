/* Strict where leniency would let two readers see two requests: line ends are CRLF, no blank stands
 * in front of a colon, no line is continued, no body follows. What is unknown is passed over, so no
 * extension is ever agreed upon.
 */
#include "wire/http_upgrade.h"

#include "base/strbuf.h"

#include <gnutls/crypto.h>
#include <string.h>
#include <strings.h>

enum { HEADERS_MAX = 100, KEY_SIZE = 24, SHA1_SIZE = 20 };

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* What the headers said. Slices lie in the request. */
struct request {
    struct slice method, target, version; /* HTTP's */
    struct slice key, origin;
    uint32_t host_count, key_count, version_count, origin_count, header_count;
    bool upgrade, connection, version_13, offers_mqtt, offers_mqttv31, has_body;
};

struct refusal {
    uint16_t status;
    const char *phrase;
    const char *fault;
};

static const struct refusal no_http = {400, "Bad Request",
                                       "this is not HTTP; MQTT over WebSocket is served here"};
static const struct refusal bad_line = {400, "Bad Request",
                                        "the first line of a request is "
                                        "METHOD PATH HTTP/1.1"};
static const struct refusal bad_header = {400, "Bad Request",
                                          "a header must be NAME: VALUE and end with CRLF"};
static const struct refusal bad_host = {400, "Bad Request", "exactly one Host header is needed"};
static const struct refusal bad_body = {400, "Bad Request", "an upgrade request has no body"};
static const struct refusal bad_connection = {400, "Bad Request",
                                              "the header 'Connection: Upgrade' is missing"};
static const struct refusal bad_key = {
    400, "Bad Request", "exactly one Sec-WebSocket-Key of 16 bytes in base64 is needed"};
static const struct refusal bad_protocol = {400, "Bad Request",
                                            "Sec-WebSocket-Protocol must offer mqtt (or mqttv3.1)"};
static const struct refusal bad_origin = {403, "Forbidden",
                                          "pages of this Origin are not allowed, see "
                                          "websocket.origins"};
static const struct refusal bad_path = {404, "Not Found", "this path is not served"};
static const struct refusal bad_method = {405, "Method Not Allowed",
                                          "WebSocket begins with a GET request"};
static const struct refusal bad_upgrade = {
    426, "Upgrade Required", "MQTT over WebSocket: the header 'Upgrade: websocket' is missing"};
static const struct refusal bad_version = {426, "Upgrade Required",
                                           "the only Sec-WebSocket-Version is 13"};
static const struct refusal too_large = {431, "Request Header Fields Too Large",
                                         "the request is larger than 8 KiB or has more than 100 "
                                         "headers"};
static const struct refusal no_hash = {500, "Internal Server Error",
                                       "GnuTLS refuses to compute SHA-1, which WebSocket needs"};
static const struct refusal bad_http_version = {505, "HTTP Version Not Supported",
                                                "WebSocket needs HTTP/1.1"};

/* --- letters ---------------------------------------------------------------------------------- */

static bool is_token(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= 'a' && byte <= 'z') || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token_text(struct slice text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if (!is_token(text.bytes[i]))
            return false;
    }
    return text.size > 0;
}

/* Text of a header: anything but control characters, the tab excepted. */
static bool is_plain(struct slice text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if ((text.bytes[i] < 0x20 && text.bytes[i] != '\t') || text.bytes[i] == 0x7f)
            return false;
    }
    return true;
}

static bool is(struct slice text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.bytes, word, text.size) == 0;
}

static bool is_nocase(struct slice text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.bytes, word, text.size) == 0;
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t'))
        text = slice_of(text.bytes + 1, text.size - 1);
    while (text.size > 0 && (text.bytes[text.size - 1] == ' ' || text.bytes[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Cuts off what stands before `mark`, or all of it. false: there was nothing left. */
static bool next_part(struct slice *rest, uint8_t mark, struct slice *ret_part)
{
    if (!rest->bytes)
        return false;
    const uint8_t *end = memchr(rest->bytes, mark, rest->size);
    if (!end) {
        *ret_part = *rest;
        *rest = slice_of(NULL, 0);
        return true;
    }
    *ret_part = slice_of(rest->bytes, (size_t)(end - rest->bytes));
    *rest = slice_of(end + 1, rest->size - ret_part->size - 1);
    return true;
}

static bool list_has(struct slice list, const char *word)
{
    struct slice part;
    while (next_part(&list, ',', &part)) {
        if (is_nocase(trim(part), word))
            return true;
    }
    return false;
}

/* --- the request ------------------------------------------------------------------------------ */

static const struct refusal *read_line(struct slice line, struct request *request)
{
    struct slice rest = line;
    if (!next_part(&rest, ' ', &request->method) || !next_part(&rest, ' ', &request->target) ||
        !rest.bytes)
        return &bad_line;
    request->version = rest;
    if (!is_token_text(request->method) || request->target.size == 0 ||
        !is_plain(request->target) || rest.size != 8 || memcmp(rest.bytes, "HTTP/", 5) != 0 ||
        rest.bytes[6] != '.')
        return &bad_line;
    return NULL;
}

static void read_protocols(struct slice list, struct request *request)
{
    struct slice part;
    while (next_part(&list, ',', &part)) {
        request->offers_mqtt |= is(trim(part), "mqtt");
        request->offers_mqttv31 |= is(trim(part), "mqttv3.1");
    }
}

static void note_header(struct slice name, struct slice value, struct request *request)
{
    if (is_nocase(name, "host")) {
        request->host_count++;
    } else if (is_nocase(name, "upgrade")) {
        request->upgrade |= list_has(value, "websocket");
    } else if (is_nocase(name, "connection")) {
        request->connection |= list_has(value, "upgrade");
    } else if (is_nocase(name, "sec-websocket-version")) {
        request->version_count++;
        request->version_13 = is(value, "13");
    } else if (is_nocase(name, "sec-websocket-key")) {
        request->key_count++;
        request->key = value;
    } else if (is_nocase(name, "sec-websocket-protocol")) {
        read_protocols(value, request);
    } else if (is_nocase(name, "origin")) {
        request->origin_count++;
        request->origin = value;
    } else if (is_nocase(name, "transfer-encoding") ||
               (is_nocase(name, "content-length") && !is(value, "0"))) {
        request->has_body = true;
    }
}

static const struct refusal *read_header(struct slice line, struct request *request)
{
    struct slice name, value = line;
    if (!next_part(&value, ':', &name) || !value.bytes || !is_token_text(name) || !is_plain(value))
        return &bad_header;
    if (++request->header_count > HEADERS_MAX)
        return &too_large;
    note_header(name, trim(value), request);
    return NULL;
}

/* head: the lines with their ends, without the empty one. */
static const struct refusal *read_lines(struct slice head, struct request *request)
{
    const struct refusal *refusal = NULL;
    for (bool first = true; head.size > 0 && !refusal; first = false) {
        const uint8_t *end = memmem(head.bytes, head.size, "\r\n", 2);
        ASSERT(end != NULL);
        const struct slice line = slice_of(head.bytes, (size_t)(end - head.bytes));
        head = slice_of(end + 2, head.size - line.size - 2);
        refusal = first ? read_line(line, request) : read_header(line, request);
    }
    return refusal;
}

/* The path of the target, which may be a whole URL; the query is nobody's business. */
static struct slice path_of(struct slice target)
{
    static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        const size_t size = strlen(schemes[i]);
        if (target.size <= size || strncasecmp((const char *)target.bytes, schemes[i], size) != 0)
            continue;
        const uint8_t *path = memchr(target.bytes + size, '/', target.size - size);
        if (!path)
            return slice_str("/");
        target = slice_of(path, target.size - (size_t)(path - target.bytes));
        break;
    }
    struct slice path;
    (void)next_part(&target, '?', &path);
    return path;
}

static bool is_welcome(const struct http_upgrade_rules *rules, const struct request *request)
{
    if (rules->origin_count == 0 || request->origin_count == 0)
        return true;
    for (uint32_t i = 0; i < rules->origin_count; i++) {
        if (request->origin_count == 1 && is_nocase(request->origin, rules->origins[i]))
            return true;
    }
    return false;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static bool is_key(struct slice key)
{
    if (key.size != KEY_SIZE || memcmp(key.bytes + KEY_SIZE - 2, "==", 2) != 0)
        return false;
    for (uint32_t i = 0; i < KEY_SIZE - 2; i++) {
        if (!memchr(base64_digits, key.bytes[i], sizeof base64_digits - 1))
            return false;
    }
    return true;
}

static const struct refusal *judge(const struct http_upgrade_rules *rules,
                                   const struct request *request)
{
    ASSERT(request->version.size == 8); /* read_line has seen to it */
    ASSERT(request->version.bytes != NULL);
    if (memcmp(request->version.bytes, "HTTP/1.", 7) != 0 || request->version.bytes[7] < '1')
        return &bad_http_version;
    if (request->host_count != 1)
        return &bad_host;
    if (!is(path_of(request->target), rules->path))
        return &bad_path;
    if (!is(request->method, "GET"))
        return &bad_method;
    if (request->has_body)
        return &bad_body;
    if (!request->upgrade)
        return &bad_upgrade;
    if (!request->connection)
        return &bad_connection;
    if (request->version_count != 1 || !request->version_13)
        return &bad_version;
    if (request->key_count != 1 || !is_key(request->key))
        return &bad_key;
    if (!is_welcome(rules, request))
        return &bad_origin;
    if (!request->offers_mqtt && !request->offers_mqttv31)
        return &bad_protocol;
    return NULL;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void base64_write(const uint8_t *bytes, uint32_t size, struct strbuf *text)
{
    const char *digits = base64_digits;
    for (uint32_t i = 0; i < size; i += 3) {
        const uint32_t left = size - i;
        const uint32_t three = (uint32_t)bytes[i] << 16 |
                               (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                               (left > 2 ? bytes[i + 2] : 0);
        const char four[] = {
            digits[three >> 18],
            digits[three >> 12 & 63],
            left > 1 ? digits[three >> 6 & 63] : '=',
            left > 2 ? digits[three & 63] : '=',
        };
        strbuf_add_bytes(text, four, sizeof four);
    }
}

/* Proves that the request was understood: the hash of its key and a constant. */
static int add_proof(struct slice key, struct strbuf *text)
{
    uint8_t together[KEY_SIZE + sizeof GUID - 1], hash[SHA1_SIZE];
    ASSERT(key.bytes != NULL);
    memcpy(together, key.bytes, KEY_SIZE);
    memcpy(together + KEY_SIZE, GUID, sizeof GUID - 1);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA1, together, sizeof together, hash) < 0)
        return ERR_INVALID;
    base64_write(hash, sizeof hash, text);
    return 0;
}

static int refuse(const struct refusal *refusal, const struct http_upgrade_rules *rules,
                  struct http_upgrade_answer *ret_answer)
{
    char body[HTTP_UPGRADE_ANSWER_MAX / 2];
    struct strbuf body_text, text;
    strbuf_init_array(&body_text, body, sizeof body);
    if (refusal == &bad_path)
        strbuf_addf(&body_text, "MQTT over WebSocket is served at %s.\n", rules->path);
    else
        strbuf_addf(&body_text, "%s.\n", refusal->fault);
    strbuf_init_array(&text, ret_answer->text, sizeof ret_answer->text);
    strbuf_addf(&text, "HTTP/1.1 %u %s\r\n", refusal->status, refusal->phrase);
    if (refusal->status == 405)
        strbuf_add(&text, "Allow: GET\r\n");
    if (refusal->status == 426)
        strbuf_add(&text, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    strbuf_addf(&text,
                "Connection: %sclose\r\nContent-Type: text/plain; charset=utf-8\r\n"
                "X-Content-Type-Options: nosniff\r\nContent-Length: %zu\r\n\r\n%s",
                refusal->status == 426 ? "Upgrade, " : "", body_text.size, body);
    ASSERT(strbuf_err(&text) == 0);
    ret_answer->size = (uint32_t)text.size;
    ret_answer->status = refusal->status;
    ret_answer->fault = refusal->fault;
    return ERR_PROTOCOL;
}

static int welcome(const struct request *request, struct http_upgrade_answer *ret_answer)
{
    struct strbuf text;
    strbuf_init_array(&text, ret_answer->text, sizeof ret_answer->text);
    strbuf_add(&text, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    const int err = add_proof(request->key, &text);
    if (err < 0)
        return err;
    strbuf_addf(&text, "\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                request->offers_mqtt ? "mqtt" : "mqttv3.1");
    ASSERT(strbuf_err(&text) == 0);
    ret_answer->size = (uint32_t)text.size;
    ret_answer->status = 101;
    ret_answer->fault = NULL;
    return 0;
}

/* What is no HTTP is known by its first bytes: MQTT without WebSocket, or TLS. */
static bool may_be_http(const uint8_t *bytes, uint32_t size)
{
    const uint8_t *blank = memchr(bytes, ' ', size);
    const struct slice method = slice_of(bytes, blank ? (size_t)(blank - bytes) : size);
    return size == 0 || is_token_text(method);
}

int http_upgrade_read(const struct http_upgrade_rules *rules, const uint8_t *bytes, uint32_t size,
                      uint32_t *ret_used, struct http_upgrade_answer *ret_answer)
{
    struct request request = {0};
    if (!may_be_http(bytes, size))
        return refuse(&no_http, rules, ret_answer);
    const uint8_t *end = memmem(bytes, MIN(size, HTTP_UPGRADE_REQUEST_MAX), "\r\n\r\n", 4);
    if (!end && size < HTTP_UPGRADE_REQUEST_MAX)
        return ERR_AGAIN;
    if (!end)
        return refuse(&too_large, rules, ret_answer);
    const uint32_t head_size = (uint32_t)(end - bytes) + 2;
    const struct refusal *refusal = read_lines(slice_of(bytes, head_size), &request);
    if (!refusal)
        refusal = judge(rules, &request);
    if (!refusal && welcome(&request, ret_answer) < 0)
        refusal = &no_hash;
    if (refusal)
        return refuse(refusal, rules, ret_answer);
    *ret_used = head_size + 2;
    return 0;
}

bool http_upgrade_path_check(const char *path)
{
    const size_t size = strlen(path);
    for (size_t i = 0; i < size; i++) {
        if (path[i] <= 0x20 || path[i] > 0x7e || strchr("?#\"<>\\^`{|}", path[i]) != NULL)
            return false;
    }
    return path[0] == '/' && size <= HTTP_UPGRADE_PATH_MAX;
}
