"""paho-mqtt with calls that wait for their answers."""

import itertools
import os
import queue
import socket
import threading
import uuid
import warnings

import paho.mqtt.client as paho
import transport
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

TIMEOUT_S = 20
_counter = itertools.count(1)


def properties(packet, **values):
    """Properties of a packet, named as in paho; None when there are none."""
    if not values:
        return None
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _codes(reason_codes):
    return [code.value for code in reason_codes]


class Refused(Exception):
    """CONNACK with a reason other than success, or (None) an end without one."""

    def __init__(self, reason):
        super().__init__("no CONNACK" if reason is None else f"refused: {reason:#x}")
        self.reason = reason


class Client:
    """One client. `clean` and `expiry_s` as in the version; messages wait in a queue. tls: the context
    for a server with TLS; the usual one trusts the servers of the tests."""

    def __init__(self, server, client_id=None, *, version=5, clean=True, expiry_s=None,
                 manual_ack=False, keep_alive_s=60, user=None, password=None, will=None,
                 host=None, port=None, tls=None, **connect_properties):
        self.server = server
        self.version = version
        self.client_id = client_id if client_id is not None else f"c{os.getpid()}-{next(_counter)}"
        self.clean = clean
        self.address = (host or server.host, port or server.port)
        self.keep_alive_s = keep_alive_s
        self.connect_properties = dict(connect_properties)
        if expiry_s is not None and version == 5:
            self.connect_properties["SessionExpiryInterval"] = expiry_s
        options = transport.paho_arguments(server.scheme)
        if version != 5:
            options["clean_session"] = clean
        # paho refuses an empty client ID for a 3.1.1 session that is kept, as the server would.
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, self.client_id,
            protocol={3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}[version],
            manual_ack=manual_ack, reconnect_on_failure=False, **options,
        )
        transport.dress(self.paho, server.scheme, tls)
        self.paho.max_inflight_messages_set(500)
        if user is not None:
            self.paho.username_pw_set(user, password)
        if will:
            self._will(**will)
        self.messages = queue.Queue()
        self._connacks = queue.Queue()
        self._answers = {}
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self.session_present = None
        self.granted = None
        self.end_reason = None
        self.paho.on_connect = self._on_connect
        self.paho.on_connect_fail = self._on_connect_fail
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_message = lambda _client, _data, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _c, _d, mid, codes, props: self._answer("sub", mid, (codes, props))
        self.paho.on_unsubscribe = lambda _c, _d, mid, codes, props: self._answer("unsub", mid, (codes, props))
        self.paho.on_publish = lambda _c, _d, mid, code, props: self._answer("pub", mid, (code, props))

    def _will(self, topic, payload=b"", qos=0, retain=False, **values):
        will = properties(PacketTypes.WILLMESSAGE, **values) if self.version == 5 else None
        self.paho.will_set(topic, payload, qos, retain, will)

    # --- callbacks, on paho's thread --------------------------------------------------------------

    def _on_connect(self, _client, _data, flags, reason, props):
        self._connacks.put((reason, flags, props))

    def _on_connect_fail(self, _client, _data):
        self._connacks.put((None, None, None))

    def _on_disconnect(self, _client, _data, _flags, reason, props):
        if not self._ended.is_set():  # paho calls twice: for DISCONNECT, and for the connection
            self.end_reason = reason
            self.end_properties = props
        self._ended.set()
        self._connacks.put((None, None, None))  # for who waits for a CONNACK that will not come
        with self._changed:
            self._changed.notify_all()

    def _answer(self, kind, mid, value):
        with self._changed:
            self._answers[kind, mid] = value
            self._changed.notify_all()

    def _await(self, kind, mid, timeout_s=TIMEOUT_S):
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: (kind, mid) in self._answers or self._ended.is_set(), timeout_s
            )
            assert arrived, f"no answer to {kind} {mid} within {timeout_s} s"
            assert (kind, mid) in self._answers, f"the connection ended: {self.end_reason}"
            return self._answers.pop((kind, mid))

    # --- connection -------------------------------------------------------------------------------

    def connect(self):
        """Connects, or connects again. Raises Refused."""
        options = {}
        self._ended.clear()
        while not self._connacks.empty():
            self._connacks.get()
        if self.version == 5:
            options = {"clean_start": bool(self.clean),
                       "properties": properties(PacketTypes.CONNECT, **self.connect_properties)}
        self.paho.connect(*self.address, self.keep_alive_s, **options)
        sock = transport.socket_below(self.paho.socket())
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.paho.loop_start()
        reason, flags, props = self._connacks.get(timeout=TIMEOUT_S)
        if reason is None or reason.is_failure:
            self.paho.loop_stop()
            raise Refused(reason.value if reason is not None else None)
        self.session_present = flags.session_present
        self.granted = props
        return self

    def disconnect(self, reason=None, **values):
        """An orderly end."""
        props = properties(PacketTypes.DISCONNECT, **values)
        if self.version == 5:
            self.paho.disconnect(reason, props)
        else:
            self.paho.disconnect()
        self._ended.wait(TIMEOUT_S)
        self.paho.loop_stop()

    def drop(self):
        """The connection breaks without a word; returns when the server must have seen it."""
        sock = transport.socket_below(self.paho.socket())
        if sock:
            sock.shutdown(socket.SHUT_RDWR)
        self._ended.wait(TIMEOUT_S)
        self.paho.loop_stop()

    def cut(self):
        """Ends the connection below MQTT, in whatever state it is."""
        sock = transport.socket_below(self.paho.socket())
        if sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def abandon(self):
        """The end of a test: whatever the state is."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.cut()
            self.paho.loop_stop()

    def closed(self, timeout_s=TIMEOUT_S):
        """Waits until the server has ended the connection; returns its reason, or None without."""
        assert self._ended.wait(timeout_s), f"still connected after {timeout_s} s"
        self.paho.loop_stop()
        return self.end_reason.value if self.end_reason is not None else None

    @property
    def connected(self):
        """Whether the connection lives, as far as this side knows."""
        return self.paho.is_connected() and not self._ended.is_set()

    # --- packets ----------------------------------------------------------------------------------

    def subscribe(self, topic_filter, qos=1, *, no_local=False, as_published=False, retain=0,
                  **values):
        """SUBSCRIBE and its SUBACK; returns the one code."""
        return self.subscribe_all(
            [(topic_filter, qos)], no_local=no_local, as_published=as_published, retain=retain,
            **values,
        )[0]

    def subscribe_all(self, filters, *, no_local=False, as_published=False, retain=0, **values):
        """One SUBSCRIBE for several filters; returns the codes."""
        return self.subscribe_answer(
            filters, no_local=no_local, as_published=as_published, retain=retain, **values
        )[0]

    def subscribe_answer(self, filters, *, no_local=False, as_published=False, retain=0, **values):
        """The same; returns the codes and the properties."""
        if self.version == 5:
            rows = [(f, SubscribeOptions(qos, no_local, as_published, retain)) for f, qos in filters]
            _, mid = self.paho.subscribe(
                rows, properties=properties(PacketTypes.SUBSCRIBE, **values)
            )
        else:
            _, mid = self.paho.subscribe(list(filters))
        codes, props = self._await("sub", mid)
        return _codes(codes), props

    def unsubscribe(self, *filters):
        """UNSUBSCRIBE; returns the codes (none in 3.1.1)."""
        _, mid = self.paho.unsubscribe(list(filters))
        return _codes(self._await("unsub", mid)[0])

    def start_publish(self, topic, payload=b"", qos=1, retain=False, **values):
        """PUBLISH, without waiting; returns what `finish` takes."""
        props = properties(PacketTypes.PUBLISH, **values) if self.version == 5 else None
        return self.paho.publish(topic, payload, qos, retain, props).mid

    def finish(self, mid, timeout_s=TIMEOUT_S):
        """Waits for the last acknowledgement; returns its code and properties."""
        code, props = self._await("pub", mid, timeout_s)
        return (code.value if code is not None else 0), props

    def publish(self, topic, payload=b"", qos=1, retain=False, **values):
        """PUBLISH and its acknowledgement; returns the code."""
        return self.finish(self.start_publish(topic, payload, qos, retain, **values))[0]

    def ack(self, message):
        """Acknowledges a message of a client with manual_ack."""
        self.paho.ack(message.mid, message.qos)

    # --- what arrives -----------------------------------------------------------------------------

    def take(self, timeout_s=TIMEOUT_S):
        """The next message."""
        try:
            return self.messages.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"{self.client_id}: no message within {timeout_s} s") from None

    def take_many(self, count, timeout_s=TIMEOUT_S):
        """The payloads of the next messages, as text."""
        return [self.take(timeout_s).payload.decode() for _ in range(count)]

    def settle(self):
        """What has arrived by the time that a message of its own, sent now, has come back."""
        name = f"settle/{uuid.uuid4()}"
        self.subscribe(name, 1)
        self.start_publish(name, b"", 1)
        found = []
        while True:
            message = self.take()
            if message.topic == name:
                break
            found.append(message)
        self.unsubscribe(name)
        return found

    def quiet(self):
        """Fails when a message is there that was not taken."""
        found = [(m.topic, m.payload) for m in self.settle()]
        assert not found, found
