"""Tests of test.py: that it believes no suite without reason."""
import importlib.util
import unittest
from pathlib import Path

SPEC = importlib.util.spec_from_file_location('runner', Path(__file__).with_name('test.py'))
runner = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runner)

SUITE = runner.Suite('suite', ['true'])


class Judging(unittest.TestCase):
    def expect(self, status, text, passed, failed):
        """What is made of a suite that ended with this status and this output."""
        result = runner.judge(SUITE, status, text, 1.0)
        self.assertEqual((result.passed, result.failed), (passed, failed), result)

    def test_plain_line(self):
        self.expect(0, 'x\n12 passed, 0 failed\n', 12, 0)
        self.expect(1, '12 passed, 3 failed\n', 12, 3)

    def test_pytest(self):
        self.expect(0, '..\n2 passed in 0.10s\n', 2, 0)
        self.expect(1, '== 1 failed, 2 passed, 1 warning in 0.10s ==\n', 2, 1)
        self.expect(1, '2 passed, 1 error in 61.2s (0:01:01)\n', 2, 1)
        self.expect(1, '1 failed, 3 errors in 1.00s\n', 0, 4)

    def test_ctest(self):
        self.expect(0, '100% tests passed, 0 tests failed out of 33\n', 33, 0)
        self.expect(8, '97% tests passed, 1 tests failed out of 33\n', 32, 1)

    def test_the_last_line_counts(self):
        self.expect(0, '1 passed, 9 failed\n5 passed, 0 failed\n', 5, 0)

    def test_skipped_is_failed(self):
        self.expect(0, '2 passed, 1 skipped in 0.10s\n', 2, 1)
        self.expect(0, '2 passed, 4 deselected in 0.10s\n', 2, 4)

    def test_no_counts(self):
        self.expect(0, 'all is well\n', 0, 1)
        self.expect(1, '', 0, 1)

    def test_nothing_ran(self):
        self.expect(0, '0 passed, 0 failed\n', 0, 1)
        self.expect(5, 'no tests ran in 0.01s\n', 0, 1)

    def test_status_against_counts(self):
        self.expect(139, '2 passed in 0.10s\n', 2, 1)

    def test_too_slow(self):
        self.expect(None, '2 passed in 0.10s\n', 2, 1)
        self.expect(None, '', 0, 1)


class Suites(unittest.TestCase):
    def test_names(self):
        for is_long in (False, True):
            names = [suite.name for suite in runner.suites(is_long)]
            self.assertEqual(len(names), len(set(names)))
        self.assertLess(set(suite.name for suite in runner.suites(False)), set(names))


if __name__ == '__main__':
    unittest.main()
