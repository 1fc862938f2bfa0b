#!/usr/bin/env python3
"""Checks the rules of the tree that no compiler knows.

For src/: which folder may include which, who owns a third-party header, banned calls, the size of
files and functions. For src/CMakeLists.txt: it links exactly the folders and libraries that the
table below allows. For ARCHITECTURE.md: it names every folder of src/. For C files in bench/ and
test/: banned calls and sizes.

usage: check_tree.py [ROOT]

Prints one line for each finding and `N passed, N failed`, counted in files; exits 1 on any finding.
"""
import pathlib
import re
import sys

# Folder -> the folders whose headers it may include; itself is implied. '*' is all of them.
ALLOWED = {
    'base': '',
    'io': 'base',
    'mqtt': 'base',
    'wire': 'base',
    'net': 'base io wire',
    'etcd': 'base io net',
    'store': 'base io',
    'store/mem': 'base io store',
    'store/local': 'base io store',
    'rocketmq': 'base io net',
    'auth': 'base io mqtt net store',
    'broker': 'base io mqtt store auth',
    'proxy': 'base io net mqtt auth broker',
    'admin': 'base io store auth broker proxy',
    'cli': 'base io store store/local',
    'app': '*',
}

# What a folder's tests and fuzz targets may include beyond that (TEST_LINKS_… in CMake).
ALLOWED_IN_TESTS = {
    'store/mem': 'store',
    'auth': 'store/mem',
    'broker': 'store/mem',
}

# Header -> the only places that may include it.
OWNERS = {
    r'sys/(epoll|eventfd)\.h': r'io/',
    r'cmocka\.h': r'base/unit\.h',
    r'xxhash\.h': r'base/|store/local/',  # there with a seed that is stored
    r'lmdb\.h': r'store/local/',
    r'yaml\.h': r'app/',
    r'microhttpd\.h': r'admin/',
    r'jansson\.h': r'admin/|app/|auth/|cli/|etcd/|rocketmq/',
    r'rhonabwy\.h': r'auth/',
    r'sodium\.h': r'auth/|admin/|etcd/',
    r'crypt\.h': r'auth/',
    r'gnutls/': r'auth/|net/|rocketmq/|wire/',
    r'ngtcp2/': r'net/',
    r'curl/': r'cli/|net/',
    r'zlib\.h': r'rocketmq/',
    r'assert\.h': r'(?!)',  # ours stays on in release builds
}

# Library in CMake -> the folders that link it; the same as above, seen from the linker.
LIBRARY_OWNERS = {
    'Threads::Threads': 'base',
    'PkgConfig::LMDB': 'store/local',
    'PkgConfig::YAML': 'app',
    'PkgConfig::MHD': 'admin',
    'PkgConfig::JANSSON': 'admin app auth cli etcd rocketmq',
    'PkgConfig::RHONABWY': 'auth',
    'PkgConfig::SODIUM': 'auth admin etcd',
    'PkgConfig::GNUTLS': 'wire net auth rocketmq',
    'PkgConfig::NGTCP2': 'net',
    'crypt': 'auth',
    'm': 'broker',
    'PkgConfig::CURL': 'cli net',
    'PkgConfig::ZLIB': 'rocketmq',
}

# Unbounded, not reentrant, unable to report an error, or a wait where an event should be awaited.
BANNED = (r'sprintf|vsprintf|strcpy|strcat|strncpy|strncat|gets|strtok|atoi|atol|atoll|atof|sscanf|'
          r'vsscanf|alloca|rand|srand|random|localtime|gmtime|ctime|asctime|system|popen|tmpnam|'
          r'mktemp|bcopy|bzero|sleep|usleep|nanosleep|assert')
ALLOCATORS = (r'malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|free|strdup|'
              r'strndup|asprintf|vasprintf|getline|getdelim')
PRINTERS = r'printf|fprintf|vprintf|vfprintf|puts|putchar|perror'

LINES_MAX = 800
FUNCTION_LINES_MAX = 80


def folder_of(path):
    """The folder of ALLOWED that a path relative to src/ lies in; None when it lies in none."""
    parts = path.split('/')[:-1]
    for size in (2, 1):
        name = '/'.join(parts[:size])
        if len(parts) >= size and name in ALLOWED:
            return name if len(parts) == size else None
    return None


def is_test(path):
    return path.endswith(('_test.c', '_fuzz.c', '_fixture.h', '/testbed.h'))


def may_include(path, target):
    own = folder_of(path)
    allowed = set(ALLOWED) if ALLOWED[own] == '*' else set(ALLOWED[own].split())
    if is_test(path):
        allowed |= set(ALLOWED_IN_TESTS.get(own, '').split())
    return target == own or target in allowed


TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def split_code(text):
    """(code without comments and string contents, comments only); line numbers stay."""
    def blank(part):
        return re.sub(r'[^\n]', ' ', part)

    def code(match):
        part = match[0]
        return part[0] + blank(part[1:-1]) + part[-1] if part[0] in '"\'' else blank(part)

    comments, last = [], 0
    for match in TOKEN.finditer(text):
        comments.append(blank(text[last:match.start()]))
        comments.append(match[0] if match[0][0] == '/' else blank(match[0]))
        last = match.end()
    return TOKEN.sub(code, text), ''.join(comments) + blank(text[last:])


def line_at(text, offset):
    return text.count('\n', 0, offset) + 1


def check_sizes(name, code):
    lines = code.split('\n')
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) > LINES_MAX:
        yield f'{name}:{LINES_MAX}: {len(lines)} lines, at most {LINES_MAX}'
    start = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == '{':
            start = number
        elif line.startswith('}') and start:
            if number - start - 1 > FUNCTION_LINES_MAX:
                yield (f'{name}:{start}: a function of {number - start - 1} lines, '
                       f'at most {FUNCTION_LINES_MAX}')
            start = None


def check_calls(name, code, pattern, why):
    """Calls of the named functions; members of that name (ops->free) are other functions."""
    for match in re.finditer(rf'(?<![\w.])(?<!->)({pattern})\s*\(', code):
        yield f'{name}:{line_at(code, match.start())}: {match[1]}() {why}'


def check_common(name, code, comments):
    yield from check_sizes(name, code)
    yield from check_calls(name, code, BANNED, 'is banned, see STYLE.md')
    for match in re.finditer(r'\b(TODO|FIXME|XXX)\b', comments):
        yield f'{name}:{line_at(comments, match.start())}: {match[1]}: finish it or open an issue'


def check_includes(path, text, code):
    own = folder_of(path)
    # string contents are blanked in `code`, so the name is read from the text itself
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]+(["<])', code, re.M):
        start = match.end()
        target = text[start:text.index('"' if match[1] == '"' else '>', start)]
        where = f'src/{path}:{line_at(code, match.start())}'
        if match[1] == '<':
            for header, places in OWNERS.items():
                if re.match(header, target) and not re.match(places, path):
                    yield f'{where}: <{target}> is not for {own}/'
        elif '/' not in target:
            yield f'{where}: write "folder/{target}"'
        elif folder_of(target) is None:
            yield f'{where}: {target} is in no folder of the table'
        elif not may_include(path, folder_of(target)):
            yield f'{where}: {own} may not include {folder_of(target)}'
        elif target.endswith('_priv.h') and folder_of(target) != own:
            yield f'{where}: {target} is private to {folder_of(target)}'


def check_source(root, path):
    name = f'src/{path}'
    if folder_of(path) is None:
        return [f'{name}:1: its folder is not in the table of tools/check_tree.py']
    text = (root / name).read_text(encoding='utf-8')
    code, comments = split_code(text)
    findings = [*check_common(name, code, comments), *check_includes(path, text, code)]
    if path != 'base/mem.c':
        findings += check_calls(name, code, ALLOCATORS, 'belongs into base/mem.c; use mem.h')
    if not is_test(path) and path != 'base/base.c' and folder_of(path) not in ('app', 'cli'):
        findings += check_calls(name, code, PRINTERS, 'is for app and cli; others return errors')
    findings += check_calls(name, code, 'strerror', 'is not for threads; use err_text')
    findings += check_calls(name, code, r'mq_\w+', "takes a name of <mqueue.h>'s")
    if path.endswith('.h') and not re.search(r'^#pragma once$', code, re.M):
        findings.append(f'{name}:1: #pragma once is missing')
    return findings


def check_other(root, name):
    return list(check_common(name, *split_code((root / name).read_text(encoding='utf-8'))))


def folder_named(library):
    """store/local for tidemq_store_local; None for a library of others."""
    for folder in ALLOWED:
        if library == 'tidemq_' + folder.replace('/', '_'):
            return folder
    return None


def check_links(name, folder, links):
    allowed = set(ALLOWED) - {folder} if ALLOWED[folder] == '*' else set(ALLOWED[folder].split())
    linked = {folder_named(link) for link in links} - {None}
    for extra in sorted(linked - allowed):
        yield f'{name}: {folder} links {extra}, which it may not include'
    for missing in sorted(allowed - linked):
        yield f'{name}: {folder} may include {missing}, but does not link it'
    others = {link for link in links if folder_named(link) is None}
    for library in sorted(others - set(LIBRARY_OWNERS)):
        yield f'{name}: {library} is not in the table of tools/check_tree.py'
    for library, folders in LIBRARY_OWNERS.items():
        if (library in others) != (folder in folders.split()):
            yield f'{name}: {folder} and {library}: tools/check_tree.py says otherwise'


def check_cmake(root):
    name = 'src/CMakeLists.txt'
    text = re.sub(r'#[^\n]*', '', (root / name).read_text(encoding='utf-8'))
    findings, seen, tests = [], set(), {}
    for match in re.finditer(r'\btidemq_folder\s*\(\s*([\w/]+)([^)]*)\)', text):
        if match[1] not in ALLOWED:
            findings.append(f'{name}: {match[1]} is not in the table of tools/check_tree.py')
            continue
        seen.add(match[1])
        findings += check_links(name, match[1], match[2].split())
    findings += [f'{name}: {folder} is missing' for folder in ALLOWED if folder not in seen]
    for match in re.finditer(r'\bset\s*\(\s*TEST_LINKS_(\w+)([^)]*)\)', text):
        tests[folder_named('tidemq_' + match[1])] = {folder_named(x) for x in match[2].split()}
    expected = {folder: set(names.split()) for folder, names in ALLOWED_IN_TESTS.items()}
    if tests != expected:
        findings.append(f'{name}: TEST_LINKS and ALLOWED_IN_TESTS of tools/check_tree.py differ')
    return findings


def check_architecture(root, folders):
    name = 'ARCHITECTURE.md'
    path = root / name
    text = path.read_text(encoding='utf-8') if path.exists() else ''
    if not text:
        return [f'{name}: missing']
    missing = [f'{name}: does not name src/{folder}/' for folder in folders
               if f'src/{folder}/' not in text]
    stale = [f'{name}: names src/{match}/, which does not exist'
             for match in sorted(set(re.findall(r'\bsrc/((?:[a-z_]+/)*[a-z_]+)/', text)))
             if not (root / 'src' / match).is_dir()]
    return missing + stale


def check(root):
    """{file: findings} of the tree."""
    src = root / 'src'
    sources = sorted(p.relative_to(src).as_posix() for p in src.rglob('*.[ch]'))
    others = sorted(p.relative_to(root).as_posix() for top in ('bench', 'test')
                    for p in (root / top).rglob('*.[ch]') if (root / top).is_dir())
    results = {f'src/{path}': check_source(root, path) for path in sources}
    results |= {name: check_other(root, name) for name in others}
    results['src/CMakeLists.txt'] = check_cmake(root)
    folders = sorted({path.rsplit('/', 1)[0] for path in sources})
    results['ARCHITECTURE.md'] = check_architecture(root, folders)
    if not sources:
        results['src'] = ['src: no source files']
    return results


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    results = check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here)
    failed = [findings for findings in results.values() if findings]
    for findings in failed:
        print('\n'.join(findings))
    print(f'{len(results) - len(failed)} passed, {len(failed)} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
