"""Tests of check_docs.py: each fault it must find."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).with_name('check_docs.py')


class Pages(unittest.TestCase):
    def check(self, text, status, *words):
        """Runs the tool on one page; it must exit with `status` and say the words."""
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / 'page.md'
            page.write_text(text, encoding='utf-8')
            run = subprocess.run([sys.executable, TOOL, page], capture_output=True, text=True,
                                 timeout=60, check=False)
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        for word in words:
            self.assertIn(word, run.stdout)

    def test_good(self):
        self.check('```sh\ntrue\n```\n```sh\ntidemq --version\n```\n```text\nnot run\n```\n', 0,
                   '2 passed, 0 failed')

    def test_failing_command(self):
        self.check('```sh\ntrue\n```\nx\n```sh\necho before\nfalse\necho after\n```\n```sh\ntrue\n```\n', 1,
                   ':5: a command failed', ':10: not reached', '1 passed, 2 failed')

    def test_failing_pipe(self):
        self.check('```sh\nfalse | cat\n```\n', 1, '0 passed, 1 failed')

    def test_one_session(self):
        self.check('```sh\nx=1\necho hello > file\n```\n```sh\ntest "$x" = 1\ngrep hello file\n```\n', 0,
                   '2 passed')

    def test_background_is_ended(self):
        self.check('```sh\nsleep 1000 &\n```\n', 0, '1 passed')

    def test_reason(self):
        self.check('*(not run by the tests: it needs root)*\n```sh\nfalse\n```\n```sh\ntrue\n```\n', 0,
                   '1 not run with a reason', '1 passed, 0 failed')

    def test_reason_without_reason(self):
        self.check('*(not run by the tests: )*\n```sh\nfalse\n```\n', 1, '1 failed')

    def test_reason_without_block(self):
        self.check('*(not run by the tests: it needs root)*\n\n```sh\ntrue\n```\n', 1, 'no block behind')

    def test_language(self):
        self.check('```\ntrue\n```\n```console\n$ true\n```\n```sh\ntrue\n```\n', 1, "has ''",
                   "has 'console'")

    def test_open_block(self):
        self.check('```sh\ntrue\n', 1, 'does not end')

    def test_configuration(self):
        self.check('```yaml\ntopics: {auto_create: true}\n```\n', 0, '1 passed')
        self.check('```yaml\ntopics: {auto_creat: true}\n```\n', 1, 'topics.auto_creat')

    def test_nothing(self):
        self.check('no block\n', 1, '0 passed, 0 failed')


if __name__ == '__main__':
    unittest.main()
