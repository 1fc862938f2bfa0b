#!/usr/bin/env python3
"""Tests tools/check_style.py on a small tree: each tool's finding fails it, and what was clean is not
looked at again until the file, or a header it includes, changes."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

REAL = pathlib.Path(__file__).resolve().parent.parent
HEADER = '#pragma once\n\nint one_twice(int value);\n'
SOURCE = '#include "io/one.h"\n\nint one_twice(int value)\n{\n    return value * 2;\n}\n'
ASSIGNS = SOURCE.replace('return value * 2', 'return value == 0 && value == 0 ? 1 : 2')


class Style(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.root = pathlib.Path(place.name)
        for name in ('.clang-format', '.clang-tidy'):
            shutil.copy(REAL / name, self.root / name)
        self.write('tools/codespell-ignore.txt', 'inflight\n')
        self.write('src/io/one.h', HEADER)
        self.write('src/io/one.c', SOURCE)
        self.path = os.environ['PATH']
        self.source = self.root / 'src/io/one.c'
        self.write('build/compile_commands.json', json.dumps([{
            'directory': str(self.root / 'build'), 'file': str(self.source),
            'command': f'cc -I{self.root}/src -c {self.source}'}]))

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_style(self):
        """(exit status, output, files remembered as clean)"""
        result = subprocess.run(
            [sys.executable, str(REAL / 'tools/check_style.py'), str(self.root / 'build'),
             '--root', str(self.root)], capture_output=True, text=True, check=False,
            env=os.environ | {'PATH': self.path})
        store = json.loads((self.root / 'build/check_style.json').read_text())
        return result.returncode, result.stdout, store

    def expect(self, status, *parts):
        got, output, store = self.run_style()
        self.assertEqual(got, status, output)
        for part in parts:
            self.assertIn(part, output)
        return store

    def test_clean_tree_is_remembered(self):
        first = self.expect(0, '6 passed, 0 failed')
        self.assertEqual(list(first), [str(self.source)])
        self.assertEqual(self.expect(0, '6 passed, 0 failed'), first)

    def test_remembered_file_is_not_looked_at_again(self):
        self.expect(0)
        self.write('bin/clang-tidy-14', '#!/bin/sh\necho looked; exit 1\n')
        (self.root / 'bin/clang-tidy-14').chmod(0o755)
        self.path = f'{self.root}/bin:{os.environ["PATH"]}'
        self.expect(0, '6 passed, 0 failed')
        self.write('src/io/one.c', '/* Doubles. */\n' + SOURCE)
        self.expect(1, 'looked', '5 passed, 1 failed')

    def test_change_of_the_rules_counts(self):
        self.expect(0)
        self.write('.clang-tidy', "Checks: '-*'\n")  # clang-tidy takes no check for an error
        self.expect(1, '5 passed, 1 failed')

    def test_change_in_a_header_counts(self):
        store = self.expect(0)
        self.write('src/io/one.h', HEADER + 'int one_thrice(int value);\n')
        self.assertNotEqual(self.expect(0)[str(self.source)], store[str(self.source)])

    def test_format(self):
        self.write('src/io/one.c', SOURCE.replace('    return', '  return'))
        self.expect(1, 'src/io/one.c: not as clang-format', '5 passed, 1 failed')

    def test_tidy_finds_and_does_not_remember(self):
        self.write('src/io/one.c', ASSIGNS)
        self.assertEqual(self.expect(1, 'misc-redundant-expression', '5 passed, 1 failed'), {})

    def test_spelling(self):
        self.write('README.md', 'The inflight ' + 'rec' 'ieve' + ' window.\n')
        self.expect(1, 'README.md:1: ', '6 passed, 1 failed')

    def test_source_unknown_to_the_build(self):
        self.write('src/io/two.c', SOURCE)
        self.expect(1, 'src/io/two.c: not in')


if __name__ == '__main__':
    unittest.main()
