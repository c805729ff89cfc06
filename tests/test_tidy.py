#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each check of tests/tidy.py passes a good tree and fails on a bad line."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tidy
from tap import run_tests, test

SPDX = '/* SPDX-License-Identifier: MIT */\n'
CONTRACT = '/*\n * A thing.\n *\n * Callers: any thread.\n */\n'
PAIR = '''
static void peal__set(int *word)
{
	/* A1: pairs with A2 in peal__get(). */
	__atomic_store_n(word, 1, __ATOMIC_RELEASE);
}

static int peal__get(int *word)
{
	/* A2: pairs with A1 in peal__set(). */
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
'''
GOOD = {
    'base/good.h': SPDX + CONTRACT + '#include <stdint.h>\n',
    'base/good.c': SPDX + '#include "base/good.h"\n' + PAIR,
    'doorbell/good.c': SPDX + '#include "base/good.h"\n#include "peal/base.h"\n',
    'include/peal/base.h': SPDX + CONTRACT + 'PEAL_API int peal_one(void);\n',
    'docs/ordering.md': '| label | where | order | partner | why |\n'
                        '|---|---|---|---|---|\n'
                        '| A1 | `peal__set`: a word | release | A2 | so |\n'
                        '| A2 | `peal__get`: a word | acquire | A1 | so |\n',
    'docs/man/peal.3': 'peal_one\n',
    'tools/good.c': SPDX + '#include <peal/base.h>\n',
    'tests/good.py': '# SPDX-License-Identifier: MIT\n',
    'README.md': 'See /tmp and https://example.org/.\n',
}


def problems(check, change=None, library=None):
    """What @check finds in the good tree with some files changed."""
    with tempfile.TemporaryDirectory(prefix='peal-tidy.') as directory:
        for path, text in {**GOOD, **(change or {})}.items():
            file = Path(directory, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding='utf-8')
        return list(check(tidy.Tree(directory, library)))


def fails(check, path, text, part, line=None):
    """@check finds exactly one thing in @path, at @line, that says @part."""
    found = problems(check, {path: text})
    assert len(found) == 1, found
    where, number, sentence = found[0]
    assert where == path, found
    assert part in sentence, found
    assert line is None or number == line, found


def passes(check, path, text):
    """@check finds nothing wrong in @path."""
    found = problems(check, {path: text})
    assert not found, found


@test
def good_tree_has_no_problem():
    for check in tidy.CHECKS:
        try:
            found = problems(check)
        except tidy.Skip:
            continue
        if check is not tidy.check_format and \
                check is not tidy.check_manual_pages:
            assert not found, (check.__name__, found)


@test
def include_upward_is_found():
    fails(tidy.check_layers, 'base/bad.c', SPDX + '#include "shm/x.h"\n',
          'base is below shm', 2)
    fails(tidy.check_layers, 'shm/bad.c', '#include "doorbell/futex.h"\n',
          'shm is below doorbell')
    fails(tidy.check_layers, 'doorbell/bad.c', '#include <peal/ring.h>\n',
          'below mpsc')
    fails(tidy.check_layers, 'mpsc/bad.c', '#include "reactor/order.h"\n',
          'below reactor')
    passes(tidy.check_layers, 'reactor/good.c', '#include "mpsc/wire.h"\n')


@test
def include_without_its_folder_is_found():
    fails(tidy.check_layers, 'shm/bad.c', '#include "numa.h"\n', '"shm/numa.h"')
    fails(tidy.check_layers, 'shm/bad.c', '#include "../base/clock.h"\n',
          'with its folder')


@test
def public_header_that_needs_a_private_one_is_found():
    fails(tidy.check_layers, 'include/peal/shm.h', '#include "shm/pass.h"\n',
          'not installed')
    fails(tidy.check_layers, 'include/peal/shm.h', '#include <peal/ring.h>\n',
          'below mpsc')
    fails(tidy.check_layers, 'include/peal/new.h', '\n', 'give this header')


@test
def include_in_a_comment_is_no_include():
    passes(tidy.check_layers, 'base/good.c', '/*\n#include "shm/x.h"\n*/\n')


@test
def private_parts_in_a_tool_are_found():
    fails(tidy.check_strangers, 'tools/bad.c', '#include "mpsc/wire.h"\n',
          'use <peal/...>')
    fails(tidy.check_strangers, 'bench/bad.c', 'int x = peal__clock_ns();\n',
          'private')
    passes(tidy.check_strangers, 'examples/x/a.c', '#include "own.h"\n')


@test
def second_owner_is_found():
    for path, text in (
            ('mpsc/bad.c', 'syscall(SYS_futex);'),
            ('doorbell/bad.c', 'int x = FUTEX_WAKE;'),
            ('mpsc/bad.c', '#include <numa.h>'),
            ('reactor/bad.c', '#include <urcu/wfcqueue.h>'),
            ('mpsc/consumer.c', 'fd = accept4(listener, NULL, NULL, 0);'),
            ('mpsc/bad.c', 'munmap(address, bytes);'),
            ('mpsc/bad.c', 'x = __atomic_load_n(&y, __ATOMIC_RELAXED);')):
        fails(tidy.check_owners, path, text + '\n', 'only')


@test
def owner_is_let_through():
    passes(tidy.check_owners, 'doorbell/futex.h',
           '#include <linux/futex.h>\nint x = FUTEX_WAKE;\n')
    passes(tidy.check_owners, 'mpsc/admission_accept.c', 'x = accept(1, 0, 0);')


@test
def allocation_in_a_ring_is_found():
    fails(tidy.check_allocation, 'mpsc/ring.c', 'x = malloc(1);\n', 'malloc')
    fails(tidy.check_allocation, 'doorbell/bad.c', 'free(x);\n', 'free')
    passes(tidy.check_allocation, 'mpsc/consumer.c', 'x = malloc(1);\n')


@test
def relaxed_access_without_a_reason_is_found():
    fails(tidy.check_relaxed, 'base/bad.c',
          'x = __atomic_load_n(&y, __ATOMIC_RELAXED);\n', 'relaxed')
    fails(tidy.check_relaxed, 'base/bad.c', '/* Relaxed: fine. */\n\n\n\n'
          'x = __atomic_load_n(&y, __ATOMIC_RELAXED);\n', 'relaxed', 5)
    passes(tidy.check_relaxed, 'base/good.c', '/* Relaxed: a hint. */\n' +
           'x = __atomic_load_n(&y,\n__ATOMIC_RELAXED);\n' * 4)


@test
def ordered_access_without_a_label_is_found():
    for text in ('__atomic_store_n(&x, f(1), __ATOMIC_RELEASE);',
                 'atomic_load_explicit(&x, memory_order_acquire);',
                 '__atomic_compare_exchange_n(&x, &y, 1, 0, __ATOMIC_ACQ_REL,\n'
                 '__ATOMIC_RELAXED);',
                 '/* No label, but A1 is near. */\n'
                 'x = __atomic_load_n(&y, __ATOMIC_SEQ_CST);',
                 'x = peal__load(&y, __ATOMIC_ACQUIRE);'):
        fails(tidy.check_labels, 'base/bad.c', text + '\n', 'label')


@test
def access_with_a_hidden_order_is_found():
    fails(tidy.check_labels, 'base/bad.c', '__atomic_load_n(&x, order);\n',
          'write the order')
    for text in ('atomic_load(&x);', 'static _Atomic int x;', 'atomic_int x;',
                 '__sync_synchronize();'):
        fails(tidy.check_implicit_order, 'base/bad.c', text + '\n', 'hides')
    passes(tidy.check_implicit_order, 'base/good.c',
           'atomic_load_explicit(&x, memory_order_relaxed);\n')


@test
def fence_is_found():
    fails(tidy.check_implicit_order, 'base/bad.c',
          '__atomic_thread_fence(__ATOMIC_SEQ_CST);\n', 'let an access')


@test
def label_without_its_partner_is_found():
    fails(tidy.check_label_pairs, 'shm/bad.c', '/* A1: pairs with A2. */\n',
          'already used')
    without = GOOD['base/good.c'].replace('/* A2: pairs with A1', '/* pairs')
    found = problems(tidy.check_label_pairs, {'base/good.c': without})
    assert ['nowhere in the code' in text for _, _, text in found] == \
        [True, True], found
    one_way = GOOD['base/good.c'].replace('pairs with A1', 'pairs with A2')
    found = [text for _, _, text
             in problems(tidy.check_label_pairs, {'base/good.c': one_way})]
    assert found == ['A1 pairs with A2, but A2 does not name A1',
                     'in the code A2 pairs with A2'], found
    silent = GOOD['base/good.c'].replace('pairs with A1', 'after A1')
    found = problems(tidy.check_label_pairs, {'base/good.c': silent})
    assert any('pairs with' in text for _, _, text in found), found


@test
def label_with_several_partners_names_each():
    text = GOOD['base/good.c'].replace(
        'A1: pairs with A2 in peal__get().',
        'A1: pairs with A2 in peal__get() and\n\t * with A3, as A9 does. */\n'
        '\t/* A3: pairs with A1.')
    found = problems(tidy.check_label_pairs, {
        'base/good.c': text, 'docs/ordering.md': ''.join(
            f'|{label}|where|order|{partners}|why|\n' for label, partners in
            (('A1', 'A2, A3'), ('A2', 'A1'), ('A3', 'A1')))})
    assert not found, found


@test
def ordering_document_that_differs_is_found():
    rows = GOOD['docs/ordering.md']
    found = problems(tidy.check_label_pairs, {
        'docs/ordering.md': rows[:rows.rindex('| A2 |')]})
    assert len(found) == 1 and 'row for A2' in found[0][2], found
    for text, part, line in (
            (rows + '| A8 | `peal__get` | x | A1 | y |\n', 'A8 is nowhere', 5),
            (rows + '| A2 | `peal__get` | x | A1 | y |\n', 'A2 has a row', 5),
            (rows.replace('peal__get', 'peal__got'), 'peal__got is nowhere', 4),
            (rows.replace('| A1 | so', '| A2 | so'), 'A2 pairs with A1', 4)):
        fails(tidy.check_label_pairs, 'docs/ordering.md', text, part, line)


def small_library(directory, code):
    """A shared library with these symbols."""
    library = str(Path(directory, 'libpeal.so'))
    subprocess.run(['gcc', '-shared', '-fPIC', '-xc', '-o', library, '-'],
                   input=code, text=True, check=True)
    return library


@test
def symbols_that_differ_from_the_headers_are_found():
    with tempfile.TemporaryDirectory(prefix='peal-tidy.') as directory:
        fine = small_library(directory, 'int peal_one(void) { return 1; }')
        assert not problems(tidy.check_symbols, library=fine)
        leaky = small_library(directory, 'int peal_one(void) { return 1; }'
                              'int helper(void) { return 1; }')
        found = problems(tidy.check_symbols, library=leaky)
        assert len(found) == 1 and 'helper is exported' in found[0][2], found
        empty = small_library(directory, '')
        found = problems(tidy.check_symbols, library=empty)
        assert len(found) == 1 and 'does not have it' in found[0][2], found


FAULTS = {
    'tests/fault/fault.c': SPDX + 'WRAP(int, bind, (int fd), (fd), -1, ENOMEM)\n'
                                  'int __wrap_close(int fd);\n',
    'tests/fault/unwrapped.toml': '[[unwrapped]]\ncalls = ["strlen"]\n'
                                  'why = "it cannot fail"\n',
    'tests/meson.build': "foreach name : ['bind',\n    'close']\nendforeach\n",
}


@test
def call_that_is_never_made_to_fail_is_found():
    code = ('unsigned long strlen(const char *); int bind(int); int dup(int);'
            'int peal_one(void) { return bind((int)strlen(__FILE__ %s)); }')
    with tempfile.TemporaryDirectory(prefix='peal-tidy.') as directory:
        library = small_library(directory, code % '+ bind(2)')
        known = {'__cxa_finalize', '__gmon_start__'}
        row = FAULTS['tests/fault/unwrapped.toml'].replace(
            '"strlen"', ', '.join(f'"{name}"' for name in sorted(
                tidy.names_in_symbols('--undefined-only', library) - {'bind'}
                | known)))
        fine = {**FAULTS, 'tests/fault/unwrapped.toml': row}
        assert not problems(tidy.check_wrapped, fine, library)
        library = small_library(directory, code % '+ dup(2)')
        found = problems(tidy.check_wrapped, fine, library)
        assert len(found) == 1 and 'calls dup()' in found[0][2], found
        unlinked = {**fine, 'tests/meson.build': "foreach name : ['bind']\n"}
        found = problems(tidy.check_wrapped, unlinked,
                         small_library(directory, code % ''))
        assert len(found) == 1 and 'wrap close' in found[0][2], found


@test
def function_without_a_man_page_is_found():
    fails(tidy.check_manual_names, 'include/peal/shm.h',
          'PEAL_API PEAL_MUST_CHECK int\npeal_two(int x);\n', 'peal_two()')
    fails(tidy.check_manual_names, 'include/peal/shm.h',
          'static inline int *peal_two(int x)\n{\n}\n', 'peal_two()')
    passes(tidy.check_manual_names, 'include/peal/shm.h',
           'PEAL_API void peal__half(void);\n')


@test
def man_page_with_a_mistake_is_found():
    if shutil.which('mandoc') is None:
        print('mandoc is not installed, so it cannot be tried')
        return
    page = '.TH PEAL 3 2024-01-01 peal\n.SH NAME\npeal \\- rings\n'
    passes(tidy.check_manual_pages, 'docs/man/peal.3', page)
    fails(tidy.check_manual_pages, 'docs/man/peal.3', page + '.XX\n', 'XX', 4)


@test
def header_without_a_contract_is_found():
    fails(tidy.check_header_contracts, 'base/bad.h', SPDX + '/* Hm. */\n',
          'Callers:')
    fails(tidy.check_header_contracts, 'base/bad.h', SPDX + CONTRACT.replace(
        ' */', ' *\n * Units: bytes.\n *\n * Errors: none.\n */'), 'order')


@test
def file_without_a_licence_is_found():
    for path, text in (('base/bad.c', 'int x;\n'), ('tests/bad.py', 'pass\n'),
                       ('.ci/bad', '#!/bin/sh\n')):
        fails(tidy.check_licence, path, text, 'SPDX', 1)


@test
def long_function_and_long_file_are_found():
    long_function = 'int f(void)\n{\n' + '\tx();\n' * 69 + '}\n'
    fails(tidy.check_lengths, 'tests/bad.c', long_function, '71 lines', 2)
    passes(tidy.check_lengths, 'base/good.c',
           'int f(void)\n{\n' + '\tx();\n' * 68 + '}\n')
    fails(tidy.check_lengths, 'base/bad.c', '\n' * 501, '501 lines')
    passes(tidy.check_lengths, 'tests/good.c', '\n' * 501)
    fails(tidy.check_lengths, 'tests/bad.py',
          'def f():\n' + '    pass\n' * 70, 'split f()')


@test
def test_that_nobody_builds_is_found():
    fails(tidy.check_tests_listed, 'tests/unit/test_x.c', 'int x;\n', 'row')
    assert not problems(tidy.check_tests_listed, {
        'tests/unit/test_x.c': 'int x;\n',
        'tests/meson.build': "['x', 'unit/test_x.c']\n"})


@test
def unformatted_file_is_found():
    root = Path(__file__).resolve().parent.parent
    style = {'.clang-format': (root / '.clang-format').read_text()}
    bad = 'int  x;\n'
    try:
        assert not problems(tidy.check_format, style)
        found = problems(tidy.check_format, {**style, 'base/bad.c': bad})
    except tidy.Skip as skip:
        print(skip)
        return
    assert [path for path, _, _ in found] == ['base/bad.c'], found


@test
def bad_manners_are_found():
    for text in ('printf("x");', 'exit(1);', 'abort();', 'signal(1, f);',
                 'fprintf(stderr, "x");', 'errno = 5;', 'assert(x);',
                 'errno=0;'):
        fails(tidy.check_manners, 'shm/bad.c', f'int f(void)\n{{\n\t{text}\n}}\n',
              '', 3)


@test
def good_manners_pass():
    passes(tidy.check_manners, 'shm/good.c', '''
int f(void)
{
	int saved_errno = errno;

	snprintf(text, sizeof(text), "printf(1)"); /* abort() */
	pthread_cond_signal(&x);
	if (errno == EINTR)
		errno = saved_errno;
	_Static_assert(1, "");
}
''')


RELIABILITY = {
    'tests/mutants.toml': '# SPDX-License-Identifier: MIT\n'
                          '[[mutant]]\nname = "no-a"\nchecks = ["a: x_is_y"]\n',
    'tests/meson.build': "  ['a', 'base', 'unit/test_a.c', ['unit'], 30],\n",
    'tests/unit/test_a.c': SPDX + 'static void x_is_y(void **state);\n'
                           'static void z_is_y(void **state);\n',
}


def reliability(row):
    """What is found in a document of this row."""
    return [sentence for _, _, sentence in problems(
        tidy.check_reliability,
        {**RELIABILITY, 'docs/reliability.md': f'| x is y | {row} | ok |\n'})]


@test
def promise_with_an_unknown_check_or_mutant_is_found():
    assert reliability('`a: x_is_y`, `a` | `no-a`') == []
    for row, part in (('`a`, `a: x_is_z` | `no-a`', 'a has no check x_is_z'),
                      ('`a`, `b` | `no-a`', 'there is no test b'),
                      ('`a` | `no-a`, `no-b`', 'there is no mutant no-b'),
                      ('`a: z_is_y` | `no-a`', 'but a: x_is_y does'),
                      ('`a` | -', 'add the mutant no-a')):
        found = reliability(row)
        assert len(found) == 1 and part in found[0], found
    row = '`a` | `no-a`'
    found = reliability(f'{row} | ok |\n| x is y | {row}')
    assert found == ['this promise has a row already'], found


@test
def mutant_with_an_unknown_check_is_found():
    for check, part in (('a: x_is_z', 'no-a: a has no check x_is_z'),
                        ('b', 'no-a: there is no test b')):
        found = problems(tidy.check_reliability, {
            **RELIABILITY, 'docs/reliability.md': '| x is y | `a` | `no-a` | ok |\n',
            'tests/mutants.toml': '# SPDX-License-Identifier: MIT\n[[mutant]]\n'
                                  f'name = "no-a"\nchecks = ["{check}", "a"]\n'})
        assert len(found) == 1 and part in found[0][2], found


@test
def place_without_a_death_is_found():
    table = 'tests/death/places.h'
    row = SPDX + '{\n\t{"a: b", DIES_CLIENT | DIES_IN_FD_MODE},\n};\n'
    hook = SPDX + 'void f(void)\n{\n\tPEAL__HOOK("a: b");\n}\n'
    assert not problems(tidy.check_hooks, {'base/x.c': hook, table: row})
    fails(tidy.check_hooks, 'base/x.c', hook, 'nobody is killed', 4)
    fails(tidy.check_hooks, table, row, 'no such place', 3)
    found = problems(tidy.check_hooks, {'base/x.c': hook, 'mpsc/y.c': hook,
                                        table: row})
    assert [path for path, _, _ in found] == ['mpsc/y.c'], found


@test
def path_of_one_machine_is_found():
    # Put together here, or the check would find it in this very file.
    fails(tidy.check_places, 'README.md', 'see /ho' 'me/ada/peal\n', 'path', 1)
    fails(tidy.check_places, 'README.md', 'cd /ro' 'ot/peal\n', 'path', 1)
    fails(tidy.check_places, 'README.md', 'http' '://deb.debian' '.org/debian\n',
          'registry')
    with tempfile.TemporaryDirectory(prefix='peal-tidy.') as directory:
        Path(directory, 'README.md').write_text(f'cd {directory}/x\n')
        assert len(list(tidy.check_places(tidy.Tree(directory)))) == 1


if __name__ == '__main__':
    sys.exit(run_tests())
