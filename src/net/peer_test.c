/* What is known of the other end of a connection. */
#include "net/peer.h"

#include "base/mem.h"
#include "base/unit.h"

#include <arpa/inet.h>

static void addresses_are_written(void **state)
{
    (void)state;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr), 1);
    const struct peer *peer = peer_new((const struct sockaddr *)&in6);
    assert_string_equal(peer->text, "[2001:db8::1]:9");
    assert_int_equal(peer->address.any.sa_family, AF_INET6);
    assert_memory_equal(&peer->address.in6.sin6_addr, &in6.sin6_addr, sizeof in6.sin6_addr);
    assert_null(peer_unref(peer));
    const struct sockaddr local = {.sa_family = AF_UNIX};
    peer = peer_new(&local);
    assert_string_equal(peer->text, "unix");
    assert_int_equal(peer->address.any.sa_family, AF_UNIX);
    assert_null(peer_unref(peer));
    assert_null(peer_unref(NULL));
}

/* So that a rule about 192.0.2.0/24 holds for a socket of both families, too. */
static void ipv4_within_ipv6_is_ipv4(void **state)
{
    (void)state;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr), 1);
    const struct peer *peer = peer_new((const struct sockaddr *)&in6);
    assert_string_equal(peer->text, "192.0.2.7:9");
    assert_int_equal(peer->address.any.sa_family, AF_INET);
    assert_int_equal(peer->address.in.sin_addr.s_addr, inet_addr("192.0.2.7"));
    assert_int_equal(peer->address.in.sin_port, htons(9));
    assert_null(peer_unref(peer));
}

static void what_is_kept_outlives_the_stage(void **state)
{
    (void)state;
    const struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(1)};
    const uint64_t before = mem_used();
    const struct peer *socket = peer_new((const struct sockaddr *)&in);
    struct peer *more = peer_fork(socket);
    more->sni = mem_strdup("broker.example");
    more->tls = PEER_TLS_1_3;
    assert_string_equal(more->text, socket->text);
    assert_null(peer_unref(socket));
    const struct peer *kept = peer_ref(more);
    assert_null(peer_unref(more));
    assert_string_equal(kept->text, "0.0.0.0:1");
    assert_string_equal(kept->sni, "broker.example");
    assert_null(peer_unref(kept));
    assert_int_equal(mem_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written),
        cmocka_unit_test(ipv4_within_ipv6_is_ipv4),
        cmocka_unit_test(what_is_kept_outlives_the_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
