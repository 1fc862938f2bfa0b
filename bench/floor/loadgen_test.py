"""Tests the load generator against the floor relay: it counts everything that arrives, and it
fails when a message is missing. Usage: loadgen_test.py LOADGEN FLOOR"""
import json
import socket
import subprocess
import sys
import tempfile
import time
import unittest

LOADGEN = FLOOR = ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LoadgenTest(unittest.TestCase):
    def start(self, *extra):
        port = free_port()
        server = subprocess.Popen([FLOOR, "--port", str(port), *extra])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return port, server.pid
            except OSError:
                self.assertIsNone(server.poll(), "the floor relay has ended")
                self.assertLess(time.monotonic(), deadline, "the floor relay does not listen")

    def run_loadgen(self, port, *args):
        done = subprocess.run([LOADGEN, *args, "--port", str(port), "--json", "--timeout", "2"],
                              stdout=subprocess.PIPE, text=True, check=False, timeout=50)
        return done.returncode, json.loads(done.stdout)

    def test_fan_in_and_out_count_every_message(self):
        with tempfile.TemporaryDirectory() as folder:
            port, pid = self.start("--log", folder + "/log")
            for qos in "0", "1":
                code, found = self.run_loadgen(
                    port, "fan", "--qos", qos, "--publishers", "7", "--subscribers", "3",
                    "--count", "1001", "--server-pid", str(pid))
                self.assertEqual(code, 0, found)
                self.assertTrue(found["ok"])
                self.assertEqual(found["delivered"], 3003)
                self.assertEqual(found["acked"], 1001 if qos == "1" else 0)
                self.assertEqual(found["duplicates"] + found["gaps"] + found["corrupt"], 0)
                self.assertGreater(found["measures"][0]["server_cpu_s"], 0)
                self.assertGreaterEqual(found["delivery"]["p99_us"], found["delivery"]["p50_us"])

    def test_a_missing_message_is_a_failure(self):
        port, _ = self.start("--drop-every", "500")
        code, found = self.run_loadgen(port, "fan", "--qos", "1", "--publishers", "2",
                                       "--count", "1000")
        self.assertEqual(code, 1)
        self.assertFalse(found["ok"])
        self.assertEqual(found["delivered"], 998)
        self.assertEqual(found["deliveries_expected"], 1000)
        self.assertIn("no progress", found["error"])

    def test_pace_is_kept(self):
        port, _ = self.start()
        code, found = self.run_loadgen(port, "fan", "--publishers", "3", "--count", "500",
                                       "--rate", "1000")
        self.assertEqual(code, 0, found)
        self.assertGreater(found["measures"][0]["wall_s"], 0.49)

    def test_idle_and_connect(self):
        port, _ = self.start()
        code, found = self.run_loadgen(port, "idle", "--connections", "300", "--subscribe",
                                       "--source-addresses", "4")
        self.assertEqual(code, 0, found)
        self.assertEqual(found["connack"]["count"], 300)
        code, found = self.run_loadgen(port, "connect", "--connections", "20", "--count", "500")
        self.assertEqual(code, 0, found)
        self.assertEqual(found["connack"]["count"], 500)

    def test_a_server_that_is_not_there_is_a_failure(self):
        code, found = self.run_loadgen(free_port(), "fan", "--count", "1")
        self.assertEqual(code, 1)
        self.assertIn("refused", found["error"])


if __name__ == "__main__":
    LOADGEN, FLOOR = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
