"""Opens a crash image with a server, as after the reboot, and compares it with what was promised.

usage: check_image.py BINARY IMAGE MARK

MARK says how many messages had been acknowledged before the cut; message n is at QoS 1 if n is odd,
else at QoS 2. Status 0 when all holds; 1 with the assertion that failed on stdout.
"""

import hashlib
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

KEPT_AT = 10  # this message is retained too
SESSION = "away"
CONFIG = {
    "store.segment_size": "1MiB",
    "store.checkpoint_interval": "100ms",
    "store.seal_entries": 1000,
    "retention.bytes": "4MiB",
    "sys.interval": 0,
}


def payload_of(number):
    """The payload of a message: its number, a hash, and something to fill a few sectors."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return f"{number} {digest} ".encode() + bytes([number % 251]) * (number * 37 % 1500)


class Broken(Exception):
    """An assertion about the image failed."""


def expect(holds, assertion, detail=""):
    """One assertion."""
    if not holds:
        raise Broken(f"assertion failed: {assertion}: {detail}")


def read_backlog(connection, last):
    """The numbers of what the session receives, in order, up to the message of the checker."""
    from quick import Receiver

    numbers = []

    def note(_topic, payload, _qos):
        if payload == last:
            numbers.append(None)
            return
        word = payload.split(b" ", 1)[0]
        number = int(word) if word.isdigit() else -1
        expect(number > 0 and payload == payload_of(number),
               "what is delivered was published", repr(payload[:60]))
        numbers.append(number)

    receiver = Receiver(note)
    while numbers.count(None) < 2:  # one at each QoS: they may overtake each other
        kind, flags, body = connection.receive()
        receiver.handle(connection, kind, flags, body)
    return [number for number in numbers if number is not None]


def check(binary, image, mark):
    """Starts the server on the image and asks for everything that was promised."""
    os.environ["TIDEMQ_BIN"] = binary
    from quick import PUBLISH, Connection, Gone, Sender, parse_publish
    from tidemq import Server, StartFailed

    server = Server(image.with_name(image.name + ".run"), {**CONFIG, "data_dir": image})
    try:
        try:
            server.start()
        except StartFailed as err:
            raise Broken(f"assertion failed: the server starts after the cut: {err}") from None
        if mark == 0:
            return
        address = ("127.0.0.1", server.port)
        try:
            last = b"the last one"
            session = Connection(address, SESSION)
            expect(session.session_present, "the session is there", "session present is 0")
            publisher = Connection(address, "checker", clean=True)
            sender = Sender(2)
            for qos in (1, 2):
                sender.publish(publisher, "m/last", last, qos)
            while sender.open:
                kind, _, body = publisher.receive()
                sender.handle(publisher, kind, body)
            found = read_backlog(session, last)
            rest = set(range(1, mark + 1)) - set(found)
            expect(not rest, "every acknowledged message is delivered",
                   f"{len(rest)} of {mark} are missing, first {sorted(rest)[:5]}")
            for parity, qos in ((1, 1), (0, 2)):
                numbers = [number for number in found if number % 2 == parity]
                expect(numbers == sorted(set(numbers)), "in order and once", f"QoS {qos}: {numbers}")
            if mark >= KEPT_AT:
                before = publisher.subscribe("kept/#", 1)
                kind, flags, body = before[0] if before else publisher.receive()
                expect(kind == PUBLISH and flags & 1 and parse_publish(flags, body)[1] == b"kept",
                       "the retained message is there", body[:40])
        except Gone as err:
            raise Broken(f"assertion failed: the server answers: {err} {server.log[-500:]}") from None
    finally:
        server.kill()


def main():
    binary, image, mark = sys.argv[1:]
    try:
        check(binary, pathlib.Path(image), int(mark))
    except Broken as err:
        print(err, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
