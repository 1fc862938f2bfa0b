"""An HTTP server that answers as a test says, and remembers what it was asked."""

import http.server
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class Answer:
    """What is answered; `hold` is waited for first."""

    status: int = 200
    body: object = b""
    hold: threading.Event = None
    headers: dict = field(default_factory=dict)

    def encode(self):
        """The bytes of the body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        size = int(self.headers.get("Content-Length", 0))
        request = Request(self.command, self.path, dict(self.headers), self.rfile.read(size))
        site = self.server.site
        with site.changed:
            site.requests.append(request)
            site.active += 1
            site.active_max = max(site.active, site.active_max)
            site.changed.notify_all()
        answer = site.answer(request) if callable(site.answer) else site.answer
        if answer.hold:
            answer.hold.wait(60)
        body = answer.encode()
        with site.changed:
            site.active -= 1
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if answer.status != 204 else b"")
        except OSError:  # nobody waits for it any more
            self.close_connection = True

    do_GET = do_POST = _serve  # noqa: N815 (names of the base class)

    def log_message(self, *_args):
        """Silent."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Site:
    """The server. `answer` is an Answer, or a function from a Request to one."""

    def __init__(self, answer=None, tls=None):
        self.answer = answer or Answer()
        self.requests = []
        self.active = self.active_max = 0
        self.changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.site = self
        scheme = "http"
        if tls:
            scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def wait_for(self, count, timeout_s=20):
        """Waits until so many requests have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, timeout_s), (
                f"{len(self.requests)} requests instead of {count}")
            return self.requests[count - 1]

    def close(self):
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(answer=None, tls=None):
    """A server for the time of a with statement."""
    site = Site(answer, tls)
    try:
        yield site
    finally:
        site.close()
