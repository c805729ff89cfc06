#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The runner counts right, above all when a test program goes wrong."""

import re
import subprocess
import sys
import time
from pathlib import Path

import harness
from tap import run_tests, test

CMOCKA = '''[==========] Running 3 test(s).
[ RUN      ] first
[       OK ] first
[ RUN      ] second
[       OK ] second
[ RUN      ] third
[       OK ] third
[==========] 3 test(s) run.
[  PASSED  ] 3 test(s).
'''


def judged(output, code=0):
    """The sums, after a program that printed @output and ended with @code."""
    result = harness.Result('program')
    result.output = output
    harness.judge(result, code)
    return len(result.passed), len(result.failed), len(result.skipped), result


def run_shell(script, timeout_s=10.0, **how):
    """A shell script as a test."""
    return harness.run(harness.Test('script', ['sh', '-c', script], {}, '/',
                                    {'unit'}, timeout_s, []), **how)


@test
def cmocka_checks_are_counted_one_by_one():
    assert judged(CMOCKA)[:3] == (3, 0, 0)


@test
def cmocka_failure_is_counted_once_with_its_reason():
    bad = CMOCKA.replace('[       OK ] second', '[  ERROR   ] --- 0x1 != 0x2\n'
                         '[   LINE   ] --- ../a.c:7: error: Failure!\n'
                         '[  FAILED  ] second')
    bad += '[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] second\n'
    *counts, result = judged(bad, 1)
    assert counts == [2, 1, 0], counts
    assert result.failed == [('second', '0x1 != 0x2; ../a.c:7')], result.failed


@test
def cmocka_skip_needs_a_reason():
    bare = CMOCKA.replace('[       OK ] second', '[  SKIPPED ] second')
    said = bare.replace('[  SKIPPED ]', 'skipped: no huge pages\n[  SKIPPED ]')
    assert judged(bare)[:3] == (2, 1, 0)
    *counts, result = judged(said)
    assert counts == [2, 0, 1], counts
    assert result.skipped == [('second', 'no huge pages')], result.skipped


@test
def crash_is_the_failure_of_the_check_that_was_running():
    *counts, result = judged(CMOCKA[:CMOCKA.index('[       OK ] second')], -11)
    assert counts == [1, 1, 0], counts
    assert result.failed[0][0] == 'second'


@test
def crash_between_two_checks_is_a_failure():
    *counts, result = judged(CMOCKA[:CMOCKA.index('[ RUN      ] third')], -6)
    assert counts == [2, 1, 0], counts
    assert 'SIGABRT' in result.failed[0][1]


@test
def exit_code_that_contradicts_the_lines_is_a_failure():
    assert judged(CMOCKA, 1)[:3] == (3, 1, 0)
    assert judged(CMOCKA, 77)[:3] == (3, 1, 0)


@test
def program_that_stops_early_with_code_0_is_a_failure():
    assert judged(CMOCKA[:CMOCKA.index('[ RUN      ] third')])[:3] == (2, 1, 0)
    assert judged('ok 1 - one\n1..2\n')[:3] == (1, 1, 0)


@test
def failing_fixture_of_a_group_is_a_failure():
    assert judged('[==========] Running 2 test(s).\n'
                  '[  ERROR   ] Group setup failed\n', 1)[1] == 1


@test
def tap_is_counted_line_by_line():
    *counts, result = judged('ok 1 - one\nnot ok 2 - two\nsome words\n'
                             'ok 3 - three # SKIP no tool\nok, fine\n1..3\n', 1)
    assert counts == [1, 1, 1], counts
    assert result.skipped == [('three', 'no tool')]


@test
def program_without_checks_is_one_check():
    assert judged('seed 5\n')[:3] == (1, 0, 0)
    assert judged('lost message 7\n', 1)[:3] == (0, 1, 0)
    assert judged('', -9)[:3] == (0, 1, 0)


@test
def exit_code_77_is_a_skip_that_says_why():
    *counts, result = judged('looking\nskipped: this machine has one node\n', 77)
    assert counts == [0, 0, 1], counts
    assert result.skipped == [('program', 'this machine has one node')]
    assert judged('', 77)[:3] == (0, 1, 0)


@test
def hanging_program_is_killed_with_its_children():
    began = time.monotonic()
    result = run_shell('sleep 100 & sleep 100', 0.3)
    assert time.monotonic() - began < 5
    assert result.timed_out and len(result.failed) == 1, result


@test
def failure_of_the_check_that_is_waited_for_ends_a_program():
    for said in ('not ok 1 - one', '[ RUN      ] one\n[  FAILED  ] one'):
        began = time.monotonic()
        result = run_shell(f'echo "{said}"; sleep 100', until='one')
        assert time.monotonic() - began < 5
        assert [check for check, _ in result.failed] == ['one'], result
        assert not result.timed_out, result


@test
def failure_of_another_check_ends_no_program():
    result = run_shell('echo ok 1 - not ok; echo not ok 2 - ones; sleep 0.2; '
                       'echo ok 3 - one; echo 1..3', until='one')
    assert (len(result.passed), len(result.failed)) == (2, 1), result


@test
def child_left_behind_is_a_failure_and_killed():
    result = run_shell('sleep 100 & echo "$!"')
    assert [why for _, why in result.failed] == ['left 1 processes behind']
    pid = result.output.split()[0]
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii') as file:
            assert file.read().rpartition(')')[2].split()[0] in 'ZX'
    except OSError:
        pass


@test
def program_has_an_empty_directory_and_no_stdin():
    result = run_shell('test -d "$PEAL_RUNTIME_DIR" && ls "$PEAL_RUNTIME_DIR"'
                       ' && test "$TMPDIR" = "$PEAL_RUNTIME_DIR" && ! read x')
    assert result.passed and not result.output, result


# What is called by hand, below this folder. tests/run --help installs nothing.
PROGRAMS = ('run', 'soak', 'mutants', 'analysers', 'coverage', 'tidy.py',
            'headers.py', 'fuzz/run.py', 'model/run_models.py')
# An option, and what stands beside it or begins the next line.
OPTION = re.compile(r'^  (-{1,2}\w[^\n]*?)(?:\s{2,}|\n\s{10,}|\n)(.*)$', re.M)


def said_by(name):
    """What a program of this folder says when it is asked for help."""
    program = Path(__file__).resolve().parent / name
    done = subprocess.run([program, '--help'], check=False, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, (name, done.stdout)
    return done.stdout


@test
def every_program_starts_and_says_what_its_options_do():
    for name in PROGRAMS:
        options = OPTION.findall(said_by(name).partition('\noptions:\n')[2])
        assert options, name
        for option, words in options:
            assert words and not words.startswith('-'), (name, option)


if __name__ == '__main__':
    sys.exit(run_tests())
