"""The log's files as a test has to know them: docs/storage-engine.md has the format."""

import struct
from dataclasses import dataclass

HEADER_SIZE = 4096
SEGMENT = struct.Struct("<QIIQQQ")  # magic, version, epoch, number, previous number, base
RECORD = struct.Struct("<IIQI")  # size, checksum, position, epoch
RECORD_HEADER_SIZE = 72
FLAGS_OFFSET = 69
MESSAGE_COPY = 2


@dataclass
class Segment:
    """One file of the log."""

    name: str
    epoch: int
    number: int
    base: int
    content: bytes

    def records(self):
        """(offset, size, flags) of each record from the beginning on, while they are of this epoch
        and in their places. Checksums are not looked at."""
        offset = HEADER_SIZE
        while offset + RECORD_HEADER_SIZE <= len(self.content):
            size, _, position, epoch = RECORD.unpack_from(self.content, offset)
            if position != self.base + offset - HEADER_SIZE or epoch != self.epoch or size < 72:
                return
            yield offset, size, self.content[offset + FLAGS_OFFSET]
            offset += size


def segments(folder):
    """The segments of a log in their order."""
    found = []
    for path in sorted(folder.glob("*.log")):
        content = path.read_bytes()
        _, _, epoch, number, _, base = SEGMENT.unpack_from(content)
        found.append(Segment(path.name, epoch, number, base, content))
    return found


def log_end(folder):
    """The offset in the youngest segment at which its records end."""
    end = HEADER_SIZE
    for offset, size, _ in segments(folder)[-1].records():
        end = offset + size
    return end


def record_size(topic, client_id, queues):
    """Bytes of a record without its payload."""
    return RECORD_HEADER_SIZE + 4 * queues + len(topic) + len(client_id)
