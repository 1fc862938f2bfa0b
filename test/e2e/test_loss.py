"""One packet of ten is lost, in either direction, and no message: over TCP, TLS, WebSocket and QUIC."""

import types

import network
import pki
import pytest
from client import Client

LOSS_PERCENT = 10
MESSAGES = 150
PAYLOAD = 2000
UDP = ("quic",)


def listener(server, scheme):
    """What a client must know to connect there."""
    host, port = server.url_of(scheme).removeprefix(f"{scheme}://").split("/")[0].rsplit(":", 1)
    return types.SimpleNamespace(scheme=scheme, host=host, port=int(port))


def exchange(reader, writer, topic, qos, between=lambda number: None):
    """The messages arrive at the reader, once each and in order. between: done before each."""
    wanted = [f"{number} ".ljust(PAYLOAD, "x") for number in range(MESSAGES)]
    sent = []
    for number, payload in enumerate(wanted):
        between(number)
        sent.append(writer.start_publish(topic, payload, qos))
    found = reader.take_many(MESSAGES, timeout_s=60)
    assert [text.split()[0] for text in found] == [text.split()[0] for text in wanted]
    assert found == wanted
    for mid in sent:
        writer.finish(mid, timeout_s=60)
    reader.quiet()


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "wss", "quic"])
def test_no_message_is_lost(make_server, scheme):
    """At QoS 1 and 2, from one client to another. By QUIC the one that publishes changes networks
    meanwhile."""
    shared = pki.shared()

    def play():
        server = make_server(**{"listeners": [f"{scheme}://127.0.0.1:0"],
                                "tls.certificate": shared.path("server.pem"),
                                "tls.private_key": shared.path("server.key")})
        to = listener(server, scheme)
        network.lose(LOSS_PERCENT, {to.port: "udp" if scheme in UDP else "tcp"})
        reader, writer = Client(to, "reader"), Client(to, "writer")
        try:
            for client in (reader, writer):
                client.connect()
            assert reader.subscribe("loss/#", 2) == 2

            def move(number):
                if scheme in UDP and number % 50 == 25:
                    writer.paho.socket().link.migrate()
            for qos in (1, 2):
                exchange(reader, writer, f"loss/{qos}", qos, move)
            if scheme in UDP:
                assert server.metrics()["tidemq_quic_migrations_total"] >= 2
            assert server.metrics()["tidemq_connections_opened_total"] == 2
            assert network.lost(to.port) > MESSAGES / 10
        finally:
            for client in (reader, writer):
                client.abandon()
    network.run_apart(play)
