"""Tests the benchmark itself: statistics, report and plots over made-up results, and a tiny run of
each scenario against TideMQ. Usage: bench_test.py LOADGEN TIDEMQ, with the tests' Python."""
import pathlib
import sys
import tempfile
import unittest

import disk
import peers
import plots
import report
import rows
import run
import scenarios
import servers
import stats

LOADGEN = TIDEMQ = ""
FAN_IN, PERSISTENT = (next(row for row in rows.ROWS if row.key == key)
                      for key in ("fan_in_qos1", "fan_in_qos1_persistent"))
FAN_OUT = next(series for series in rows.SERIES if series.key == "fan_out")


def made_up(*results):
    """Results as run.py writes them; each one is (row, server, figures) and perhaps an error."""
    content = {"began": "2026-01-01 00:00", "quick": False, "repeat": 3, "batch": 10,
               "payload": 256, "kernel": "6.1", "cores": 2, "load_average": 0.5, "results": [],
               "missing": {"aedes": "npm is not installed"},
               "left_out": {"kill": {"floor": "no disk"}},
               "servers": {name: {"version": name + " 1", "settings": "none", "warm_up": False}
                           for name in ("tidemq", "mosquitto")}}
    for turn, (row, server, figures, *error) in enumerate(results):
        part = {"name": "run", "wall_s": 2.0, "generator_cpu_s": 1.9, "server_cpu_s": 1.0,
                "published": 90, "acked": 90, "delivered": 90, "subscribed": 0, "connections": 0}
        found = {"ok": not error, "delivered": 90, "deliveries_expected": 90 if not error else 100,
                 "measures": [part]}
        content["results"].append({"row": row, "server": server, "turn": turn, "count": 100,
                                   "figures": figures, "found": found, "notes": {},
                                   "error": error[0] if error else ""})
    return content


class Statistics(unittest.TestCase):
    def test_median_and_ratio_are_over_all_runs(self):
        content = made_up(*(("fan_in_qos1", "tidemq", {"cpu": value}) for value in (1, 9, 2)),
                          ("fan_in_qos1", "mosquitto", {"cpu": 8}),
                          ("fan_in_qos1", "mosquitto", {}))
        self.assertEqual(stats.median(content, FAN_IN, "tidemq", "cpu"), 2)
        self.assertEqual(stats.ratio(content, FAN_IN, "tidemq", "mosquitto", "cpu"), 0.25)
        self.assertIsNone(stats.ratio(content, FAN_IN, "tidemq", "floor", "cpu"))
        self.assertEqual(stats.delivered(content, FAN_IN, "mosquitto"), (180, 180))

    def test_target_is_met_from_the_right_side(self):
        cost = rows.Figure("cpu", "", "", 1.0)
        rate = rows.Figure("rate", "", "", 1.0, "", True)
        self.assertEqual([stats.is_met(cost, value) for value in (0.9, 1.0, 1.1, None)],
                         [True, True, False, None])
        self.assertEqual([stats.is_met(rate, value) for value in (0.9, 1.0)], [False, True])
        self.assertIsNone(stats.is_met(rows.Figure("cpu", "", ""), 1))

    def test_growth_is_the_worst_step_to_a_larger_size(self):
        self.assertEqual(stats.growth([(1, 8), (10, 2), (100, 6), (1000, 4)]), (3, 10, 100))
        self.assertEqual(stats.growth([(1, 8), (10, 2)]), (0.25, 1, 10))
        self.assertIsNone(stats.growth([(1, 8), (10, 0)]))

    def test_share_of_the_generator(self):
        content = made_up(("fan_in_qos1", "tidemq", {}))
        part = stats.measured_part(content["results"][0])
        self.assertAlmostEqual(stats.generator_share(part), 0.95)
        self.assertIsNone(stats.measured_part({"found": None}))

    def test_best_other_is_one_that_delivered_all(self):
        content = made_up(("fan_in_qos1", "tidemq", {"cpu": 2.0, "rate": 4}),
                          ("fan_in_qos1", "mosquitto", {"cpu": 20.0, "rate": 1}))
        cost, rate = FAN_IN.figures[0], rows.Figure("rate", "", "", None, "", True)
        self.assertEqual(stats.best_other(content, FAN_IN, cost, []), ("mosquitto", 0.1))
        self.assertEqual(stats.best_other(content, FAN_IN, rate, []), ("mosquitto", 4))
        self.assertIsNone(stats.best_other(content, FAN_IN, cost, ["mosquitto"]))
        content["results"][1]["found"]["delivered"] = 89
        self.assertIsNone(stats.best_other(content, FAN_IN, cost, []))

    def test_errors_are_told_once(self):
        content = made_up(*[("fan_in_qos1", "mosquitto", {}, "no progress")] * 2)
        self.assertEqual(stats.errors(content), {("fan_in_qos1", "mosquitto"): ["no progress"]})


    def test_points_are_at_the_size_that_was_run(self):
        content = made_up(("filters_many", "tidemq", {"cpu": 4}),
                          ("filters_1000", "tidemq", {"cpu": 2}))
        content["results"][0]["count"] = 1000000
        series = next(series for series in rows.SERIES if series.key == "filters")
        self.assertEqual(stats.points(content, "cpu", series, "tidemq"), [(100, 2), (1000000, 4)])
        self.assertEqual(stats.points(content, "bytes", series, "tidemq"), [])


class Reporting(unittest.TestCase):
    def content(self):
        curve = [("fan_out_10", 1.0), ("fan_out_100", 2.0), ("fan_out_1000", 0.5)]
        return made_up(("fan_in_qos1", "tidemq", {"cpu": 2.0}),
                       ("fan_in_qos1", "mosquitto", {"cpu": 20.0}, "no progress for 10 s"),
                       ("fan_in_qos1_persistent", "tidemq", {"cpu": 6.0, "log": 359.0}),
                       ("pairs", "tidemq", {"p50": 300.0, "p99": 900.0, "p999": 2000.0}),
                       ("puback_10k", "tidemq", {"p50": 300.0, "p99": 900.0, "p999": 2000.0,
                                                 "checkpoints": 2, "seals": 0}),
                       *((key, "tidemq", {"cpu": value}) for key, value in curve))

    def test_report_says_what_the_results_say(self):
        text = report.report(self.content(), {})
        line = next(at for at in text.splitlines() if at.startswith("| " + FAN_IN.title))
        self.assertIn("| <= 4.0, durable | yes | **2** | 20 [90 % delivered] | "
                      "0.10 (aim 0.19: yes) | - | - |",
                      line)
        self.assertIn("| <= 5.0, durable | **no** | **6** |", text)
        self.assertIn("x2.00 from 10 to 100: **more than linear**", text)
        self.assertIn("fan_in_qos1, mosquitto: no progress for 10 s", text)
        self.assertIn("kill, floor: not run, no disk", text)
        self.assertIn("aedes did not take part: npm is not installed", text)
        self.assertIn("| 95 (the generator may be the limit) |", text)

    def test_report_shows_what_the_machine_did_beside_latencies(self):
        content = self.content()
        pairs = next(r for r in content["results"] if r["row"] == "pairs")
        pairs["disk_us"] = {"p50": 150.0, "p99": 410.0}
        pairs["found"]["slip"] = {"p99_us": 8700.0}
        self.assertIn("delivery | tidemq | 300 | 900 | 2,000 | 8,700 | 150 | 410 |",
                      report.report(content, {}))

    def test_a_target_holds_beside_mosquitto_on_another_machine(self):
        self.assertEqual(report.show_aimed(0.1, 0.16), "0.10 (aim 0.16: yes)")
        self.assertEqual(report.show_aimed(0.2, 0.16), "0.20 (aim 0.16: **no**)")
        self.assertEqual(report.show_aimed(0.2, None), "0.20")
        self.assertEqual(report.show_aimed(None, 0.16), "-")

    def test_plots_are_drawn_for_what_was_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            files = plots.draw_all(pathlib.Path(folder), self.content())
            self.assertEqual(sorted(files), ["cpu", "fan_out", "latency", "puback"])
            for file in files.values():
                head = (pathlib.Path(folder) / file).read_bytes()[:8]
                self.assertEqual(head, b"\x89PNG\r\n\x1a\n")


class Choosing(unittest.TestCase):
    def test_rows_are_named_alone_or_by_series(self):
        chosen, unknown = run.choose_rows(["fan_in_qos1", "fan_out", "nothing"])
        self.assertEqual([row.key for row in chosen][:2], ["fan_in_qos1", "fan_out_1"])
        self.assertEqual(unknown, ["nothing"])
        self.assertFalse(any(row.extra for row in run.choose_rows([])[0]))

    def test_slow_servers_get_fewer_messages(self):
        self.assertEqual(FAN_IN.count_for(peers.SERVERS["tidemq"], False), 500000)
        self.assertEqual(FAN_IN.count_for(peers.SERVERS["aedes"], False), 50000)
        pairs = next(row for row in rows.ROWS if row.key == "pairs")
        self.assertEqual(pairs.count_for(peers.SERVERS["mosquitto"], False), 36000)
        self.assertEqual(pairs.count_for(peers.SERVERS["mochi"], False), 10000)
        self.assertEqual(FAN_IN.count_for(peers.SERVERS["aedes"], True), 5000)

    def test_every_series_has_its_points_and_figures(self):
        for series in rows.SERIES:
            for key in series.figures:
                self.assertEqual(plots.figure_of(series, key).key, key)
            self.assertGreater(len([row for row in rows.ROWS if row.series == series.key]), 1)
        self.assertEqual(len({row.key for row in rows.ROWS}), len(rows.ROWS))

    def test_a_run_is_taken_up_where_it_stopped(self):
        with tempfile.TemporaryDirectory() as folder:
            journal = run.Journal(pathlib.Path(folder), False)
            for key, figures in (("fan_in_qos1", {"cpu": 1}), ("fan_in_qos1_persistent", {})):
                journal.add({"row": key, "server": "tidemq", "turn": 0, "figures": figures,
                             "start_s": 1})
            journal.add({"row": "fan_in_qos1", "server": "aedes", "turn": 0, "figures": {}})
            again = run.Journal(pathlib.Path(folder), True)
            self.assertTrue(again.has(FAN_IN, "tidemq", 0))
            self.assertFalse(again.has(FAN_IN, "tidemq", 1))
            self.assertFalse(again.failed(FAN_IN, "tidemq"))
            self.assertTrue(again.failed(PERSISTENT, "tidemq"))
            self.assertTrue(again.failed(PERSISTENT, "aedes"), "it never came to serve")


class HastyTideMQ(servers.TideMQ):
    """A server that is not waited for until it is quiet: nothing is measured here."""

    def wait_quiet(self):
        self.check_alive()


class Running(unittest.TestCase):
    """Each scenario once, with little of everything: all figures of the row must come out."""

    def run_row(self, key, count):
        row = next(row for row in rows.ROWS if row.key == key)
        with tempfile.TemporaryDirectory() as folder:
            server = HastyTideMQ(TIDEMQ, folder, True,
                                 ["store.segment_size=4MiB", *row.settings], row.transport)
            self.addCleanup(server.stop)
            server.start()
            found, figures, notes = scenarios.run_row(LOADGEN, row, server, count)
            server.stop()
        self.assertTrue(found["ok"], found)
        self.assertEqual(sorted(figures), sorted(figure.key for figure in row.figures), found)
        return found, figures, notes

    def test_load(self):
        found, figures, _ = self.run_row("payload_16", 3000)
        self.assertEqual((found["delivered"], found["duplicates"]), (3000, 0))
        self.assertGreater(figures["cpu"], 0)
        for key in ("fan_in_ws_qos1", "fan_in_tls_qos1", "fan_in_wss_qos0"):
            found, _, _ = self.run_row(key, 2000)
            self.assertEqual((found["delivered"], found["duplicates"]), (2000, 0))
        _, figures, _ = self.run_row("fan_in_qos1_persistent", 2000)
        self.assertGreater(figures["log"], 256)

    def test_the_disk_alone(self):
        with tempfile.TemporaryDirectory(dir=servers.ROOT / "build") as folder:
            times = disk.sync_times(folder)
            self.assertTrue(0 < times["p50"] <= times["p99"])
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_latency_and_puback(self):
        found, figures, _ = self.run_row("pairs", 300)
        self.assertGreaterEqual(figures["p999"], figures["p50"])
        found, _, _ = self.run_row("puback_100k", 3000)
        self.assertEqual(found["acked"], 3000)

    def test_kill_and_backlog(self):
        _, figures, _ = self.run_row("kill", 2000)
        self.assertEqual(figures["lost"], 0)
        self.run_row("backlog", 2000)

    def test_connections(self):
        self.run_row("connections", 200)
        for transport in ("ws", "tls", "wss", "quic"):
            _, figures, _ = self.run_row(f"connections_{transport}", 200)
            self.assertGreater(figures["bytes"], 0)

    def test_echo(self):
        for name in ("tcp", "quic"):
            found, figures, _ = self.run_row(f"echo_{name}", 200)
            self.assertEqual(found["delivered"], 200)
            self.assertGreater(figures["cpu"], 0)

    def test_handshakes(self):
        self.run_row("connect", 200)
        found, figures, notes = self.run_row("tls_full", 200)
        self.assertEqual((found["measures"][0]["connections"], notes["resumed"]), (200, 0))
        self.assertGreater(figures["cpu_us"], 0)
        _, _, notes = self.run_row("tls_resumed", 200)
        self.assertGreaterEqual(notes["resumed"], 150)

    def test_a_server_that_resumes_nothing_has_no_figure(self):
        row = next(row for row in rows.ROWS if row.key == "tls_resumed")
        found = {"ok": True, "error": "", "measures": [
            {"name": "connect", "wall_s": 1.0, "connections": 200, "resumed": 149,
             "server_cpu_s": 1.0}]}
        runner = scenarios.Run(LOADGEN, row, HastyTideMQ(TIDEMQ, "/", True), 200)
        runner.generate = lambda: found
        told, figures = scenarios.handshakes(runner)
        self.assertEqual((told["error"], figures), ("it resumed 149 of 200", {}))

    def test_retained(self):
        scenarios.PROBE_COUNT = 200
        found, figures, notes = self.run_row("retained", 2000)
        self.assertEqual(found["delivered"], 2000)
        self.assertGreater(figures["others_alone"], 0)
        self.assertGreater(figures["others"], 0)
        self.assertIn("others_late", figures)
        self.assertGreater(notes["streams_beside_probe"], 0)

    def test_filters(self):
        found, _, _ = self.run_row("filters_many", 1200)
        self.assertEqual((found["delivered"], found["duplicates"]), (160000, 0))
        self.assertEqual(found["measures"][0]["subscribed"], 1200)

    def test_sessions(self):
        _, figures, notes = self.run_row("sessions_1000", 300)
        self.assertEqual((figures["lost"], notes["lost_by_term"]), (0, 0))

    def test_sessions_that_are_not_there_are_missed(self):
        with tempfile.TemporaryDirectory() as folder:
            server = HastyTideMQ(TIDEMQ, folder, True)
            self.addCleanup(server.stop)
            server.start()
            runner = scenarios.Run(LOADGEN, FAN_IN, server, 50)
            self.assertEqual(scenarios.look_for_sessions(runner), 50)
            server.stop()


if __name__ == "__main__":
    LOADGEN, TIDEMQ = (str(pathlib.Path(word).resolve()) for word in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1])
