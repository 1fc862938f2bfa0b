"""Which bytes of a data directory matter, by readers of the formats that share nothing with the
server's own.

A byte is LIVE when something depends on it: `store check` must find any change of it. It is DEAD
when nothing does: a change must make no difference at all. EITHER is the rest, each for a reason
that is given where it is marked. docs/storage-engine.md describes the formats; LMDB's is its own.
"""

import struct

LIVE, DEAD, EITHER = 1, 0, 2
PAGE = 4096
LOG_START = 4096
RECORD_HEADER = struct.Struct("<IIQIIQQIIIIIHHHHBBBB")


class Map:
    """The kind of each byte of one file; DEAD unless marked."""

    def __init__(self, size):
        self.kinds = bytearray(size)

    def mark(self, offset, size, kind=LIVE):
        """Marks a range; what is LIVE for one reason stays so."""
        end = min(offset + size, len(self.kinds))
        if kind == LIVE:
            self.kinds[offset:end] = bytes([LIVE]) * max(0, end - offset)
            return
        for at in range(offset, end):
            if self.kinds[at] != LIVE:
                self.kinds[at] = kind

    def of(self, before, after):
        """The kind of a change from one content to another."""
        changed = set(self.kinds[len(after) :])
        for begin in range(0, min(len(before), len(after)), 512):
            one, other = before[begin : begin + 512], after[begin : begin + 512]
            if one != other:
                changed |= {self.kinds[begin + i] for i, (x, y) in enumerate(zip(one, other)) if x != y}
        return LIVE if LIVE in changed else EITHER if EITHER in changed else DEAD


# --- the log --------------------------------------------------------------------------------------


class Record:
    """One record of the log, as far as the tests need it."""

    def __init__(self, data, offset):
        (self.size, _, self.position, self.epoch, self.unsynced, self.time_ms, _, _, _,
         payload_size, props_size, ops_size, topic_size, client_size, queue_count, _,
         self.kind, flags, self.qos, self.has_message) = RECORD_HEADER.unpack_from(data, offset)
        self.offset = offset
        at = offset + RECORD_HEADER.size + (8 if flags & 2 and self.has_message else 0)
        at += 4 * queue_count
        self.parts = {"header": offset, "topic": at, "payload": at + topic_size + client_size + props_size}
        self.payload = data[self.parts["payload"] : self.parts["payload"] + payload_size]
        self.parts["rows"] = self.parts["payload"] + payload_size
        self.rows_size = ops_size
        self.topic = data[at : at + topic_size].decode("utf-8", "replace")

    @property
    def durable(self):
        """Up to here the log had been synced when the record was written."""
        return 0 if self.unsynced == 0xFFFFFFFF else self.position - 8 * self.unsynced


class Segment:
    """A segment and its records."""

    def __init__(self, path):
        self.path = path
        self.data = path.read_bytes()
        (_, _, self.epoch, self.number, self.before, self.base) = struct.unpack_from("<QIIQQQ", self.data)
        self.records = []
        at = PAGE
        while at + RECORD_HEADER.size <= len(self.data):
            record = Record(self.data, at)
            if record.position != self.base + at - PAGE or record.epoch != self.epoch:
                break
            self.records.append(record)
            at += record.size
        self.end = self.base + at - PAGE  # log position


def read_log(data_dir):
    """The segments of a log in order."""
    return [Segment(path) for path in sorted((data_dir / "log").glob("*.log"))]


def map_log(data_dir, durable):
    """Maps of all segments. `durable`: the log position that rows and index are known to reach."""
    segments = read_log(data_dir)
    known = max([durable] + [record.durable for s in segments for record in s.records])
    maps = {}
    for segment, following in zip(segments, [*segments[1:], None]):
        kinds = Map(len(segment.data))
        kinds.mark(0, 56)
        end = following.base if following else segment.end
        for record in segment.records:
            if record.position >= end:
                break
            # Of what was written last nothing durable says that it was: after a crash it may be a
            # record cut short.
            kinds.mark(record.offset, record.size, LIVE if following or record.position < known
                       else EITHER)
        maps[segment.path] = kinds
    return maps


# --- LMDB -----------------------------------------------------------------------------------------


class Lmdb:
    """The pages of a database that its snapshots reach."""

    BRANCH, LEAF, OVERFLOW = 1, 2, 4

    def __init__(self, path):
        self.data = path.read_bytes()
        self.map = Map(len(self.data))
        self.pages = {}  # number: what it is, of the newest snapshot
        self.state = None
        metas = [self._meta(slot) for slot in (0, 1)]
        newest = 0 if metas[0]["txn"] > metas[1]["txn"] else 1
        self._older(1 - newest, metas[1 - newest])
        self._newest(newest, metas[newest])

    def _tree(self, offset):
        pad, flags, depth, branch, leaf, overflow, entries, root = struct.unpack_from(
            "<IHHQQQQQ", self.data, offset)
        return {"depth": depth, "root": root, "entries": entries, "offset": offset}

    def _meta(self, slot):
        at = slot * PAGE
        last, txn = struct.unpack_from("<QQ", self.data, at + 136)
        return {"free": self._tree(at + 40), "main": self._tree(at + 88), "last": last, "txn": txn}

    def _older(self, slot, meta):
        """Only what tells the two snapshots apart is verified of it."""
        at = slot * PAGE
        self.map.mark(at, 152, EITHER)
        self.map.mark(at, 8)
        self.map.mark(at + 10, 2)
        self.map.mark(at + 16, 24)  # magic, version, address, map size
        self.map.mark(at + 144, 8)
        for number in self._reach(meta["main"]):
            self.map.mark(number * PAGE, PAGE, EITHER)
            for name, node in self._nodes(number):
                if name == b"state" and node["tree"]:
                    for below in self._reach(self._tree(node["value"])):
                        self.map.mark(below * PAGE, PAGE, EITHER)

    def _newest(self, slot, meta):
        at = slot * PAGE
        self.map.mark(at, 8)
        self.map.mark(at + 10, 2)
        self.map.mark(at + 16, 136)
        self._mark_tree(meta["free"], "free")
        self._mark_tree(meta["main"], "main")
        for number in self._reach(meta["main"]):
            for name, node in self._nodes(number):
                tree = self._tree(node["value"])
                self._mark_tree(tree, name.decode())
                if name == b"state":
                    self._read_state(tree)

    def _read_state(self, tree):
        for number in self._reach(tree):
            for name, node in self._nodes(number):
                if name == b"state":
                    _, _, applied, trimmed = struct.unpack_from("<QQQQ", self.data, node["value"])
                    self.state = {"applied": applied, "trimmed": trimmed}

    def _header(self, number):
        _, _, flags, lower, upper = struct.unpack_from("<QHHHH", self.data, number * PAGE)
        return flags, (lower - 16) // 2, lower, upper

    def _nodes(self, number):
        """(key, node) of a page; offsets are of the file."""
        flags, count, _, _ = self._header(number)
        for n in range(count):
            at = number * PAGE + struct.unpack_from("<H", self.data, number * PAGE + 16 + 2 * n)[0]
            low, high, node_flags, key_size = struct.unpack_from("<HHHH", self.data, at)
            yield self.data[at + 8 : at + 8 + key_size], {
                "n": n, "at": at, "key": at + 8, "key_size": key_size,
                "value": at + 8 + key_size, "size": low | high << 16,
                "child": low | high << 16 | node_flags << 32,
                "big": flags & self.LEAF and node_flags & 1, "tree": flags & self.LEAF and node_flags & 2,
            }

    def _reach(self, tree):
        """The numbers of a tree's pages, without overflow pages."""
        numbers = [tree["root"]] if tree["depth"] else []
        for number in numbers:
            if self._header(number)[0] & self.BRANCH:
                numbers += [node["child"] for _, node in self._nodes(number)]
        return numbers

    def _mark_tree(self, tree, name):
        for number in self._reach(tree):
            flags, _, lower, _ = self._header(number)
            self.pages[number] = f"{name} {'branch' if flags & self.BRANCH else 'leaf'}"
            at = number * PAGE
            self.map.mark(at, 8)
            self.map.mark(at + 10, lower - 10)  # flags, bounds and the nodes' places
            for _, node in self._nodes(number):
                if flags & self.BRANCH:
                    self._mark_branch_node(node)
                else:
                    self._mark_leaf_node(node, name)

    def _mark_branch_node(self, node):
        self.map.mark(node["at"], 8)
        if node["n"] > 0:  # a separator may be changed and still separate; nobody reads the first
            self.map.mark(node["key"], node["key_size"], EITHER)

    def _mark_leaf_node(self, node, name):
        self.map.mark(node["at"], 8)
        # Which transaction freed a page matters to readers of old snapshots, which are none.
        self.map.mark(node["key"], node["key_size"], EITHER if name == "free" else LIVE)
        if not node["big"]:
            self.map.mark(node["value"], node["size"])
            return
        self.map.mark(node["value"], 8)
        first = struct.unpack_from("<Q", self.data, node["value"])[0]
        for number in range(first, first + (15 + node["size"]) // PAGE + 1):
            self.pages[number] = f"{name} overflow"
        self.map.mark(first * PAGE, 8)
        self.map.mark(first * PAGE + 10, 6)
        self.map.mark(first * PAGE + 16, node["size"])


# --- all of it ------------------------------------------------------------------------------------


class Layout:
    """The maps of a directory's files, by path."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.lmdb = Lmdb(data_dir / "meta" / "data.mdb")
        self.indexes = sorted((data_dir / "index").glob("*.idx"))
        spans = [tuple(map(int, path.stem.split("-"))) for path in self.indexes]
        durable = max([self.lmdb.state["applied"]] + [end for _, end in spans])
        self.durable = durable
        self.segments = read_log(data_dir)
        self.maps = map_log(data_dir, durable)
        self.maps[data_dir / "meta" / "data.mdb"] = self.lmdb.map
        for path in self.indexes:  # every block carries a checksum over all of it
            self.maps[path] = Map(path.stat().st_size)
            self.maps[path].mark(0, path.stat().st_size)
        # Read by nobody before they are written anew.
        for path in [*(data_dir / "log").glob("free-*.seg"), data_dir / "meta" / "lock.mdb",
                     data_dir / "lock"]:
            self.maps[path] = Map(path.stat().st_size)

    def missing_kind(self, path):
        """What it means that a file is not there."""
        if path.suffix == ".idx":  # of those at the end the log still has everything
            return DEAD if path == self.indexes[-1] else LIVE
        if path.name == "lock.mdb" or path.suffix == ".seg":
            return DEAD
        if self.segments and path == self.segments[-1].path:
            return self.end_missing(0)
        return LIVE

    def end_missing(self, size):
        """What it means that the youngest segment ends at `size`. What proves that records had been
        durable may be gone with them; rows and index files know up to where they reach."""
        last = self.segments[-1]
        left = [record for record in last.records if record.offset + record.size <= size]
        others = [record for segment in self.segments[:-1] for record in segment.records]
        known = max([self.durable] + [record.durable for record in left + others])
        gone = [record for record in last.records if record.offset + record.size > size]
        if (size and size < PAGE) or gone and gone[0].position < known:
            return LIVE
        return EITHER

    def shorter_kind(self, path, size):
        """What it means that a file is cut off, beyond the bytes that are gone: a page in use that is
        no longer whole may be told, although only its free room is cut."""
        used = path.name == "data.mdb" and size % PAGE and size // PAGE in self.lmdb.pages
        return EITHER if used else DEAD

    def longer_kind(self, path):
        """What it means that there is something behind a file's end."""
        return LIVE if path.suffix == ".idx" else DEAD
