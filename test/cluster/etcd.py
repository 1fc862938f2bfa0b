"""Real etcd members, and a client of their JSON gateway, which is what a proxy uses, too."""

import base64
import http.client
import json

from process import Process, free_ports

MIB = 1 << 20


class Etcd(Process):
    """A member. `members` is {name: peer URL} of all of them, see members_of; alone by default."""

    def __init__(self, folder, name="etcd", *, members=None, quota_mib=512, options=()):
        super().__init__(folder, name)
        self.members = members or {name: f"http://127.0.0.1:{free_ports()}"}
        self.url = f"http://127.0.0.1:{free_ports()}"
        self.address = self.url.removeprefix("http://")
        self.quota_mib, self.options = quota_mib, list(options)

    def command(self):
        peer = self.members[self.name]
        cluster = ",".join(f"{name}={url}" for name, url in self.members.items())
        return ["etcd", "--name", self.name, "--data-dir", self.folder / "data",
                "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--initial-cluster-token", str(self.folder.parent),
                "--quota-backend-bytes", self.quota_mib * MIB, "--log-level", "warn",
                "--logger", "zap", *self.options]


    def ready(self):
        """It answers a linearizable read: the members have a leader."""
        try:
            with EtcdClient(self.address, 2) as client:
                client.get("ready?")
        except (OSError, EtcdError, http.client.HTTPException):
            return False
        return True

    def client(self, timeout_s=30):
        """A new connection."""
        return EtcdClient(self.address, timeout_s)


def members_of(*names):
    """What `members` takes, for members of these names."""
    return {name: f"http://127.0.0.1:{free_ports()}" for name in names}


class EtcdError(Exception):
    """An answer that is no success."""


def encoded(data):
    """A key or value as JSON carries it."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def decoded(text):
    """The reverse, as bytes."""
    return base64.b64decode(text or "")


def put_of(key, value, lease=0):
    """A put, to stand alone or in a transaction."""
    body = {"key": encoded(key), "value": encoded(value)}
    return {**body, "lease": str(lease)} if lease else body


def version_is(key, version):
    """A comparison of a transaction: how many times the key was written; 0: it does not exist."""
    return {"key": encoded(key), "target": "VERSION", "version": str(version), "result": "EQUAL"}


class EtcdClient:
    """One HTTP connection to one member."""

    def __init__(self, address, timeout_s=30):
        host, _, port = address.rpartition(":")
        self.http = http.client.HTTPConnection(host, int(port), timeout=timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes it."""
        self.http.close()

    def call(self, path, body):
        """One request to /v3/…; returns the answer. Raises EtcdError."""
        try:
            self.http.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
            answer = self.http.getresponse()
            text = answer.read()
        except OSError:
            self.http.close()  # the next request makes a connection of its own
            raise
        if answer.status != 200:
            raise EtcdError(f"{answer.status}: {text.decode(errors='replace')}")
        return json.loads(text)

    def put(self, key, value, lease=0):
        """Writes a key."""
        return self.call("kv/put", put_of(key, value, lease))

    def get(self, key, serializable=False):
        """The value of a key as bytes, None when there is none."""
        found = self.call("kv/range", {"key": encoded(key), "serializable": serializable}).get("kvs")
        return decoded(found[0].get("value")) if found else None

    def count(self, prefix):
        """How many keys begin so."""
        end = prefix.encode()[:-1] + bytes([prefix.encode()[-1] + 1])
        body = {"key": encoded(prefix), "range_end": encoded(end), "count_only": True}
        return int(self.call("kv/range", body).get("count", 0))

    def transaction(self, success, compare=(), failure=()):
        """A transaction of puts; returns whether the comparisons held."""
        body = {"compare": list(compare), "success": [{"requestPut": put} for put in success],
                "failure": [{"requestPut": put} for put in failure]}
        return bool(self.call("kv/txn", body).get("succeeded"))

    def grant(self, ttl_s):
        """A lease; returns its number."""
        return int(self.call("lease/grant", {"TTL": str(ttl_s)})["ID"])

    def keep_alive(self, lease):
        """Renews a lease; returns its seconds, 0 when it is gone."""
        return int(self.call("lease/keepalive", {"ID": str(lease)})["result"].get("TTL", 0))

    def watch(self, prefix):
        """Opens a watch of all keys that begin so: this connection is for that alone then. Returns a
        generator of the events of one answer, whose first is the empty list: it watches now."""
        end = prefix.encode()[:-1] + bytes([prefix.encode()[-1] + 1])
        body = {"create_request": {"key": encoded(prefix), "range_end": encoded(end)}}
        self.http.request("POST", "/v3/watch", json.dumps(body))
        answer = self.http.getresponse()

        def events():
            while True:
                line = answer.readline()
                if not line:
                    return
                yield json.loads(line)["result"].get("events", [])
        return events()

    def metrics(self):
        """The member's own numbers by name and labels."""
        self.http.request("GET", "/metrics")
        text = self.http.getresponse().read().decode()
        rows = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in rows}
