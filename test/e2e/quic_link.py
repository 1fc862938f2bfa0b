"""A QUIC connection of aioquic's, whose MQTT stream is an ordinary socket for the test.

A thread moves bytes between one end of a socket pair and the stream; the test has the other end. It
can change the UDP port, open more streams, and hold a session ticket or a token back for later.
"""

import collections
import contextlib
import select
import socket
import ssl
import threading
import time

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

TIMEOUT_S = 20
READ_SIZE = 65536
ENOUGH = 1 << 20  # bytes under way to the test or to the server; no more is taken before they went


class Shown:
    """Bytes that aioquic takes for a certificate of its own."""

    def __init__(self, bytes_):
        self.bytes = bytes_

    def public_bytes(self, _encoding):
        """What goes out."""
        return self.bytes


class Link:
    """One connection. `sock` carries MQTT. early: bytes that go ahead of the handshake; before:
    another link whose ticket and token are used; shown: a chain of whatever bytes, and a private key."""

    def __init__(self, address, *, ca=None, alpn=("mqtt",), early=b"", before=None, certificate=None, shown=None,
                 name="localhost", idle_s=60, window=None, confirm=True, records=False,
                 silent=False):
        config = QuicConfiguration(is_client=True, alpn_protocols=list(alpn), server_name=name,
                                   idle_timeout=idle_s)
        if ca:
            config.load_verify_locations(cafile=str(ca))
        else:
            config.verify_mode = ssl.CERT_NONE
        if shown:
            chain = [Shown(bytes_) for bytes_ in shown[0]]
            config.certificate, config.certificate_chain, config.private_key = chain[0], chain[1:], shown[1]
        if certificate:
            config.load_cert_chain(str(certificate[0]), str(certificate[1]))
        if window:
            config.max_stream_data = config.max_data = window
        if before:
            config.session_ticket = before.tickets[-1] if before.tickets else None
            config.token = before.tokens[-1] if before.tokens else b""
        self.address = address
        self.tickets, self.tokens = [], []
        self.resets, self.stops = {}, {}  # stream: error code
        self.terminated = None  # what aioquic told at the end
        self.early_accepted = self.resumed = False
        self.sent, self.received = [], []  # datagrams, while `records`
        self.records = records
        self.silent = silent  # nothing is sent or received any more
        self.deaf = False  # what arrives is lost
        self._losses = ()  # which datagrams that it sends next are lost, counted from 0
        self._sent_since = 0  # what is counted
        self.connection = QuicConnection(configuration=config,
                                         session_ticket_handler=self.tickets.append,
                                         token_handler=self.tokens.append)
        self.sock, self._inner = socket.socketpair()
        self.sock.settimeout(TIMEOUT_S)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._calls, self._to_test = collections.deque(), bytearray()
        self._established, self._done = threading.Event(), threading.Event()
        self._parted = threading.Event()
        self._input_ended = self._end_due = False
        self._pings = 0
        self._udp = self._open_udp()
        self.connection.connect(address, time.monotonic())
        self.stream = self.connection.get_next_available_stream_id()
        if early:
            self.connection.send_stream_data(self.stream, early)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if confirm:
            self.wait_established()

    def _open_udp(self):
        udp = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        udp.bind(("::1" if ":" in self.address[0] else "127.0.0.1", 0))
        udp.setblocking(False)
        return udp

    # --- for tests --------------------------------------------------------------------------------

    def wait_established(self):
        """Waits for the end of the handshake; fails when it is refused."""
        assert self._established.wait(TIMEOUT_S), "no handshake"
        if not self.connection_is_up:
            raise ConnectionRefusedError(str(self.terminated))

    @property
    def connection_is_up(self):
        """The handshake was completed and nobody has closed."""
        return self.terminated is None

    def wait(self, condition, what="it"):
        """Waits until the condition holds, which is looked at whenever anything happens."""
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT_S), f"no {what}"

    def wait_end(self):
        """Waits until the connection is closed; returns the error code, the frame type (None: an
        application's code) and the reason."""
        assert self._done.wait(TIMEOUT_S), "still open"
        return self.terminated.error_code, self.terminated.frame_type, self.terminated.reason_phrase

    def call(self, function):
        """Runs it in the link's thread; returns what it returns."""
        result, ran = [], threading.Event()

        def run():
            try:
                result.append(function())
            finally:
                ran.set()
        self._calls.append(run)
        self._poke()
        assert ran.wait(TIMEOUT_S)
        return result[0]

    def rebind(self, losses=()):
        """A new port without the client's knowledge, as a NAT that has forgotten does it. The server
        cannot know before something comes from there, which is a PING. losses: which datagrams are lost,
        of those sent from there, whose first has number 0. Ends deafness."""
        def change():
            self._losses, self._sent_since, self.deaf = losses, 0, False
            self._change_port()
        self.call(change)

    def migrate(self):
        """A new port and a new connection ID: the client changes networks."""
        def change():
            self.connection.change_connection_id()
            self._change_port()
        self.call(change)

    def _change_port(self):
        old, self._udp = self._udp, self._open_udp()
        old.close()
        self._pings += 1
        self.connection.send_ping(self._pings)

    def open_stream(self, data=b"more", one_way=False):
        """One more stream; returns its number."""
        def begin():
            number = self.connection.get_next_available_stream_id(is_unidirectional=one_way)
            self.connection.send_stream_data(number, data)
            return number
        return self.call(begin)

    def vanish(self):
        """Sends nothing any more, not even a farewell."""
        self.silent = True
        self.close()

    def close(self, code=0):
        """Closes the connection, and waits until that is said."""
        if not self._done.is_set():
            self._calls.append(lambda: self._finish(code))
            self._poke()
            self._done.wait(TIMEOUT_S)
        with contextlib.suppress(OSError):
            self.sock.close()

    def wait_parted(self):
        """Waits until the end of the stream or of the connection is out, as far as the window lets it."""
        self._parted.wait(TIMEOUT_S)

    # --- the thread ---------------------------------------------------------------------------------

    def _poke(self):
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def _finish(self, code=0):
        self.connection.close(error_code=code)
        self._end_due = True

    def _notify(self):
        with self._changed:
            self._changed.notify_all()

    def _is_lost(self):
        """Whether what is sent now is; counts."""
        self._sent_since += 1
        return self._sent_since - 1 in self._losses

    def _send(self):
        for data, _address in self.connection.datagrams_to_send(time.monotonic()):
            if self.records:
                self.sent.append(data)
            if not self.silent and not self._is_lost():
                with contextlib.suppress(OSError):
                    self._udp.sendto(data, self.address)

    def _handle(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self.early_accepted, self.resumed = event.early_data_accepted, event.session_resumed
            self._established.set()
        elif isinstance(event, events.StreamDataReceived) and event.stream_id == self.stream:
            self._to_test += event.data
            self._input_ended |= event.end_stream
        elif isinstance(event, events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stops[event.stream_id] = event.error_code
        elif isinstance(event, events.ConnectionTerminated):
            self.terminated = event
            self._established.set()
        self._notify()

    def _from_test(self):
        try:
            data = self._inner.recv(READ_SIZE)
        except OSError:
            data = b""
        self.connection.send_stream_data(self.stream, data, end_stream=not data)
        return bool(data)

    def _deliver(self):
        """To the test; False when it has gone."""
        try:
            while self._to_test:
                del self._to_test[:self._inner.send(self._to_test)]
            if self._input_ended:
                self._inner.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _pass_events(self):
        while (event := self.connection.next_event()) is not None:
            self._handle(event)

    def _receive(self):
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data, address = self._udp.recvfrom(READ_SIZE)
                if self.records:
                    self.received.append(data)
                if not self.silent and not self.deaf:
                    self.connection.receive_datagram(data, address, time.monotonic())

    def _notice_the_end(self):
        """A connection that the other end has closed sends nothing any more, and aioquic tells of it only
        when that has lasted for three round trips."""
        if self.terminated is None and not self._end_due and self.connection._close_event:
            self._handle(self.connection._close_event)

    def _wait(self, reads_test, wait_s):
        """Waits until something can be done; returns the sockets that can be read."""
        poll = select.poll()  # not select(), which stops at 1,024 files
        for sock in (self._udp, self._woken):
            poll.register(sock, select.POLLIN)
        wanted = (select.POLLIN if reads_test else 0) | (select.POLLOUT if self._to_test else 0)
        if wanted:  # otherwise it would tell of its end again and again
            poll.register(self._inner, wanted)
        ready = {fd for fd, event in poll.poll(max(0, wait_s) * 1000) if event & ~select.POLLOUT}
        socks = (self._udp, self._woken) + ((self._inner,) if reads_test else ())
        return [sock for sock in socks if sock.fileno() in ready]

    def _run(self):
        self._inner.setblocking(False)
        reads_test = True
        while self.terminated is None:
            self._send()
            if self._end_due or not reads_test:
                self._parted.set()
            self._pass_events()
            self._notice_the_end()
            alive = self._deliver()
            if (not alive or self._end_due) and self.silent:
                break
            if self.terminated is not None:
                break
            if not alive:
                self._to_test.clear()
                if not self._end_due:
                    self._finish()
                    continue
            due = self.connection.get_timer()
            wait_s = max(0, due - time.monotonic()) if due is not None else TIMEOUT_S
            ready = self._wait(reads_test, wait_s)
            if self._woken in ready:
                self._woken.recv(READ_SIZE)
            while self._calls:
                self._calls.popleft()()
            if self._udp in ready:
                with contextlib.suppress(ValueError, OSError):
                    self._receive()
            if self._inner in ready:
                reads_test = self._from_test()
            if due is not None and time.monotonic() >= due:
                self.connection.handle_timer(time.monotonic())
            self._pass_events()
        self._deliver()
        for sock in (self._inner, self._udp, self._woken, self._wake):
            sock.close()
        self._done.set()
        self._parted.set()
        self._established.set()
        self._notify()


class QuicSocket(socket.socket):
    """The test's end of a link, which ends with it."""

    def __init__(self, link):
        super().__init__(fileno=link.sock.detach())
        self.settimeout(TIMEOUT_S)
        self.link = link

    def close(self):
        """As with TCP, the end of the connection is under way before the test goes on."""
        super().close()
        self.link.wait_parted()
