"""RocketMQ's remoting protocol: frames, both header encodings, stored messages, and the requests that
tests and experiments need. Independent of src/rocketmq on purpose: each checks the other.

    with BrokerClient("127.0.0.1:10911") as broker:
        broker.create_topic("t")
        broker.send_message("t", b"payload", {"INNER_MULTI_DISPATCH": "%LMQ%a"})
        messages = broker.pull("%LMQ%a", 0, offset=0).messages

A client is for one thread. Requests may be pipelined: send() many, then receive() the answers, which
come in any order and carry the number that send() returned.
"""

import json
import re
import select
import socket
import struct
import time
from dataclasses import dataclass, field

SUCCESS, SYSTEM_ERROR, SYSTEM_BUSY = 0, 1, 2
FLUSH_DISK_TIMEOUT, SLAVE_NOT_AVAILABLE, FLUSH_SLAVE_TIMEOUT = 10, 11, 12
TOPIC_NOT_EXIST, PULL_NOT_FOUND, PULL_RETRY, PULL_OFFSET_MOVED, QUERY_NOT_FOUND = 17, 19, 20, 21, 22
POLLING_FULL, POLLING_TIMEOUT = 209, 210

PULL, QUERY_OFFSET, UPDATE_OFFSET, CREATE_TOPIC, GET_MAX_OFFSET = 11, 14, 15, 17, 30
GET_MIN_OFFSET, HEART_BEAT, GET_ROUTE, CLUSTER_INFO, RUNTIME_INFO = 31, 34, 105, 106, 28
CREATE_GROUP, SEND_V2 = 200, 310
POP, ACK, BATCH_ACK, CHANGE_INVISIBLE = 200050, 200051, 200151, 200053
CONTROLLER_SYNC_STATE, CONTROLLER_METADATA = 1006, 1005

RESPONSE_FLAG, ONE_WAY_FLAG = 1, 2
JSON_HEADER, BINARY_HEADER = 0, 1
LANGUAGE_OTHER, VERSION = 7, 500
LMQ = "%LMQ%"
MAGIC_V1, MAGIC_V2 = 0xDAA320A7, 0xDAA320AB
COMPRESSED, BORN_V6, STORE_V6 = 1, 0x10, 0x20
INIT_MIN, INIT_MAX = 0, 1  # where POP begins in a queue that its group has not read yet
DEFAULT_TIMEOUT_S = 15
PULL_SLACK_S = 10  # an answer to a suspended pull may come that much later than asked


class Refused(Exception):
    """An answer with an error code."""

    def __init__(self, code, remark):
        super().__init__(f"{code}: {remark}")
        self.code, self.remark = code, remark


class Malformed(Exception):
    """Bytes that are no frame or message."""


# --- headers and frames -----------------------------------------------------------------------------


@dataclass
class Command:
    """A request or an answer."""

    code: int
    fields: dict = field(default_factory=dict)
    body: bytes = b""
    opaque: int = 0
    flag: int = 0
    remark: str = None
    language: int | str = "OTHER"
    version: int = VERSION

    @property
    def is_answer(self):
        """Whether the flags say so."""
        return bool(self.flag & RESPONSE_FLAG)


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _json_header(command):
    return json.dumps({
        "code": command.code, "language": "OTHER", "version": command.version,
        "opaque": command.opaque, "flag": command.flag, "remark": command.remark,
        "extFields": {key: _text(value) for key, value in command.fields.items()},
        "serializeTypeCurrentRPC": "JSON",
    }, separators=(",", ":"), ensure_ascii=False).encode()


def _binary_header(command):
    if not -0x8000 <= command.code < 0x8000:
        raise ValueError(f"code {command.code} does not fit a binary header")
    remark = (command.remark or "").encode()
    fields = b""
    for key, value in command.fields.items():
        key, value = key.encode(), _text(value).encode()
        fields += struct.pack(">h", len(key)) + key + struct.pack(">i", len(value)) + value
    return (struct.pack(">hBhii", command.code, LANGUAGE_OTHER, command.version, command.opaque,
                        command.flag)
            + struct.pack(">i", len(remark)) + remark + struct.pack(">i", len(fields)) + fields)


def frame_of(command, kind=JSON_HEADER):
    """The bytes of a command."""
    header = _binary_header(command) if kind == BINARY_HEADER else _json_header(command)
    size = 4 + len(header) + len(command.body)
    return struct.pack(">II", size, kind << 24 | len(header)) + header + command.body


def _parse_binary(header):
    try:
        code, language, version, opaque, flag = struct.unpack_from(">hBhii", header)
        at = 13
        (size,) = struct.unpack_from(">i", header, at)
        remark, at = header[at + 4 : at + 4 + size].decode() or None, at + 4 + size
        (size,) = struct.unpack_from(">i", header, at)
        at, end, fields = at + 4, at + 4 + size, {}
        if end != len(header):
            raise Malformed("the fields of a binary header do not end with it")
        while at < end:
            (size,) = struct.unpack_from(">h", header, at)
            key, at = header[at + 2 : at + 2 + size].decode(), at + 2 + size
            (size,) = struct.unpack_from(">i", header, at)
            fields[key], at = header[at + 4 : at + 4 + size].decode(), at + 4 + size
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"a binary header is broken: {error}") from error
    return Command(code, fields, b"", opaque, flag, remark, language, version)


def loose_json(text):
    """JSON as RocketMQ writes it: integer keys may stand without quotes."""
    if isinstance(text, bytes):
        text = text.decode()
    quoted = re.sub(r'("(?:\\.|[^"\\])*")|([{,]\s*)(-?\d+)(\s*:)',
                    lambda match: match[1] or f'{match[2]}"{match[3]}"{match[4]}', text)
    return json.loads(quoted)


def parse_frame(frame):
    """The command in a frame, given without its length. Raises Malformed."""
    if len(frame) < 4:
        raise Malformed(f"a frame of {len(frame)} bytes")
    (word,) = struct.unpack_from(">I", frame)
    kind, size = word >> 24, word & 0xFFFFFF
    if 4 + size > len(frame):
        raise Malformed("a header is longer than its frame")
    header, body = frame[4 : 4 + size], frame[4 + size :]
    if kind == BINARY_HEADER:
        command = _parse_binary(header)
    elif kind == JSON_HEADER:
        try:
            found = loose_json(header)
            command = Command(found["code"], found.get("extFields") or {}, b"", found["opaque"],
                              found["flag"], found.get("remark"), found.get("language"),
                              found.get("version"))
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed(f"a JSON header is broken: {error}") from error
    else:
        raise Malformed(f"header encoding {kind}")
    command.body = body
    return command


# --- stored messages ----------------------------------------------------------------------------------


@dataclass
class Message:
    """A message as a Broker stores it."""

    topic: str
    queue_id: int
    offset: int  # in the queue of its topic; see offset_in()
    position: int  # in the commit log
    flag: int
    sys_flag: int
    born_ms: int
    stored_ms: int
    store_host: str
    properties: dict
    body: bytes

    def offset_in(self, queue):
        """Its offset in an LMQ, or in the queue of its own topic."""
        names = self.properties.get("INNER_MULTI_DISPATCH", "").split(",")
        if queue in names:
            offsets = self.properties["INNER_MULTI_QUEUE_OFFSET"].split(",")
            return int(offsets[names.index(queue)])
        return self.offset


def properties_text(properties):
    """Properties as they are stored and sent."""
    return "".join(f"{key}\x01{value}\x02" for key, value in properties.items())


def parse_properties(text):
    """The reverse."""
    return dict(pair.split("\x01", 1) for pair in text.split("\x02") if "\x01" in pair)


def _host(data, at, is_v6):
    size, family = (16, socket.AF_INET6) if is_v6 else (4, socket.AF_INET)
    (port,) = struct.unpack_from(">i", data, at + size)
    return f"{socket.inet_ntop(family, data[at : at + size])}:{port}", at + size + 4


def _parse_message(data, at):
    total, magic, _, queue_id, flag, offset, position, sys_flag, born = struct.unpack_from(
        ">iIIiiqqiq", data, at)
    end = at + total
    if magic not in (MAGIC_V1, MAGIC_V2) or total < 0 or end > len(data):
        raise Malformed(f"a message of {total} bytes with magic {magic:#x}")
    _, at = _host(data, at + 48, sys_flag & BORN_V6)
    (stored,) = struct.unpack_from(">q", data, at)
    store_host, at = _host(data, at + 8, sys_flag & STORE_V6)
    _, _, size = struct.unpack_from(">iqi", data, at)
    body, at = data[at + 16 : at + 16 + size], at + 16 + size
    wide = magic == MAGIC_V2
    (size,) = struct.unpack_from(">H" if wide else ">B", data, at)
    at += 2 if wide else 1
    topic, at = data[at : at + size].decode(), at + size
    (size,) = struct.unpack_from(">H", data, at)
    properties = parse_properties(data[at + 2 : at + 2 + size].decode())
    if at + 2 + size != end:
        raise Malformed("a message does not end with its properties")
    return Message(topic, queue_id, offset, position, flag, sys_flag, born, stored, store_host,
                   properties, body), end


def parse_messages(data):
    """The messages that stand one after the other in the body of an answer. Raises Malformed."""
    messages, at = [], 0
    while at < len(data):
        try:
            message, at = _parse_message(data, at)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise Malformed(f"a message is broken: {error}") from error
        messages.append(message)
    return messages


# --- connections --------------------------------------------------------------------------------------


class Connection:
    """One connection. Not for several threads at once."""

    def __init__(self, address, timeout_s=DEFAULT_TIMEOUT_S, kind=JSON_HEADER):
        host, _, port = address.rpartition(":")
        self.address, self.timeout_s, self.kind = address, timeout_s, kind
        self.sock = socket.create_connection((host, int(port)), timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = []  # what the server asked of us; it expects no answer in tests
        self._opaque = 0
        self._input = bytearray()
        self._answers = {}  # came while another one was waited for

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes it."""
        self.sock.close()

    def fileno(self):
        """For select()."""
        return self.sock.fileno()

    def next_opaque(self):
        """A number for a request that the caller encodes itself."""
        self._opaque += 1
        return self._opaque

    def send_bytes(self, data):
        """Sends what is encoded already."""
        self.sock.settimeout(self.timeout_s)
        self.sock.sendall(data)

    def send(self, code, fields=None, body=b"", one_way=False):
        """Sends a request; returns its number."""
        command = Command(code, fields or {}, body, self.next_opaque(),
                          ONE_WAY_FLAG if one_way else 0)
        kind = self.kind if code < 0x8000 else JSON_HEADER
        self.send_bytes(frame_of(command, kind))
        return command.opaque

    def parsed(self):
        """The frames that have come in whole, as commands."""
        commands, at, data = [], 0, self._input
        while len(data) - at >= 4:
            (size,) = struct.unpack_from(">I", data, at)
            if len(data) - at - 4 < size:
                break
            commands.append(parse_frame(bytes(data[at + 4 : at + 4 + size])))
            at += 4 + size
        del data[:at]
        return commands

    def receive_some(self, timeout_s=None):
        """Waits for bytes and returns the answers that are whole now, perhaps none. Raises
        TimeoutError, and ConnectionError at the end of the connection."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        if not select.select([self.sock], [], [], timeout_s)[0]:
            raise TimeoutError(f"no answer from {self.address} within {timeout_s:.1f} s")
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError(f"{self.address} closed the connection")
        self._input += data
        commands = self.parsed()
        self.requests += [command for command in commands if not command.is_answer]
        return [command for command in commands if command.is_answer]

    def receive(self, opaque, timeout_s=None):
        """The answer to one request; others that come before are kept."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while opaque not in self._answers:
            for answer in self.receive_some(max(0, deadline - time.monotonic())):
                self._answers[answer.opaque] = answer
        return self._answers.pop(opaque)

    def ask(self, code, fields=None, body=b"", timeout_s=None):
        """One request and its answer, whatever it says."""
        return self.receive(self.send(code, fields, body), timeout_s)

    def call(self, code, fields=None, body=b"", timeout_s=None):
        """The same; raises Refused unless the answer says success."""
        answer = self.ask(code, fields, body, timeout_s)
        if answer.code != SUCCESS:
            raise Refused(answer.code, answer.remark)
        return answer


class NameSrvClient(Connection):
    """What one asks a NameSrv."""

    def route(self, topic):
        """Where a topic lives. Raises Refused(17)."""
        return loose_json(self.call(GET_ROUTE, {"topic": topic, "acceptStandardJsonOnly": True}).body)

    def brokers(self):
        """{broker name: {id: address}}."""
        table = loose_json(self.call(CLUSTER_INFO).body)["brokerAddrTable"]
        return {name: {int(key): address for key, address in entry["brokerAddrs"].items()}
                for name, entry in table.items()}


class ControllerClient(Connection):
    """What one asks the controller in a NameSrv; it has a port of its own."""

    def metadata(self):
        """Its view of itself: isLeader, controllerLeaderAddress, …"""
        return self.call(CONTROLLER_METADATA).fields

    def sync_state(self, names):
        """Of each Broker group its master and who is in sync. Raises Refused(2007) by one that does
        not lead."""
        body = json.dumps(list(names)).encode()
        return loose_json(self.call(CONTROLLER_SYNC_STATE, body=body).body)["replicasInfoTable"]


@dataclass
class Pulled:
    """What a pull brought."""

    code: int
    messages: list
    next_offset: int
    min_offset: int
    max_offset: int


@dataclass
class Popped:
    """A message that POP handed out, with the receipt that acknowledges it: "start offset, time of
    POP, invisible time, number of the revive queue, retry mark, Broker name, queue, offset"."""

    message: Message
    queue: str
    group: str
    receipt: str

    def fields(self):
        """The fields of ACK. What came back after its time lives in a retry topic by now."""
        words = self.receipt.split(" ")
        retry = {"0": self.queue, "1": f"%RETRY%{self.group}_{self.queue}",
                 "2": f"%RETRY%{self.group}+{self.queue}"}
        return {"consumerGroup": self.group, "topic": retry[words[4]], "queueId": int(words[6]),
                "extraInfo": self.receipt, "offset": int(words[7])}

    def renewed(self, fields):
        """The same after a change of invisible time, whose answer has a new receipt."""
        words = self.receipt.split(" ")
        words[1:4] = fields["popTime"], fields["invisibleTime"], fields["reviveQid"]
        return Popped(self.message, self.queue, self.group, " ".join(words))


def _offset_table(text, parts):
    """{(mark, queue): value} of startOffsetInfo and msgOffsetInfo: "0 0 5;1 0 7"."""
    rows = [row.split(" ") for row in (text or "").split(";") if row]
    return {(row[0], int(row[1])): parts(row[2]) for row in rows}


class BrokerClient(Connection):
    """What one asks a Broker."""

    def create_topic(self, topic, queues=8, attributes=None):
        """Creates or changes a topic; the Broker tells the NameSrvs before it answers."""
        fields = {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues,
                  "writeQueueNums": queues, "perm": 6, "topicFilterType": "SINGLE_TAG",
                  "topicSysFlag": 0, "order": False}
        if attributes:
            fields["attributes"] = attributes
        self.call(CREATE_TOPIC, fields)

    @staticmethod
    def group_body(name, **more):
        """What CREATE_GROUP takes."""
        return json.dumps({"groupName": name, "consumeEnable": True, "consumeBroadcastEnable": True,
                           "consumeFromMinEnable": True, "retryQueueNums": 1, "retryMaxTimes": 16,
                           **more}).encode()

    def create_group(self, name, **more):
        """Creates or changes a consumer group."""
        self.call(CREATE_GROUP, body=self.group_body(name, **more))

    @staticmethod
    def send_fields(topic, properties=None, queue_id=0):
        """The fields of SEND_V2."""
        return {"a": "producer", "b": topic, "c": "TBW102", "d": 4, "e": queue_id, "f": 0,
                "g": int(time.time() * 1000), "h": 0, "i": properties_text(properties or {}), "j": 0,
                "k": False, "m": False}

    def send_message(self, topic, body, properties=None, queue_id=0, patience_s=30):
        """Sends a message; tries again while the Broker is busy. Returns the answer's fields.
        Raises Refused, also for what is stored but not as durable as configured (10, 11, 12)."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self.call(SEND_V2, self.send_fields(topic, properties, queue_id), body).fields
            except Refused as refused:
                if refused.code != SYSTEM_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @staticmethod
    def pull_fields(queue, queue_id, offset, count=32, suspend_ms=0, group="readers"):
        """The fields of PULL; they carry the subscription, so that no heartbeat is needed."""
        return {"consumerGroup": group, "topic": queue, "queueId": queue_id, "queueOffset": offset,
                "maxMsgNums": count, "sysFlag": 4 | (2 if suspend_ms else 0), "commitOffset": 0,
                "suspendTimeoutMillis": suspend_ms, "subscription": "*", "subVersion": 0,
                "expressionType": "TAG"}

    @staticmethod
    def pulled(answer):
        """An answer to PULL taken apart. Raises Refused when it is neither messages nor none."""
        if answer.code not in (SUCCESS, PULL_NOT_FOUND, PULL_RETRY, PULL_OFFSET_MOVED):
            raise Refused(answer.code, answer.remark)
        numbers = (int(answer.fields[name]) for name in ("nextBeginOffset", "minOffset", "maxOffset"))
        messages = parse_messages(answer.body) if answer.code == SUCCESS else []
        return Pulled(answer.code, messages, *numbers)

    def pull(self, queue, queue_id=0, offset=0, count=32, suspend_ms=0, group="readers"):
        """Reads from a queue or an LMQ; waits up to `suspend_ms` for the first message."""
        fields = self.pull_fields(queue, queue_id, offset, count, suspend_ms, group)
        timeout_s = suspend_ms / 1000 + max(PULL_SLACK_S, self.timeout_s)
        return self.pulled(self.ask(PULL, fields, timeout_s=timeout_s))

    def pull_all(self, queue, queue_id=0, offset=0, group="readers"):
        """Everything from an offset on."""
        messages = []
        while True:
            got = self.pull(queue, queue_id, offset, group=group)
            if not got.messages:
                return messages
            messages += got.messages
            offset = got.next_offset

    def max_offset(self, queue, queue_id=0):
        """The offset behind the last message."""
        return int(self.call(GET_MAX_OFFSET, {"topic": queue, "queueId": queue_id}).fields["offset"])

    def commit_offset(self, group, queue, offset, queue_id=0):
        """Stores a consumer offset. Raises Refused(26) for an unknown group."""
        self.call(UPDATE_OFFSET, {"consumerGroup": group, "topic": queue, "queueId": queue_id,
                                  "commitOffset": offset})

    def query_offset(self, group, queue, queue_id=0):
        """A consumer offset; None when there is none."""
        answer = self.ask(QUERY_OFFSET, {"consumerGroup": group, "topic": queue, "queueId": queue_id})
        if answer.code == QUERY_NOT_FOUND:
            return None
        if answer.code != SUCCESS:
            raise Refused(answer.code, answer.remark)
        return int(answer.fields["offset"])

    def runtime_info(self, patience_s=20):
        """What the Broker says about itself: bootTimestamp, dispatchBehindBytes, … In its first moments it
        has no statistics yet, and fails with an exception for that: it is asked again."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return loose_json(self.call(RUNTIME_INFO).body)["table"]
            except Refused as refused:
                if "NoSuchElementException" not in str(refused) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    @staticmethod
    def pop_fields(queue, group, count=32, invisible_ms=30000, poll_ms=0, init=INIT_MIN):
        """The fields of POP."""
        return {"consumerGroup": group, "topic": queue, "queueId": -1, "maxMsgNums": count,
                "invisibleTime": invisible_ms, "pollTime": poll_ms,
                "bornTime": int(time.time() * 1000), "initMode": init, "expType": "TAG", "exp": "*",
                "order": False}

    @staticmethod
    def popped(answer, queue, group, broker_name):
        """The messages of an answer to POP, each with its receipt."""
        if answer.code in (POLLING_TIMEOUT, POLLING_FULL, PULL_NOT_FOUND):
            return []
        if answer.code != SUCCESS:
            raise Refused(answer.code, answer.remark)
        fields, result = answer.fields, []
        starts = _offset_table(fields["startOffsetInfo"], int)
        for message in parse_messages(answer.body):
            receipt = message.properties.get("POP_CK")  # one that came back after its time has it
            if receipt is None:
                queue_id = 0 if queue.startswith(LMQ) else message.queue_id
                receipt = (f"{starts['0', queue_id]} {fields['popTime']} {fields['invisibleTime']} "
                           f"{fields['reviveQid']} 0 {broker_name} {queue_id} "
                           f"{message.offset_in(queue)}")
            result.append(Popped(message, queue, group, receipt))
        return result

    def pop(self, queue, group, broker_name, **options):
        """Takes messages that are then invisible to the group's other members."""
        fields = self.pop_fields(queue, group, **options)
        timeout_s = fields["pollTime"] / 1000 + max(PULL_SLACK_S, self.timeout_s)
        return self.popped(self.ask(POP, fields, timeout_s=timeout_s), queue, group, broker_name)

    def ack(self, popped):
        """Says that a popped message is done with."""
        self.call(ACK, popped.fields())

    def change_invisible(self, popped, invisible_ms):
        """Lets a popped message stay invisible for so long from now. Returns it with its new receipt."""
        fields = {**popped.fields(), "invisibleTime": invisible_ms}
        return popped.renewed(self.call(CHANGE_INVISIBLE, fields).fields)
