"""Does a Broker reorder sends? Numbered messages, many under way, and the order in which they lie in
the queue of their topic and in an LMQ."""

import struct
import time

import lab
from remoting import LMQ


def disorder(numbers):
    """How many stand behind a higher one, and the longest way that one has been overtaken."""
    top, late, far = -1, 0, 0
    for number in numbers:
        if number < top:
            late, far = late + 1, max(far, top - number)
        top = max(top, number)
    return late, far


def numbers_in(client, queue, count, queue_id=0):
    """The numbers in the order of a queue."""
    return [struct.unpack(">q", message.body)[0]
            for message in lab.drain(client, queue, count, queue_id)]


def lanes_of(server, template, count, connections, window):
    """Lanes whose requests are numbered in the order in which one program hands them over."""
    lanes = []
    for index in range(connections):
        requests = lab.numbered(template, range(index, count, connections))
        lanes.append(lab.Lane(server.client(60), requests, window))
    return lanes


def one_run(server, label, run, count, connections, window):
    """One queue, all at once. Returns how many were late in it, how far, and in the LMQ."""
    topic, queue = f"{label}-{run}", f"{LMQ}{label}-{run}"
    with server.client(60) as client:
        client.create_topic(topic, 1)
        lanes = lanes_of(server, lab.send_template(topic, 0, queue, 0), count, connections, window)
        cpu = server.cpu_s()
        seconds = lab.pump(lanes)
        cpu = server.cpu_s() - cpu
        for lane in lanes:
            lane.client.close()
    with server.client(60) as client:  # a Broker closes what was idle for two minutes
        in_topic = numbers_in(client, topic, count)
        in_lmq = numbers_in(client, queue, count)
    late, far = disorder(in_topic)
    return late, far, in_topic == in_lmq, sum(lane.busy for lane in lanes), count / seconds, cpu


def acknowledged_first(server, count):
    """Each sent when the one before was acknowledged, over two connections in turn."""
    with server.client(60) as first, server.client(60) as second:
        first.create_topic("turns", 1)
        for number in range(count):
            client = (first, second)[number % 2]
            client.send_message("turns", struct.pack(">q", number))
        return disorder(numbers_in(first, "turns", count))


def many_queues(server, label, queues, count):
    """One under way per queue, many queues, one connection: the rate, and whether order holds."""
    topic = f"{label}-many"
    with server.client(60) as client:
        client.create_topic(topic, queues)
        templates = [lab.send_template(topic, queue_id, "", 0) for queue_id in range(queues)]
        waiting = {queue_id: 0 for queue_id in range(queues)}  # the next number
        under_way, began, sent = {}, time.monotonic(), 0

        def send(queue_id):
            opaque = client.next_opaque()
            under_way[opaque] = queue_id
            body = struct.pack(">q", waiting[queue_id])
            waiting[queue_id] += 1
            return templates[queue_id].bytes_of(opaque, body)

        client.send_bytes(b"".join(send(queue_id) for queue_id in waiting))
        while sent < count:
            frames = []
            for answer in client.receive_some():
                assert answer.code == 0, answer.remark
                sent += 1
                frames.append(send(under_way.pop(answer.opaque)))
            client.send_bytes(b"".join(frames))
        rate = sent / (time.monotonic() - began)
        while under_way:
            for answer in client.receive_some():
                del under_way[answer.opaque]
        late = sum(disorder(numbers_in(client, topic, waiting[queue_id], queue_id))[0]
                   for queue_id in range(queues))
    return late, rate


def run(quick):
    """Prints the tables."""
    count, runs = (400, 1) if quick else (1000, 3)
    shapes = ((1, 1), (1, 2), (1, 16), (1, 256), (2, 1), (4, 64))
    rows, more = [], []
    for threads in (None, 1, 4):
        config = {} if threads is None else {"sendMessageThreadPoolNums": threads}
        name = "default" if threads is None else threads
        with lab.broker(**config) as server:
            for connections, window in shapes:
                label = f"o-{name}-{connections}-{window}"
                found = [one_run(server, label, run, count, connections, window)
                         for run in range(runs)]
                rows.append((name, connections, window, f"{count} x {runs}",
                             sum(late for late, *_ in found), max(far for _, far, *_ in found),
                             "yes" if all(same for _, _, same, *_ in found) else "no",
                             sum(busy for *_, busy, _, _ in found),
                             f"{max(rate for *_, rate, _ in found):,.0f}",
                             f"{sum(cpu for *_, cpu in found) / count / runs * 1e6:.0f}"))
                lab.say(*rows[-1])
            for queues in (64, 256):
                late, rate = many_queues(server, f"o-{name}-{queues}", queues, count * 2)
                more.append((name, queues, late, f"{rate:,.0f}"))
            more.append((name, "1, by turns on two connections", acknowledged_first(server, count // 2)[0],
                         "-"))
    lab.table("One queue, many sends under way",
              ("send threads", "connections", "under way each", "messages", "overtaken", "by at most",
               "LMQ same as topic", "busy answers", "best msg/s",
               "CPU us of the Broker each"), rows)
    lab.table("One send under way per queue, on one connection",
              ("send threads", "queues", "overtaken", "msg/s"), more)
