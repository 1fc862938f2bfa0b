/* Fuzz target: datagrams to an endpoint, as they come from anywhere.
 *
 * The input is a list of datagrams: a byte that says how it is dressed, two of its size, and then
 * its bytes. As it is; or as the rest of an Initial, whose header is made well and which is as long
 * as it must be, so that the parsers behind the header are reached; or with a short header and an
 * ID that a connection has. Nothing may crash or be left behind, and no stream may come of it,
 * because no fuzzer finishes a handshake.
 */
#include "base/mem.h"
#include "io/file.h"
#include "net/quic_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { LEAST = 1200, HEAD = 3, DRESSES = 3 };

struct bed {
    struct loop *loop;
    struct tls_source *source;
    struct quic *quic;
    struct quic_endpoint *endpoint;
};

static bool on_accept(void *data, struct stream *stream, const struct peer *peer)
{
    (void)data;
    (void)stream;
    (void)peer;
    abort();
}

static void check(int code)
{
    ASSERT(code >= 0);
}

/* A certificate that has signed itself, and its key, in one file. */
static void make_certificate(int dir_fd)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t pem[2];
    char text[8192];
    check(gnutls_x509_privkey_init(&key));
    check(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    check(gnutls_x509_crt_init(&crt));
    check(gnutls_x509_crt_set_version(crt, 3));
    check(gnutls_x509_crt_set_serial(crt, "\x01", 1));
    check(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 1));
    check(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 1000000));
    check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "fuzz", 4));
    check(gnutls_x509_crt_set_key(crt, key));
    check(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
    check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem[0]));
    check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem[1]));
    const size_t size = pem[0].size + pem[1].size;
    ASSERT(size < sizeof text);
    memcpy(text, pem[0].data, pem[0].size);
    memcpy(text + pem[0].size, pem[1].data, pem[1].size);
    check(file_write_whole(dir_fd, "server.pem", text, size, 0600));
    gnutls_free(pem[0].data);
    gnutls_free(pem[1].data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void bind_loopback(struct quic_endpoint *endpoint)
{
    const struct sockaddr_in any = {.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(fd);
    check(bind(fd, (const struct sockaddr *)&any, sizeof any));
    check(quic_endpoint_add(endpoint, fd));
}

/* Made once: what is in files, and the keys. */
static void open_bed(struct bed *bed)
{
    char dir[] = "/tmp/quic_fuzz_XXXXXX";
    struct errmsg why = {0};
    ASSERT(mkdtemp(dir) != NULL);
    const int dir_fd = open(dir, O_DIRECTORY | O_CLOEXEC);
    make_certificate(dir_fd);
    char path[64] = {0};
    memcpy(path, dir, strlen(dir));
    memcpy(path + strlen(dir), "/server.pem", sizeof "/server.pem");
    const char *const files[] = {path};
    const struct tls_options options = {.certificates = {files, 1}};
    check(loop_new(&bed->loop, &why));
    check(tls_source_new("", &options, &bed->source, &why));
    const struct quic_config config = {
        .loop = bed->loop, .dir = dir, .handshake_timeout_ms = 1000, .idle_timeout_ms = 1000};
    check(quic_new(&config, &bed->quic, &why));
    check(unlinkat(dir_fd, "server.pem", 0));
    check(unlinkat(dir_fd, QUIC_SECRETS_FILE, 0));
    (void)close(dir_fd);
    check(rmdir(dir));
}

/* Puts the bytes into a datagram. Returns its size. */
static size_t dress(const struct quic_endpoint *endpoint, uint8_t how, struct slice bytes,
                    uint8_t room[QUIC_DATAGRAM_MAX])
{
    /* Version 1, IDs of 8 bytes and none, no token, and a length for all that can follow. */
    static const uint8_t initial[] = {0xc3, 0,   0,   0,   1,   8, 'I', 'D',  'E',
                                      'N',  'T', 'I', 'T', 'Y', 0, 0,   0x44, 0x9e};
    size_t used = 0;
    memset(room, 0, QUIC_DATAGRAM_MAX);
    const struct quic_conn *conn = LIST_FIRST(&endpoint->conns, struct quic_conn, node);
    if (how == 1) {
        memcpy(room, initial, sizeof initial);
        used = sizeof initial;
    } else if (how == 2 && conn && !list_empty(&conn->cids)) {
        const ngtcp2_cid *id = &CONTAINER_OF(conn->cids.next, struct quic_cid, of)->id;
        room[0] = 0x40;
        memcpy(room + 1, id->data, id->datalen);
        used = 1 + id->datalen;
    }
    const size_t part = MIN(bytes.size, QUIC_DATAGRAM_MAX - used);
    if (part > 0)
        memcpy(room + used, bytes.bytes, part);
    return how == 1 ? MAX(used + part, (size_t)LEAST) : used + part;
}

static void take(struct bed *bed, uint8_t how, struct slice bytes)
{
    uint8_t room[QUIC_DATAGRAM_MAX];
    struct quic_socket *sock = &bed->endpoint->sockets[0];
    struct quic_datagram datagram = {.path = {.socket = sock, .local = sock->bound}, .bytes = room};
    datagram.size = dress(bed->endpoint, how, bytes, room);
    /* Answers come back to the socket itself, and are one more kind of datagram. */
    datagram.path.remote = sock->bound;
    if (datagram.size > 0)
        quic_endpoint_take(bed->endpoint, &datagram);
    check(loop_turn(bed->loop, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct bed bed;
    if (!bed.quic)
        open_bed(&bed);
    const struct quic_endpoint_config config = {
        .source = bed.source, .retry_always = size % 2 == 1, .on_accept = on_accept};
    bed.endpoint = quic_endpoint_new(bed.quic, &config);
    bind_loopback(bed.endpoint);
    while (size >= HEAD) {
        const size_t part = MIN(size - HEAD, (size_t)(bytes[1] << 8 | bytes[2]));
        take(&bed, bytes[0] % DRESSES, slice_of(bytes + HEAD, part));
        bytes += HEAD + part;
        size -= HEAD + part;
    }
    quic_endpoint_end(bed.endpoint);
    return 0;
}
