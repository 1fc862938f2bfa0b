#!/usr/bin/env python3
"""Tests tools/check_tree.py: each rule finds its breach in a small tree, and only there."""
import pathlib
import tempfile
import unittest

import check_tree

CLEAN = '#include "base/base.h"\n\nint io_one(void)\n{\n    return 1;\n}\n'


class Rules(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.root = pathlib.Path(self.place.name)
        real = pathlib.Path(__file__).resolve().parent.parent
        self.write('src/CMakeLists.txt', (real / 'src/CMakeLists.txt').read_text())
        self.write('src/io/one.c', CLEAN)
        self.write('ARCHITECTURE.md', 'The loop lives in `src/io/`.\n')

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def findings(self):
        return [line for lines in check_tree.check(self.root).values() for line in lines]

    def expect(self, *parts):
        found = self.findings()
        self.assertEqual(len(found), len(parts), found)
        for line, part in zip(found, parts):
            self.assertIn(part, line)

    def source(self, text, *parts, name='src/io/one.c'):
        self.write(name, text)
        self.expect(*parts)

    def test_clean_tree(self):
        self.expect()

    def test_include_direction(self):
        self.source('#include "mqtt/frame.h"\n', 'io may not include mqtt')

    def test_include_of_own_folder_and_tests_extra(self):
        self.write('ARCHITECTURE.md', 'src/io/ src/broker/\n')
        self.write('src/broker/x_test.c', '#include "store/mem/mem.h"\n#include "broker/x.h"\n')
        self.expect()
        self.source('#include "store/mem/mem.h"\n', 'broker may not include store/mem',
                    name='src/broker/x.c')

    def test_include_without_folder_or_of_unknown_folder(self):
        self.source('#include "loop.h"\n#include "util/x.h"\n', 'write "folder/loop.h"',
                    'in no folder')

    def test_private_header(self):
        self.write('ARCHITECTURE.md', 'src/io/ src/net/\n')
        self.source('#include "io/loop_priv.h"\n', 'is private to io', name='src/net/x.c')

    def test_include_in_a_comment_is_none(self):
        self.source('/*\n#include "mqtt/frame.h"\n*/\n')

    def test_header_owner(self):
        self.source('#include <sys/epoll.h>\n#include <lmdb.h>\n', '<lmdb.h> is not for io/')

    def test_folder_outside_the_table(self):
        self.write('ARCHITECTURE.md', 'src/io/ src/io/deep/\n')
        self.source('int x;\n', 'its folder is not in the table', name='src/io/deep/x.c')

    def test_banned_call(self):
        self.source('int f(void)\n{\n    return atoi ("1");\n}\n', 'one.c:3: atoi() is banned')

    def test_banned_name_in_comment_string_and_longer_name(self):
        self.source('/* never sprintf() */\nconst char *s = "strcpy(\\"";\nint my_atoi(void);\n'
                    'int y = snprintf(0, 0, "");\n')

    def test_allocator_outside_mem(self):
        text = 'void f(void)\n{\n    free(0);\n    ops->free(0);\n    io.malloc(1);\n}\n'
        self.source(text, 'one.c:3: free() belongs into base/mem.c')
        self.write('ARCHITECTURE.md', 'src/io/ src/base/\n')
        self.write('src/io/one.c', CLEAN)
        self.source(text, name='src/base/mem.c')

    def test_printing(self):
        text = 'void f(void)\n{\n    printf("x");\n}\n'
        self.source(text, 'printf() is for app and cli')
        self.write('src/io/one.c', CLEAN)
        self.source(text, name='src/io/one_test.c')

    def test_sizes(self):
        lines = '    x();\n' * 80
        self.source(f'void f(void)\n{{\n{lines}}}\n')
        self.source(f'void f(void)\n{{\n    y();\n{lines}}}\n', 'one.c:2: a function of 81 lines')
        self.source('int x;\n' * 800)
        self.source('int x;\n' * 801, '801 lines')

    def test_unfinished_mark(self):
        self.source('/* TODO later */\nconst char *s = "TODO XXX";\n', 'one.c:1: TODO')

    def test_reserved_prefix_and_missing_pragma(self):
        self.source('int mq_send_all(void);\n', 'mq_send_all()')
        self.write('src/io/one.c', CLEAN)
        self.source('int x(void);\n', '#pragma once is missing', name='src/io/one.h')

    def test_other_folders(self):
        self.source('int x = atoi("1");\nvoid *p = malloc(1);\n', 'bench/a.c:1: atoi()',
                    name='bench/a.c')

    def test_architecture(self):
        self.write('ARCHITECTURE.md', 'about src/nothing/ only\n')
        self.expect('does not name src/io/', 'names src/nothing/')
        (self.root / 'ARCHITECTURE.md').unlink()
        self.expect('missing')

    def cmake(self, before, after, *parts):
        path = self.root / 'src/CMakeLists.txt'
        text = path.read_text()
        self.assertIn(before, text)
        path.write_text(text.replace(before, after))
        self.expect(*parts)

    def test_cmake_links_too_much(self):
        self.cmake('tidemq_folder(mqtt tidemq_base', 'tidemq_folder(mqtt tidemq_io tidemq_base',
                   'mqtt links io')

    def test_cmake_links_too_little(self):
        self.cmake('tidemq_folder(net tidemq_base tidemq_io', 'tidemq_folder(net tidemq_base',
                   'net may include io, but does not link it')

    def test_cmake_library_of_another(self):
        self.cmake('tidemq_folder(mqtt', 'tidemq_folder(mqtt PkgConfig::LMDB',
                   'mqtt and PkgConfig::LMDB')

    def test_cmake_unknown_folder_or_library(self):
        self.cmake('tidemq_folder(mqtt', 'tidemq_folder(util)\ntidemq_folder(mqtt jemalloc',
                   'util is not in the table', 'jemalloc is not in the table')

    def test_cmake_missing_folder_and_test_links(self):
        self.cmake('tidemq_folder(mqtt tidemq_base)', '', 'mqtt is missing')
        self.cmake('set(TEST_LINKS_broker tidemq_store_mem)', '', 'mqtt is missing',
                   'TEST_LINKS and ALLOWED_IN_TESTS')

    def test_empty_tree_fails(self):
        (self.root / 'src/io/one.c').unlink()
        self.expect('no source files')


if __name__ == '__main__':
    unittest.main()
