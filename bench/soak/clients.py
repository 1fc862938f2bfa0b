"""The clients of the soak: small MQTT 3.1.1 clients on asyncio, each with one job for ever.

Each counts what it does in a Counter they share. A job whose connection ends connects again after a
moment and counts that too: during a soak the server never has a reason to end one.
"""

import asyncio
import itertools
import os
import random
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)
ANSWER = {PUBREC: PUBREL, PUBREL: PUBCOMP}
AGAIN_S = 1.0
WINDOW = 200


def packet(kind, flags, body=b""):
    """One packet."""
    length, head = len(body), bytearray([kind << 4 | flags])
    while True:
        byte, length = length & 127, length >> 7
        head.append(byte | (128 if length else 0))
        if not length:
            return bytes(head) + body


def text(value):
    """A string with its length."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


class Ended(Exception):
    """The connection has ended."""


class Link:
    """One connection. What is received is acknowledged at once and counted under `name`."""

    def __init__(self, load, name, client_id, clean):
        self.load, self.name, self.client_id, self.clean = load, name, client_id, clean
        self.open = {}  # packet IDs sent, to the event that is set with the last answer
        self.ids = itertools.cycle(range(1, 65536))

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.load.port)
        self.writer.write(packet(CONNECT, 0, text("MQTT") + bytes([4, self.clean << 1, 0, 0])
                                 + text(self.client_id)))
        kind, _, body = await self.receive()
        if kind != CONNACK or body[1]:
            raise Ended(f"CONNACK {body.hex()}")
        self.load.counts["connects"] += 1
        return self

    async def __aexit__(self, *error):
        self.writer.close()

    async def receive(self):
        """The next packet as (kind, flags, body)."""
        head = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head >> 4, head & 15, await self.reader.readexactly(length)

    async def handle(self):
        """Receives one packet and deals with it."""
        kind, flags, body = await self.receive()
        if kind == PUBLISH:
            self.load.counts[self.name] += 1
            qos, size = flags >> 1 & 3, struct.unpack(">H", body[:2])[0]
            if qos:
                self.writer.write(packet(PUBACK if qos == 1 else PUBREC, 0, body[2 + size:4 + size]))
        elif kind in ANSWER:
            answer = ANSWER[kind]
            self.writer.write(packet(answer, 2 if answer == PUBREL else 0, body[:2]))
        elif kind in (PUBACK, PUBCOMP, SUBACK, UNSUBACK):
            self.open.pop(struct.unpack(">H", body[:2])[0], None)

    async def settle(self, most=0):
        """Deals with packets until at most so many wait for an answer."""
        while len(self.open) > most:
            await self.handle()

    def send(self, kind, flags, head, body=b"", has_id=True):
        """Sends a packet; with an ID it is open until its last answer."""
        if has_id:
            number = next(n for n in self.ids if n not in self.open)
            self.open[number] = True
            head += struct.pack(">H", number)
        self.writer.write(packet(kind, flags, head + body))

    async def subscribe(self, *filters, qos=1):
        """SUBSCRIBE and its answer."""
        self.send(SUBSCRIBE, 2, b"", b"".join(text(name) + bytes([qos]) for name in filters))
        await self.settle()

    async def unsubscribe(self, *filters):
        """UNSUBSCRIBE and its answer."""
        self.send(UNSUBSCRIBE, 2, b"", b"".join(text(name) for name in filters))
        await self.settle()

    def publish(self, topic, payload, qos, retain=False):
        """PUBLISH."""
        self.load.counts["published"] += 1
        self.send(PUBLISH, qos << 1 | retain, text(topic), payload, has_id=qos > 0)

    async def leave(self):
        """DISCONNECT."""
        self.writer.write(packet(DISCONNECT, 0))
        await self.writer.drain()


class Load:
    """All jobs, for one server. rate: messages a second of each of the three publishers."""

    def __init__(self, port, rate, seed, counts):
        self.port, self.rate, self.counts = port, rate, counts
        self.random = random.Random(seed)

    async def run(self, stopped):
        """Works until the event is set."""
        jobs = [self.publisher(qos) for qos in (0, 1, 2)]
        jobs += [self.subscriber(f"fast{qos}", f"fast{qos}", "load/#", qos) for qos in (0, 1, 2)]
        jobs += [self.subscriber("group", f"member{n}", "$share/group/load/+/1", 1) for n in range(2)]
        jobs += [self.slow(), self.stuck(), self.member_that_leaves(), self.visitor(), self.churn()]
        jobs += [self.filters(), self.retained(), self.retained_reader(), self.idle()]
        tasks = [asyncio.create_task(self.forever(job)) for job in jobs]
        await stopped.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forever(self, job):
        """A job is a function that makes one connection and works on it until that ends."""
        while True:
            try:
                await job()
            except (OSError, EOFError, Ended):
                self.counts["lost connections"] += 1
                await asyncio.sleep(AGAIN_S)

    def publisher(self, qos):
        """Publishes to load/QOS/0..9 at the rate, ten times a second."""
        async def job():
            async with Link(self, "none", f"publisher{qos}", True) as link:
                clock = asyncio.get_running_loop().time
                due = clock()
                while True:
                    for _ in range(self.rate // 10):
                        payload = os.urandom(self.random.randrange(16, 1024))
                        link.publish(f"load/{qos}/{self.random.randrange(10)}", payload, qos)
                    await link.settle(WINDOW)
                    await link.writer.drain()
                    due += 0.1
                    while clock() < due and link.open:
                        await self.within(link.handle(), due - clock())
                    await asyncio.sleep(max(0, due - clock()))
        return job

    @staticmethod
    async def within(work, seconds):
        """Waits for the work, not longer than so; a packet that is being received is not lost."""
        task = asyncio.ensure_future(work)
        await asyncio.wait([task], timeout=seconds)
        await task

    def subscriber(self, name, client_id, topic_filter, qos):
        """A durable session that reads all it gets."""
        async def job():
            async with Link(self, name, client_id, False) as link:
                await link.subscribe(topic_filter, qos=qos)
                while True:
                    await link.handle()
        return job

    def slow(self):
        """Reads a tenth of what is published at QoS 1 and 2; retention takes the rest from it."""
        async def job():
            async with Link(self, "slow", "slow", False) as link:
                await link.subscribe("load/1/#")
                await link.subscribe("load/2/#")
                while True:
                    await link.handle()
                    await asyncio.sleep(1 / max(1, self.rate * 3 / 10))
        return job

    def stuck(self):
        """Asks for QoS 0 and never reads: what the server holds for it comes to its bound in the warm-up
        and stays there. A reader that is only slow would let it rise and fall all the time."""
        async def job():
            async with Link(self, "none", "stuck", True) as link:
                await link.subscribe("load/0/#", qos=0)
                await asyncio.Event().wait()
        return job

    def member_that_leaves(self):
        """A member of the shared group that stays for ten seconds at a time."""
        async def job():
            async with Link(self, "group", "member-now-and-then", False) as link:
                await link.subscribe("$share/group/load/+/1")
                end = asyncio.get_running_loop().time() + 10
                while asyncio.get_running_loop().time() < end:
                    await link.handle()
            await asyncio.sleep(2)
        return job

    def visitor(self):
        """A durable session that comes every fifteen seconds to fetch what has gathered."""
        async def job():
            async with Link(self, "visitor", "visitor", False) as link:
                await link.subscribe("load/1/#")
                end = asyncio.get_running_loop().time() + 5
                while asyncio.get_running_loop().time() < end:
                    await link.handle()
                await link.leave()
            await asyncio.sleep(10)
        return job

    def churn(self):
        """Sessions that come and go, ten a second: of 500 durable ones, some begin anew."""
        async def job():
            while True:
                number = self.random.randrange(500)
                clean = self.random.random() < 0.3
                async with Link(self, "churn", f"churn{number}", clean) as link:
                    if not clean:
                        await link.subscribe(f"churn/{number}", f"load/0/{number % 10}/never")
                    link.publish(f"churn/{self.random.randrange(500)}", os.urandom(100), 1)
                    await link.settle()
                    await link.leave()
                self.counts["sessions come and gone"] += 1
                await asyncio.sleep(0.1)
        return job

    def filters(self):
        """Subscribes to twenty of 5,000 filters and leaves twenty, twice a second."""
        async def job():
            async with Link(self, "filters", "filters", False) as link:
                while True:
                    start = self.random.randrange(5000)
                    names = [f"filters/{n % 5000}/+" for n in range(start, start + 20)]
                    await link.subscribe(*names)
                    await asyncio.sleep(0.25)
                    await link.unsubscribe(*names)
                    self.counts["subscriptions made and removed"] += len(names)
                    await asyncio.sleep(0.25)
        return job

    def retained(self):
        """Twenty retained messages a second over 1,000 topics, one in ten removed."""
        async def job():
            async with Link(self, "none", "keeper", True) as link:
                while True:
                    for _ in range(10):
                        payload = os.urandom(200) if self.random.random() > 0.1 else b""
                        link.publish(f"kept/{self.random.randrange(1000)}", payload, 1, True)
                        self.counts["retained set"] += 1
                    await link.settle()
                    await asyncio.sleep(0.5)
        return job

    def retained_reader(self):
        """A new subscriber to all of them, every five seconds."""
        async def job():
            async with Link(self, "retained", "", True) as link:
                await link.subscribe("kept/#")
                reading = asyncio.create_task(self.read(link))
                await asyncio.wait([reading], timeout=5)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return job

    @staticmethod
    async def read(link):
        """Reads what comes, until it is cancelled or the connection ends."""
        while True:
            await link.handle()

    def idle(self):
        """A hundred connections that only send PINGREQ."""
        async def job():
            links = []
            try:
                for number in range(100):
                    link = Link(self, "none", f"idle{number}", True)
                    links.append(await link.__aenter__())
                while True:
                    for link in links:
                        link.writer.write(packet(PINGREQ, 0))
                        await link.handle()
                    await asyncio.sleep(20)
            finally:
                for link in links:
                    link.writer.close()
        return job
