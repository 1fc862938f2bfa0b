"""A web page in Debian's Chromium that speaks MQTT over WebSocket with MQTT.js."""

import base64
import hashlib
import http.server
import queue
import subprocess
import threading
import pathlib

import pki
import pytest
from test_clients import BUILD, build_js
from tidemq import Server

PAGE = pathlib.Path(__file__).parent / "browser" / "page.html"
OUTCOME_TIMEOUT_S = 60


class Site(http.server.ThreadingHTTPServer):
    """Serves the page and the library, and takes what the page tells."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Visit)
        self.outcomes = queue.Queue()
        self.files = {
            "/page.html": ("text/html", PAGE),
            "/mqtt.min.js": ("text/javascript", BUILD / "js/node_modules/mqtt/dist/mqtt.min.js"),
        }

    @property
    def origin(self):
        """What the browser says about where the page came from."""
        return f"http://127.0.0.1:{self.server_port}"


class Visit(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):  # pylint: disable=invalid-name
        """The two files."""
        kind, path = self.server.files.get(self.path, (None, None))
        self.send_response(200 if path else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        if path:
            self.wfile.write(path.read_bytes())

    def do_POST(self):  # pylint: disable=invalid-name
        """What came of it."""
        size = int(self.headers["Content-Length"])
        self.server.outcomes.put(self.rfile.read(size).decode().split("\n"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):  # pylint: disable=arguments-differ
        """Says nothing."""


@pytest.fixture(name="site", scope="module")
def fixture_site():
    """The site, as long as the tests run."""
    build_js()
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory, site):
    """A server that lets pages of the site in, and no others."""
    shared = pki.shared()
    server = Server(tmp_path_factory.mktemp("browser") / "server", {
        "listeners": ["ws://127.0.0.1:0", "wss://127.0.0.1:0"],
        "tls.certificate": shared.path("server.pem"),
        "tls.private_key": shared.path("server.key"),
        "websocket.origins": [site.origin],
    }).start()
    yield server
    server.stop()
    server.check()


def key_hash(path):
    """The hash of a certificate's public key, by which Chromium is told to trust it."""
    folder = path.parent
    public = pki.openssl(folder, "x509", "-in", path.name, "-noout", "-pubkey")
    body = "".join(public.strip().split("\n")[1:-1])
    return base64.b64encode(hashlib.sha256(base64.b64decode(body)).digest()).decode()


def browse(origin, site, folder, url):
    """Opens the page at that origin, which connects to `url`; returns what it told."""
    trusted = key_hash(pki.shared().path("server.pem"))
    command = [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        f"--user-data-dir={folder}", f"--ignore-certificate-errors-spki-list={trusted}",
        f"{origin}/page.html#{url}",
    ]
    with open(folder / "output", "wb") as output, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    ) as browser:
        try:
            return site.outcomes.get(timeout=OUTCOME_TIMEOUT_S)
        except queue.Empty:
            said = (folder / "output").read_text(errors="replace")
            raise AssertionError(f"the page told nothing; Chromium: {said[-3000:]}") from None
        finally:
            browser.terminate()
            browser.wait(30)


def test_page(site, server, tmp_path):
    """Over TLS: QoS 2 to itself in both versions, and a clean end."""
    outcome = browse(site.origin, site, tmp_path, server.url_of("wss"))
    assert outcome == ["4: mqtt", "5: mqtt"], server.log[-2000:]


def test_page_of_another_origin(site, server, tmp_path):
    """The same page by another name is another origin, which is not in the list."""
    outcome = browse(f"http://localhost:{site.server_port}", site, tmp_path, server.url_of("ws"))
    assert len(outcome) == 1 and outcome[0].startswith("failed: "), outcome
    assert "pages of this Origin are not allowed" in server.log
