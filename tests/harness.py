# SPDX-License-Identifier: MIT
"""What the runner and the mutants share: a build directory, and one test in it.

    Build(...).prepare()      meson setup, only when something has changed
    Build(...).compile()      ninja, all of it or some targets
    Build(...).tests()        what tests/meson.build lists
    run(test)                 a Result: checks passed, failed, skipped; all output

A test program says how its checks went in one of three ways, and we count
checks, not programs:

    cmocka       [       OK ] name     [  FAILED  ] name     [  SKIPPED ] name
    TAP          ok 1 - name           not ok 2 - name       ok 3 - name # SKIP why
    exit code    0                     anything else         77, the last line says why

The exit code has to agree with the lines, and everything that was announced
has to have been run: a program that dies half-way does not look healthy.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

SKIPPED_EXIT_CODE = 77
GRACE_S = 0.5
LOOK_S = 0.05


class Failure(Exception):
    """A command failed; the text is everything that it had to say."""


def command(arguments, timeout_s=600, **options):
    """Run a tool to its end; its output, or Failure with that output."""
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout_s, text=True, errors='replace',
                              check=False, **options)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f'{arguments[0]} did not end within {timeout_s} s') \
            from expired
    except OSError as error:
        raise Failure(f'{arguments[0]}: {error.strerror}') from error
    if done.returncode != 0:
        raise Failure(done.stdout)
    return done.stdout


@dataclass
class Test:
    """One line of tests/meson.build, as meson understood it."""
    name: str
    command: list
    environment: dict
    directory: str
    suites: set
    timeout_s: float
    targets: list


@dataclass
class Result:
    """How one test program went."""
    test: str
    passed: list = field(default_factory=list)
    failed: list = field(default_factory=list)   # (check, one line why)
    skipped: list = field(default_factory=list)  # (check, one line why)
    output: str = ''
    seconds: float = 0.0
    timed_out: bool = False


class Build:
    """A build directory with fixed options."""

    def __init__(self, source, directory, compiler='gcc', options=()):
        self.source = Path(source)
        self.directory = Path(directory)
        self.compiler = compiler
        self.options = list(options)

    def prepare(self):
        """
        Configure; a directory with other options is made anew. One that is
        older than a meson.build is brought up to date, or tests() would list
        what used to be there.
        """
        wanted = json.dumps([str(self.source), self.compiler, self.options])
        stamp = self.directory / 'configured-by-tests.json'
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(self.directory, ignore_errors=True)
            command(['meson', 'setup', '-Db_colorout=never', *self.options,
                     str(self.directory), str(self.source)], env={**os.environ, 'CC': self.compiler})
            stamp.write_text(wanted)
        else:
            self.compile(['build.ninja'])

    def compile(self, targets=()):
        """Build @targets, or everything."""
        return command(['ninja', '--quiet', '-C', str(self.directory),
                        *targets])

    def introspect(self, what):
        """What meson knows about this build, and has written down."""
        return json.loads((self.directory / 'meson-info' / f'intro-{what}.json')
                          .read_text(encoding='utf-8'))

    def tests(self):
        """Every test that this build offers."""
        built = {name for target in self.introspect('targets')
                 for name in target['filename']}
        found = []
        for entry in self.introspect('tests'):
            words = [str(word) for word in entry['cmd']]
            paths = [os.path.join(self.directory, word) for word in words]
            found.append(Test(
                name=entry['name'], command=words, environment=entry['env'],
                directory=entry['workdir'] or str(self.directory),
                suites={suite.split(':')[-1] for suite in entry['suite']},
                timeout_s=float(entry['timeout'] or 30),
                targets=[os.path.relpath(path, self.directory)
                         for path in paths if path in built]))
        return found


def plain_reason(text):
    """Why something was skipped, without the word that we print ourselves."""
    return text.removeprefix('skipped: ')


class CmockaReader:
    """Counts the checks of a program that uses cmocka."""

    line = re.compile(
        r'\[ *(==========|RUN|OK|FAILED|SKIPPED|ERROR|LINE) *\] (.*)')
    start = re.compile(r'Running (\d+) test')

    def __init__(self):
        self.announced = 0
        self.seen = False
        self.running = None
        self.said = []

    def feed(self, line, result):
        match = self.line.search(line)
        if match is None:
            self.said.append(line.strip())
            return
        self.seen = True
        word, name = match.groups()
        if word == '==========':
            start = self.start.match(name)
            self.announced += int(start.group(1)) if start else 0
        elif word == 'RUN':
            self.finish(result, 'has no result')
            self.running, self.said = name, []
        elif name == self.running:
            self._verdict(word, name, result)
        elif word in ('ERROR', 'LINE'):
            self.said.append(name.strip('- ').removesuffix(': error: Failure!'))

    def _verdict(self, word, name, result):
        reason = '; '.join(filter(None, self.said))
        if word == 'OK':
            result.passed.append(name)
        elif word == 'SKIPPED' and reason:
            result.skipped.append((name, plain_reason(reason)))
        elif word == 'SKIPPED':
            result.failed.append((name, 'was skipped and does not say why'))
        else:
            result.failed.append((name, reason or 'failed'))
        self.running = None

    def finish(self, result, how):
        """A check that began has to end before the program does."""
        if self.running is not None:
            result.failed.append((self.running, how))
        self.running = None

    def count(self):
        """How many checks the program has promised."""
        return self.announced if self.seen else None


class TapReader:
    """Counts the checks of a program that speaks TAP."""

    line = re.compile(r'(not )?ok \d+(?: -)? ?(.*)')
    plan = re.compile(r'1\.\.(\d+)\s*$')
    skip = re.compile(r'(.*?)\s*# SKIP\b\s*(.*)', re.I)

    def __init__(self):
        self.announced = None

    def feed(self, line, result):
        plan = self.plan.match(line)
        if plan is not None:
            self.announced = int(plan.group(1))
        match = self.line.match(line)
        if match is None:
            return
        bad, name = match.groups()
        skip = self.skip.match(name)
        if bad:
            result.failed.append((name, 'failed'))
        elif skip is None:
            result.passed.append(name)
        elif skip.group(2):
            result.skipped.append((skip.group(1), skip.group(2)))
        else:
            result.failed.append((name, 'was skipped and does not say why'))

    def finish(self, result, how):
        """TAP has nothing that could be left open."""

    def count(self):
        """How many checks the program has promised."""
        return self.announced


def how_it_ended(code):
    """An exit code in words."""
    if code < 0:
        return f'died of {signal.Signals(-code).name}'
    return f'ended with code {code}'


def judge(result, code):
    """Fill @result from its output and @code."""
    readers = [CmockaReader(), TapReader()]
    how = (f'was still running after {result.seconds:.0f} s'
           if result.timed_out else how_it_ended(code))
    lines = result.output.splitlines()
    for line in lines:
        for reader in readers:
            reader.feed(line, result)
    for reader in readers:
        reader.finish(result, how)
    seen = len(result.passed) + len(result.failed) + len(result.skipped)
    promised = max((reader.count() for reader in readers
                    if reader.count() is not None), default=None)

    if result.timed_out:
        if not result.failed:
            result.failed.append((result.test, how))
    elif promised is None and seen == 0:
        judge_by_exit_code(result, code, lines)
    elif code != 0 and not result.failed:
        result.failed.append((result.test, how))
    elif promised is not None and seen < promised and not result.failed:
        result.failed.append(
            (result.test, f'ran {seen} of its {promised} checks'))


def judge_by_exit_code(result, code, lines):
    """A program without checks of its own is one check."""
    said = [line.strip() for line in lines if line.strip()]
    if code == 0:
        result.passed.append(result.test)
    elif code == SKIPPED_EXIT_CODE and said:
        result.skipped.append((result.test, plain_reason(said[-1])))
    elif code == SKIPPED_EXIT_CODE:
        result.failed.append((result.test, 'was skipped and does not say why'))
    else:
        result.failed.append((result.test, how_it_ended(code)))


def session_members(session):
    """The processes that a test has started and not taken along."""
    members = []
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        state, of_session = fields[0], int(fields[3])
        if of_session == session and state not in 'ZX':
            members.append(int(entry.name))
    return members


def kill_session(session, grace_s):
    """
    Kill what is left of a test, and only that; how many there were. What it
    has killed itself a moment ago gets @grace_s to go.
    """
    count = 0
    give_up = time.monotonic() + grace_s
    while session_members(session) and time.monotonic() < give_up:
        time.sleep(0.01)
    for _ in range(10):
        members = session_members(session)
        if not members:
            break
        count = max(count, len(members))
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
    return count


def start_alone():
    """In the child: no core files from tests that kill on purpose."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def has_failed(output, check):
    """Has the program that writes this file said that @check failed?"""
    said = os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0)
    return re.search(rb'^(\[ *(FAILED|ERROR) *\]|not ok \d+( -)?) %b$' %
                     re.escape(check.encode()), said, re.M) is not None


def wait_for(process, output, result, give_up, until):
    """Until it has ended or may be ended; tells @result if it had its time."""
    while process.poll() is None:
        left_s = give_up - time.monotonic()
        result.timed_out = left_s <= 0
        if result.timed_out or (until and has_failed(output, until)):
            return
        try:
            process.wait(min(LOOK_S, left_s) if until else left_s)
        except subprocess.TimeoutExpired:
            pass


def run(test, wrapper=(), environment=None, patience=1.0, until=None):
    """
    Run one test in a session of its own, without stdin, with an empty
    directory for its sockets and temporary files; kill what it leaves behind.
    It goes on to its end, or @until that check of it has failed.
    """
    result = Result(test.name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='peal-test.') as scratch, \
            tempfile.TemporaryFile() as output:
        # Tests that become another user go through it, and see nothing.
        os.chmod(scratch, 0o711)
        variables = {**os.environ, **(environment or {}), **test.environment,
                     'PEAL_RUNTIME_DIR': scratch, 'TMPDIR': scratch}
        with subprocess.Popen(
                [*wrapper, *test.command], cwd=test.directory, env=variables,
                stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=start_alone) as process:
            try:
                wait_for(process, output, result,
                         began + test.timeout_s * patience, until)
            finally:
                has_ended = process.poll() is not None
                left_behind = kill_session(process.pid,
                                           GRACE_S if has_ended else 0)
        output.seek(0)
        result.output = output.read().decode(errors='replace')
    result.seconds = time.monotonic() - began
    judge(result, process.returncode)
    if left_behind and has_ended:
        result.failed.append((test.name, f'left {left_behind} processes behind'))
    return result
