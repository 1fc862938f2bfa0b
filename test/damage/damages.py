"""What can happen to a file: each damage has a name, the file and its new content."""

import random
import shutil
import struct

from layout import PAGE


class Damage:
    """A change of some files: path to content, None for a file that is gone."""

    def __init__(self, what, changes):
        self.what = what
        self.changes = changes
        self.before = {}

    @property
    def name(self):
        """For messages."""
        return f"{self.what} of {', '.join(path.name for path in self.changes)}"

    def kind(self, layout):
        """LIVE, DEAD or EITHER, from the maps."""
        kinds = set()
        for path, content in self.changes.items():
            before = path.read_bytes()
            if content is None:
                kinds.add(layout.missing_kind(path))
            elif len(content) > len(before) and content.startswith(before):
                kinds.add(layout.longer_kind(path))
            else:
                kind = layout.maps[path].of(before, content)
                shorter = len(content) < len(before)
                if kind and shorter and path == layout.segments[-1].path:
                    kind = layout.end_missing(len(content))
                kinds.add(kind)
                if len(content) < len(before):
                    kinds.add(layout.shorter_kind(path, len(content)))
        return 1 if 1 in kinds else 2 if 2 in kinds else 0

    def apply(self, root=None, original=None):
        """Does it, in place or in a copy of the directory."""
        for path, content in self.changes.items():
            target = path if root is None else root / path.relative_to(original)
            self.before[target] = target.read_bytes()
            if content is None:
                target.unlink()
            else:
                target.write_bytes(content)

    def undo(self):
        """Puts everything back as it was."""
        for path, content in self.before.items():
            path.write_bytes(content)
        self.before = {}


def flip(path, offset, bit):
    """One bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    return Damage(f"bit {bit} at offset {offset}", {path: bytes(data)})


def zero_page(path, number):
    """A page of zeros, as some disks return for what they lost."""
    data = bytearray(path.read_bytes())
    data[number * PAGE : (number + 1) * PAGE] = bytes(len(data[number * PAGE : (number + 1) * PAGE]))
    return Damage(f"page {number} full of zeros", {path: bytes(data)})


def cut(path, size):
    """The file cut off."""
    return Damage(f"cut to {size} bytes", {path: path.read_bytes()[:size]})


def extend(path, junk):
    """Something behind the end."""
    return Damage(f"{len(junk)} bytes more", {path: path.read_bytes() + junk})


def swap(one, other):
    """Two files that have changed places."""
    return Damage("swap", {one: other.read_bytes(), other: one.read_bytes()})


def missing(path):
    """A file that is not there."""
    return Damage("loss", {path: None})


# --- places that have a meaning -------------------------------------------------------------------


def places_of_log(layout, rng, count):
    """Every field of segment headers; of some records every field of the header, payload, rows and
    padding; what lies behind the end."""
    for segment in layout.segments:
        yield from ((segment.path, at) for at in range(0, 56, 3))
        yield from ((segment.path, at) for at in (56, 4000, PAGE - 1))
        records = segment.records
        for record in [records[0], records[-1], *rng.sample(records, min(count, len(records)))]:
            yield from ((segment.path, record.offset + at) for at in range(0, 72, 5))
            for part in ("topic", "payload", "rows"):
                yield segment.path, min(record.parts[part], record.offset + record.size - 1)
            yield segment.path, record.offset + record.size - 1
        behind = segment.records[-1].offset + segment.records[-1].size
        if behind < len(segment.data):
            yield segment.path, behind
            yield segment.path, rng.randrange(behind, len(segment.data))


def places_of_index(layout, rng, count):
    """Header, directory, entries, each block's trailer."""
    for path in layout.indexes:
        yield from ((path, at) for at in range(0, 40, 3))
        for block in rng.sample(range(path.stat().st_size // PAGE),
                                min(count, path.stat().st_size // PAGE)):
            yield from ((path, block * PAGE + at) for at in (0, 8, 17, 2000, 4080, 4088, 4093, 4095))


def places_of_lmdb(layout, rng, count):
    """Every field of the meta pages; of each kind of page the header, the nodes' places, keys,
    values, and the free room; free pages."""
    path = layout.data_dir / "meta" / "data.mdb"
    yield from ((path, slot * PAGE + at) for slot in (0, 1) for at in range(0, 152, 2))
    kinds = {}
    for number, kind in layout.lmdb.pages.items():
        kinds.setdefault(kind, []).append(number)
    for numbers in kinds.values():
        for number in rng.sample(numbers, min(count, len(numbers))):
            yield from ((path, number * PAGE + at) for at in range(0, 24))
            yield from ((path, number * PAGE + rng.randrange(PAGE)) for _ in range(12))
    used = set(layout.lmdb.pages) | {0, 1}
    free = [n for n in range(path.stat().st_size // PAGE) if n not in used]
    yield from ((path, number * PAGE + rng.randrange(PAGE)) for number in free[:4])


def all_damages(layout, seed, scale):
    """The catalogue. `scale`: how many of each kind that chance decides."""
    rng = random.Random(seed)
    data_mdb = layout.data_dir / "meta" / "data.mdb"
    logs = [segment.path for segment in layout.segments]
    pool = sorted((layout.data_dir / "log").glob("free-*.seg"))
    files = [*logs, *layout.indexes, data_mdb]
    for places in (places_of_log, places_of_index, places_of_lmdb):
        for path, offset in places(layout, rng, 1 + scale // 8):
            yield flip(path, offset, rng.randrange(8))
    for path in files:
        size = path.stat().st_size
        for _ in range(scale):
            yield flip(path, rng.randrange(size), rng.randrange(8))
        for _ in range(1 + scale // 4):
            yield zero_page(path, rng.randrange(size // PAGE))
            yield cut(path, rng.randrange(size))
        yield from (cut(path, at) for at in (0, 1, PAGE, size - 1))
        yield extend(path, rng.randbytes(1))
        yield extend(path, rng.randbytes(PAGE))
        yield missing(path)
    for number in sorted(layout.lmdb.pages)[: 1 + scale]:
        yield zero_page(data_mdb, number)
    for group in (logs, layout.indexes, [logs[0], data_mdb], [*layout.indexes[:1], logs[-1]]):
        for one, other in zip(group, group[1:]):
            yield swap(one, other)
    for path in [*pool, data_mdb.with_name("lock.mdb")]:
        yield flip(path, rng.randrange(path.stat().st_size), 0)
        yield cut(path, rng.randrange(path.stat().st_size))
        yield extend(path, struct.pack("<Q", 1))
        yield missing(path)


def copy_dir(source, target):
    """A copy to serve from, or to repair."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
