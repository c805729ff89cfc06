# SPDX-License-Identifier: MIT
"""Runs the tests of peal in every way of building it that has its own bugs.

Call it as tests/run, which first installs what is missing.
"""

import argparse
import fnmatch
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import harness
from variants import (
    ALONE_SUITES, AT_ONCE, FULL_ENVIRONMENT, FULL_PATIENCE, SANITIZER_ENVIRONMENT,
    SANITIZER_PATIENCE, SLOW_SUITES, VARIANTS, options_of)

SOURCE = Path(__file__).resolve().parent.parent
COULD_NOT_EXIT_CODE = 2
# Programs of this folder that speak TAP and are no tests of one build.
PROGRAMS = {
    'analysers': 'what reads the code and finds mistakes',
    'mutants': 'a broken peal has to fail a test',
    'coverage': 'the share of the lines that tests go through',
}
LONG_PROGRAMS = frozenset({'coverage'})


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='tests/run',
        description='Build peal in several ways and run its tests in each.',
        epilog='Build directories are kept in build-test/ and reused. The '
        'exit code is 0 when nothing has failed.')
    parser.add_argument('name', nargs='*', help='the same as --only NAME')
    parser.add_argument('--only', metavar='PATTERN', action='append',
                        default=[], help="run what matches this shell pattern: "
                        "a test (base), a variant (tsan), both ('tsan:ring*'), "
                        "a mutant ('mutants:NAME'), 'analysers' or 'coverage'; "
                        "may be repeated")
    parser.add_argument('--quick', action='store_true',
                        help='only the plain build with gcc, no mutants')
    parser.add_argument('--long', action='store_true',
                        help='everything with the full counts (PEAL_FULL=1) and '
                        'no program made easier to build; also the suite "long", '
                        'valgrind on all unit tests, all analysers and the '
                        'coverage: about two hours')
    parser.add_argument('--list', action='store_true',
                        help='say what would be run, and run nothing')
    parser.add_argument('--no-install', action='store_true',
                        help='do not look for missing packages')
    options = parser.parse_args()
    options.only += options.name
    return options


def chosen(variant, test, patterns):
    """Does the command line ask for this test of this variant?"""
    names = (variant, test, f'{variant}:{test}')
    return not patterns or any(fnmatch.fnmatchcase(name, pattern)
                               for name in names for pattern in patterns)


def possible(variant, patterns):
    """Could any test of this variant be asked for? Saves building it."""
    others = {other.name for other in VARIANTS} | set(PROGRAMS)
    return not patterns or any(
        fnmatch.fnmatchcase(variant, pattern.split(':')[0])
        or (':' not in pattern and pattern not in others)
        for pattern in patterns)


class Report:
    """Prints as it goes, counts, and closes with the line that counts."""

    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.began = time.monotonic()

    def heading(self, text):
        """A new variant, and how long the others have taken."""
        print(f'\n== {text} ({time.monotonic() - self.began:.0f} s so far)',
              flush=True)

    @staticmethod
    def begin(name):
        """The first half of a line, before the work."""
        print(f'  {name:<24}', end='', flush=True)

    def end(self, variant, result):
        """The second half, and all the output if something has failed."""
        parts = [f'{len(result.passed)} passed']
        if result.failed:
            parts.append(f'{len(result.failed)} FAILED')
        if result.skipped:
            parts.append(f'{len(result.skipped)} skipped')
        print(f'{", ".join(parts):<36}{result.seconds:6.1f} s', flush=True)
        for check, why in result.skipped:
            print(f'      skipped: {check}: {why}')
        for check, why in result.failed:
            print(f'      FAILED: {check}: {why}')
        if result.failed:
            print(f'      ---- everything that {result.test} printed ----')
            for line in result.output.splitlines():
                print(f'      | {line}')
            print('      ----', flush=True)
        self.count(variant, result)

    def count(self, variant, result):
        """Add to the sums."""
        self.passed += len(result.passed)
        for sums, new in ((self.failed, result.failed),
                          (self.skipped, result.skipped)):
            for check, why in new:
                if check == result.test:
                    sums.append(f'{variant}:{check}: {why}')
                else:
                    sums.append(f'{variant}:{result.test}: {check}: {why}')

    def is_empty(self):
        """Has nothing at all been run?"""
        return not (self.passed or self.failed or self.skipped)

    def close(self):
        """The sums; True if all is well."""
        print()
        for text in self.skipped:
            print(f'skipped  {text}')
        for text in self.failed:
            print(f'FAILED   {text}')
        print(f'{time.monotonic() - self.began:.0f} s in all')
        line = f'{self.passed} passed, {len(self.failed)} failed'
        if self.skipped:
            line += f', {len(self.skipped)} skipped'
        print(line, flush=True)
        return not self.failed


def timed_step(name, step):
    """Run @step as one check called @name; (its value or None, the Result)."""
    result = harness.Result(name)
    began = time.monotonic()
    value = None
    try:
        value = step()
        result.passed.append(name)
    except harness.Failure as failure:
        result.output = str(failure)
        result.failed.append((name, 'so nothing of this variant was tested'))
    result.seconds = time.monotonic() - began
    return value, result


def steady_addresses():
    """A prefix that turns off what older sanitizers stumble over."""
    wrapper = ['setarch', '-R']
    try:
        harness.command(wrapper + ['true'])
    except harness.Failure:
        return []
    return wrapper


def sanitizer_starts(variant, wrapper):
    """'' or why no program of this variant can run on this machine."""
    with tempfile.TemporaryDirectory(prefix='peal-test.') as directory:
        program = Path(directory, 'program')
        source = program.with_suffix('.c')
        source.write_text('int main(void) { return 0; }\n')
        try:
            harness.command([variant.compiler, '-o', str(program),
                             f'-fsanitize={variant.sanitizer}', str(source)])
            for _ in range(5):
                harness.command([*wrapper, str(program)])
        except harness.Failure as failure:
            return ' '.join(['an empty program does not run with',
                             f'-fsanitize={variant.sanitizer}:',
                             *str(failure).split()])[:300]
    return ''


class Run:
    """One call of tests/run."""

    def __init__(self, options, builds):
        self.options = options
        self.builds = Path(builds)
        self.report = Report()

    def wanted(self, variant, tests):
        """The tests of this variant that are asked for."""
        is_long = self.options.long
        suites = variant.suites_of(is_long)
        if self.options.quick and not self.options.only:
            suites = suites - SLOW_SUITES
        return [test for test in tests if test.suites & suites
                and (not variant.programs or test.name in variant.programs)
                and (is_long or not variant.few or test.name in variant.few
                     or self.options.only)
                and chosen(variant.name, test.name, self.options.only)]

    def build_of(self, variant):
        """Its build directory."""
        if variant.build:
            variant = next(other for other in VARIANTS
                           if other.name == variant.build)
        is_long = self.options.long
        directory = variant.name
        if options_of(variant, True) != options_of(variant, is_long):
            directory += '-quick'
        return harness.Build(SOURCE, self.builds / directory, variant.compiler,
                             options_of(variant, is_long))

    def variants(self):
        """Those that the command line asks for."""
        return [variant for variant in
                (VARIANTS[:1] if self.options.quick else VARIANTS)
                if possible(variant.name, self.options.only)]

    def programs(self):
        """The programs of this folder that the command line asks for."""
        if self.options.quick:
            return []
        return [name for name in PROGRAMS
                if any(fnmatch.fnmatchcase(name, pattern.split(':')[0])
                       for pattern in self.options.only)
                or (not self.options.only and
                    (self.options.long or name not in LONG_PROGRAMS))]

    def configure(self):
        """
        All builds side by side, since meson mostly waits for one compiler. What
        is wrong is told later, when the variant is compiled.
        """
        builds = {build.directory: build
                  for build in map(self.build_of, self.variants())}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for build in builds.values():
                pool.submit(build.prepare)

    def compile(self, variant):
        """Configure and compile what is asked for; the tests to run."""
        build = self.build_of(variant)
        build.prepare()
        tests = build.tests()
        self.none_forgotten(tests)
        tests = self.wanted(variant, tests)
        if not self.options.only and variant.whole:
            build.compile()
        elif tests:
            build.compile(sorted({target for test in tests
                                  for target in test.targets}))
        return tests

    def steadied(self, variant):
        """
        What a sanitizer needs around a test: (wrapper, environment, patience),
        or None after saying why nothing of this variant can run here.
        """
        environment, patience = {}, variant.patience
        if self.options.long and not variant.wrapper:
            environment, patience = FULL_ENVIRONMENT, FULL_PATIENCE * patience
        if not variant.sanitizer:
            return variant.wrapper, environment, patience
        wrapper = steady_addresses()
        why_not = sanitizer_starts(variant, wrapper)
        if not why_not:
            return (wrapper, {**environment, **SANITIZER_ENVIRONMENT},
                    patience * SANITIZER_PATIENCE)
        result = harness.Result('everything')
        result.skipped.append(('everything', why_not))
        self.report.begin('everything')
        self.report.end(variant.name, result)
        return None

    def one_variant(self, variant):
        """Configure, compile, and run what belongs to it."""
        self.report.heading(f'{variant.name}: {variant.about}')
        around = self.steadied(variant)
        if around is None:
            return
        self.report.begin('compile')
        tests, result = timed_step('compile', lambda: self.compile(variant))
        if tests == [] and self.options.only:
            print('nothing matches')
            return
        self.report.end(variant.name, result)
        self.some_tests(variant, around, tests or ())

    def some_tests(self, variant, around, tests):
        """
        Those that mostly wait run several at a time, and those that may take
        longest first; the others want the machine for themselves.
        """
        alone = [test for test in tests if test.suites & ALONE_SUITES]
        others = sorted((test for test in tests if test not in alone),
                        key=lambda test: -test.timeout_s)
        for some, at_once in ((others, AT_ONCE), (alone, 1)):
            with ThreadPoolExecutor(at_once) as pool:
                for done in as_completed([pool.submit(harness.run, test, *around)
                                          for test in some]):
                    result = done.result()
                    self.report.begin(result.test)
                    self.report.end(variant.name, result)

    def start(self, name):
        """A program of this folder."""
        command = [str(SOURCE / 'tests' / name)]
        if self.options.long:
            command += ['--long']
        for pattern in self.options.only:
            command += ['--only', pattern.split(':', 1)[-1]] \
                if ':' in pattern else []
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, errors='replace',
                                stderr=subprocess.STDOUT)

    def follow(self, name, process, began):
        """Let the lines of a program through as they come."""
        self.report.heading(f'{name}: {PROGRAMS[name]}')
        result = harness.Result(name)
        lines = []
        for line in process.stdout:
            lines.append(line)
            print(f'  {line}', end='', flush=True)
        result.output = ''.join(lines)
        harness.judge(result, process.wait())
        print(f'  {time.monotonic() - began:.1f} s')
        self.report.count(name, result)

    def some_programs(self, names):
        """Side by side; of each all lines come together."""
        began = time.monotonic()
        started = {name: self.start(name) for name in names}
        try:
            for name, process in started.items():
                self.follow(name, process, began)
        finally:
            for process in started.values():
                process.terminate()
                process.wait()

    def none_forgotten(self, tests):
        """Every test belongs to a suite that some variant runs."""
        run = {suite for variant in VARIANTS
               for suite in variant.suites_of(is_long=True)}
        for test in tests:
            if not test.suites & run:
                raise harness.Failure(
                    f'{test.name} is in no suite that a variant runs: '
                    'see tests/variants.py')

    def list(self):
        """Say what would be run."""
        for variant in self.variants():
            build = self.build_of(variant)
            build.prepare()
            for test in self.wanted(variant, build.tests()):
                print(f'{variant.name}:{test.name:<24} '
                      f'{" ".join(sorted(test.suites))}')
        for name in self.programs():
            text = harness.command([str(SOURCE / 'tests' / name), '--list'])
            for line in text.splitlines():
                print(f'{name}:{line}')

    def everything(self):
        """Run it; True if all is well."""
        self.configure()
        for variant in self.variants():
            self.one_variant(variant)
        for is_long in (False, True):
            self.some_programs(name for name in self.programs()
                               if (name in LONG_PROGRAMS) == is_long)
        if self.report.is_empty():
            raise harness.Failure('no test matches; try tests/run --list')
        return self.report.close()


def build_root(stack):
    """build-test/ in the tree, or a temporary place beside a read-only one."""
    if os.access(SOURCE, os.W_OK):
        return SOURCE / 'build-test'
    stack.append(tempfile.mkdtemp(prefix='peal-tests.'))
    return Path(stack[-1])


def main():
    """The program."""
    def interrupted(_signal, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    options = arguments()
    temporary = []
    try:
        run = Run(options, build_root(temporary))
        if options.list:
            run.list()
            return 0
        return 0 if run.everything() else 1
    except KeyboardInterrupt:
        print('\ninterrupted; the tests were not finished', file=sys.stderr)
        return 130
    except harness.Failure as failure:
        print(failure, file=sys.stderr)
        return COULD_NOT_EXIT_CODE
    finally:
        for directory in temporary:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == '__main__':
    sys.exit(main())
