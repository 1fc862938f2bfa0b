#!/usr/bin/env python3
"""Checks form: clang-format over all C, clang-tidy over src/, codespell over what people read.

usage: check_style.py BUILD_DIR [--root ROOT] [--jobs N]

BUILD_DIR is a configured build folder: it has compile_commands.json, and takes check_style.json, in
which files that clang-tidy found clean are remembered by the hash of all that it saw of them (the
file, the headers of ours it includes, the command, .clang-tidy). Only others are looked at again.

For tests clang-tidy's analyzer is left out: it does not know that a failed cmocka assertion does not
return, and the sanitizers run them anyway. So are recursion and complexity: a naive model may be
recursive, and a table's loop is full of assertions.

Prints what was found and `N passed, N failed`, counted in files per tool; exits 1 on any finding.
"""
import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

TOPS = ('src', 'bench', 'test')
SPELLED = ('src', 'bench', 'test', 'tools', 'docs', 'cmake', 'packaging')
SPELLED_SUFFIXES = {'.c', '.h', '.def', '.md', '.py', '.sh', '.txt', '.cmake', '.yaml', '.yml'}
SHOWN_LINES_MAX = 40
TESTS_WITHOUT = '-clang-analyzer-*,-misc-no-recursion,-readability-function-cognitive-complexity'
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.M)


def tool(name):
    """The tool of version 14, which the configuration is written for; plain as a fallback."""
    for candidate in (f'{name}-14', name):
        if shutil.which(candidate):
            return candidate
    sys.exit(f'{name} is not installed: apt install {name}-14')


def run(command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def shown(name, text):
    lines = text.strip().splitlines()
    if lines:
        print(f'--- {name}', *lines[:SHOWN_LINES_MAX], sep='\n')
    if len(lines) > SHOWN_LINES_MAX:
        print(f'--- {len(lines) - SHOWN_LINES_MAX} more lines')


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def add(self, clean):
        self.passed += clean
        self.failed += not clean


def check_format(root, tally):
    clang_format = tool('clang-format')
    for path in sorted(p for top in TOPS for p in (root / top).rglob('*.[ch]')):
        name = path.relative_to(root).as_posix()
        result = run([clang_format, '--dry-run', '-Werror', name], root)
        tally.add(result.returncode == 0)
        if result.returncode != 0:
            print(f'{name}: not as {clang_format} writes it: {clang_format} -i {name}')


def hash_of(path, src, text_of):
    """Hash of a source with all headers and tables of ours that it reaches."""
    digest, pending, seen = hashlib.sha256(), [path], set()
    while pending:
        current = pending.pop()
        if current in seen or not current.exists():
            continue
        seen.add(current)
        if current not in text_of:
            text_of[current] = current.read_text(encoding='utf-8')
        text = text_of[current]
        digest.update(f'{current}\0{text}\0'.encode())
        pending += sorted(src / name for name in INCLUDE.findall(text))
    return digest.hexdigest()


def tidy(root, build, clang_tidy, path):
    command = [clang_tidy, '--quiet', '-p', str(build), str(path)]
    if path.name.endswith(('_test.c', '_fuzz.c')):
        command.insert(1, f'--checks={TESTS_WITHOUT}')
    return path, run(command, root)


def check_tidy(root, build, jobs, tally):
    clang_tidy = tool('clang-tidy')
    src = root / 'src'
    database = json.loads((build / 'compile_commands.json').read_text(encoding='utf-8'))
    common = (root / '.clang-tidy').read_text(encoding='utf-8') + clang_tidy
    store = build / 'check_style.json'
    known = json.loads(store.read_text(encoding='utf-8')) if store.exists() else {}
    text_of, keys = {}, {}
    for entry in database:
        path = pathlib.Path(entry['directory'], entry['file']).resolve()
        if path.is_relative_to(src) and path.exists():
            key = common + entry['command'] + hash_of(path, src, text_of)
            keys[path] = hashlib.sha256(key.encode()).hexdigest()
    for path in sorted(src.rglob('*.c')):
        if path not in keys:
            print(f'{path.relative_to(root)}: not in {build}/compile_commands.json; run cmake')
            tally.add(False)
    changed = [path for path, key in keys.items() if known.get(str(path)) != key]
    clean = {str(path): key for path, key in keys.items() if path not in changed}
    tally.passed += len(clean)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for path, result in pool.map(lambda path: tidy(root, build, clang_tidy, path), changed):
            tally.add(result.returncode == 0)
            if result.returncode == 0:
                clean[str(path)] = keys[path]
            else:
                shown(f'clang-tidy {path.relative_to(root)}', result.stdout or result.stderr)
    store.write_text(json.dumps(clean, indent=0, sort_keys=True), encoding='utf-8')


def check_spelling(root, tally):
    files = sorted(p for p in root.glob('*.md'))
    files += sorted(p for top in SPELLED for p in (root / top).rglob('*')
                    if p.suffix in SPELLED_SUFFIXES and 'corpus' not in p.parts)
    names = [p.relative_to(root).as_posix() for p in files]
    ignored = root / 'tools/codespell-ignore.txt'
    result = run([tool('codespell'), '-I', str(ignored), *names], root)
    wrong = {line.split(':', 1)[0].removeprefix('./') for line in result.stdout.splitlines()
             if ' ==> ' in line}
    shown('codespell', result.stdout)
    tally.passed += len(names) - len(wrong)
    tally.failed += len(wrong) + (result.returncode != 0 and not wrong)


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('build', type=pathlib.Path)
    parser.add_argument('--root', type=pathlib.Path, default=here)
    parser.add_argument('--jobs', type=int, default=2)
    options = parser.parse_args()
    root, build = options.root.resolve(), options.build.resolve()
    if not (build / 'compile_commands.json').exists():
        sys.exit(f'{build} has no compile_commands.json; configure it first')
    tally = Tally()
    check_format(root, tally)
    check_tidy(root, build, options.jobs, tally)
    check_spelling(root, tally)
    print(f'{tally.passed} passed, {tally.failed} failed')
    return 1 if tally.failed or not tally.passed else 0


if __name__ == '__main__':
    sys.exit(main())
