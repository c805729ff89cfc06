#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the fuzzers and lets them look for a while; then breaks peal.

    run.py SOURCE BUILD             5 s for each fuzzer, and the quick mutants
    run.py SOURCE BUILD --full      60 s for each, and all mutants (PEAL_FULL=1)
    run.py SOURCE BUILD --only fuzz_client
    run.py SOURCE BUILD --learn     writes the seeds anew, from what it found

A fuzzer that finds nothing has to have done something: it fails when it ran
fewer inputs than it should in the processor's time it had, or reached less of
the library. Seeds are lines of hex in fuzz/seeds; an input that once broke
something stands there for good.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402, pylint: disable=wrong-import-position
from tap import Tap  # noqa: E402, pylint: disable=wrong-import-position

OPTIONS = ('-Dfuzz=true', '-Dbuildtype=plain', '-Dc_args=-O1 -gline-tables-only',
           '-Db_sanitize=address,undefined', '-Db_lundef=false',
           '-Dbounded_sleep=false', '-Dwhole=false', '-Dbench=false',
           '-Dexamples=false')
QUICK_S, FULL_S = 5, 60
AT_ONCE = 2
INPUT_BYTES = 300
HANG_S = 10     # of one input, on a busy machine; they take microseconds
PATIENCE_S = 120
LEAST_CPU_S = 0.3
TAIL_LINES = 60


@dataclass(frozen=True)
class Fuzzer:
    """What one has to have done when it has found nothing."""
    name: str
    inputs: int     # for each second of the processor
    places: int     # of the library, as libFuzzer counts them


FUZZERS = (
    Fuzzer('fuzz_consumer', 3000, 365),
    Fuzzer('fuzz_reactor', 1500, 780),
    Fuzzer('fuzz_client', 500, 870),
    Fuzzer('fuzz_wire', 500, 595),
    Fuzzer('fuzz_observer', 500, 490),
)


@dataclass
class Mutant:
    """One row of mutants.toml."""
    name: str
    breaks: str
    file: str
    old: str
    new: str
    fuzzer: str
    expects: str
    rebuild: list
    quick: bool


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='the source tree')
    parser.add_argument('build', type=Path,
                        help='where to build; made if it is not there')
    parser.add_argument('--full', action='store_true',
                        default=os.environ.get('PEAL_FULL') == '1',
                        help='for longer, and all mutants; so does PEAL_FULL=1')
    parser.add_argument('--only', metavar='NAME',
                        help='one fuzzer, or one mutant')
    parser.add_argument('--learn', action='store_true',
                        help='write the seeds anew, from what was found')
    return parser.parse_args()


def steady():
    """A prefix that turns off what older sanitizers stumble over."""
    wrapper = ['setarch', '-R']
    try:
        harness.command([*wrapper, 'true'])
    except harness.Failure:
        return []
    return wrapper


def unpack(source, name, directory):
    """The seeds of one fuzzer as files; how many there are."""
    path = source / 'tests' / 'fuzz' / 'seeds' / f'{name}.txt'
    lines = [line.split('#')[0].strip()
             for line in path.read_text(encoding='utf-8').splitlines()] \
        if path.exists() else []
    seeds = [bytes.fromhex(line) for line in lines if line]
    directory.mkdir()
    for number, seed in enumerate(seeds):
        (directory / f'seed-{number}').write_bytes(seed)
    return len(seeds)


@dataclass
class Outcome:
    """How a fuzzer went."""
    code: int
    text: str
    seconds: float
    cpu_s: float

    def number(self, pattern):
        """The last number that was printed like this, or 0."""
        found = re.findall(pattern, self.text)
        return int(found[-1]) if found else 0

    def inputs(self):
        """How many it ran."""
        return self.number(r'stat::number_of_executed_units: (\d+)')

    def places(self):
        """How much of the library it reached."""
        return self.number(r'\bcov: (\d+)')

    def finding(self):
        """One line on what it has found."""
        for pattern in (r'BROKEN: .*', r'runtime error: .*',
                        r'ERROR: AddressSanitizer: .*',
                        r'ERROR: LeakSanitizer: .*', r'ERROR: libFuzzer: .*'):
            found = re.search(pattern, self.text)
            if found:
                return found.group()
        return f'it ended with code {self.code}'


def let_run(program, seconds, directory, seeds=None):
    """Run one fuzzer in a directory of its own."""
    corpus = directory / 'corpus'
    corpus.mkdir(parents=True, exist_ok=True)
    command = [*steady(), str(program), f'-max_total_time={seconds}',
               f'-max_len={INPUT_BYTES}', '-len_control=0',
               f'-timeout={HANG_S}', '-print_final_stats=1',
               f'-artifact_prefix={directory}/', str(corpus),
               *([str(seeds)] if seeds else [])]
    environment = {
        **os.environ, 'PEAL_RUNTIME_DIR': str(directory), 'TMPDIR': str(directory),
        'ASAN_OPTIONS': 'quarantine_size_mb=8:detect_leaks=1',
        'UBSAN_OPTIONS': 'print_stacktrace=1',
    }
    began = time.monotonic()
    log = directory / 'log'
    with open(log, 'wb') as output, subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT) as process:
        # Its own limit ends it; this one is for a fuzzer that hangs itself.
        give_up = began + seconds + PATIENCE_S
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                break
            if time.monotonic() > give_up:
                process.kill()
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(process.returncode, log.read_text(errors='replace'),
                   time.monotonic() - began, usage.ru_utime + usage.ru_stime)


def fuzz(fuzzer, options, build, scratch, tap):
    """One fuzzer, for its time; nothing is to be found."""
    directory = scratch / fuzzer.name
    directory.mkdir()
    seeds = directory / 'seeds'
    seed_count = unpack(options.source, fuzzer.name, seeds)
    outcome = let_run(build.directory / 'tests' / fuzzer.name,
                      FULL_S if options.full else QUICK_S, directory, seeds)
    inputs, places = outcome.inputs(), outcome.places()
    rate = inputs / max(outcome.cpu_s, 0.01)
    what = (f'{inputs} inputs in {outcome.seconds:.0f} s, '
            f'{inputs / outcome.seconds:.0f} a second ({rate:.0f} a second of '
            f'the processor), {places} places reached, {seed_count} seeds')
    if outcome.code != 0:
        print('\n'.join(outcome.text.splitlines()[-TAIL_LINES:]))
        for kind in ('crash', 'timeout', 'leak', 'oom'):
            for found in directory.glob(f'{kind}-*'):
                print(f'input of the {kind}: {found.read_bytes().hex()}')
        tap.line(False, f'{fuzzer.name} found something: {outcome.finding()}')
    elif outcome.cpu_s < LEAST_CPU_S or rate < fuzzer.inputs:
        tap.line(False, f'{fuzzer.name} ran too few inputs, {fuzzer.inputs} a '
                 f'second of the processor are expected: {what}')
    elif places < fuzzer.places:
        tap.line(False, f'{fuzzer.name} reached too little, {fuzzer.places} '
                 f'places are expected: {what}')
    else:
        tap.line(True, f'{fuzzer.name} found nothing: {what}')
    if options.learn:
        learn(fuzzer, options, build, directory)


def learn(fuzzer, options, build, directory):
    """Few inputs that reach as much as all that were found."""
    least = directory / 'least'
    least.mkdir()
    program = build.directory / 'tests' / fuzzer.name
    harness.command([*steady(), str(program), '-merge=1', str(least),
                     str(directory / 'seeds'), str(directory / 'corpus')],
                    env={**os.environ, 'PEAL_RUNTIME_DIR': str(directory)})
    path = options.source / 'tests' / 'fuzz' / 'seeds' / f'{fuzzer.name}.txt'
    path.parent.mkdir(exist_ok=True)
    kept = [line for line in path.read_text(encoding='utf-8').splitlines()
            if '#' in line] if path.exists() else []
    found = sorted((seed.read_bytes() for seed in least.iterdir()), key=len)
    path.write_text('\n'.join(kept + [seed.hex() for seed in found
                                      if len(seed) <= 64][-60:]) + '\n',
                    encoding='utf-8')


class Workshop:
    """Compiles single sources of a build again, from a broken copy."""

    def __init__(self, source, build):
        self.source = source
        self.build = build.directory
        self.commands = {}
        for entry in json.loads((self.build / 'compile_commands.json')
                                .read_text(encoding='utf-8')):
            path = (Path(entry['directory']) / entry['file']).resolve()
            # Test programs compile nothing of the library; the first will do.
            self.commands.setdefault(path, shlex.split(entry['command']))

    def compile(self, name, broken, output):
        """@name, with what stands in @broken before what stands elsewhere."""
        original = (self.source / name).resolve()
        command = list(self.commands[original])
        where = command.index('-o')
        del command[where:where + 2]
        command = [word for word in command if word != '-MD']
        for option in ('-MQ', '-MF'):
            if option in command:
                where = command.index(option)
                del command[where:where + 2]
        copy = broken / name
        command[command.index('-c') + 1] = str(copy if copy.exists() else original)
        command[1:1] = [f'-I{broken}', f'-I{broken}/include']
        harness.command([*command, '-o', str(output)], cwd=self.build)

    def link(self, fuzzer, objects, output):
        """
        The fuzzer, with {name of a source: object} before the libraries, and in
        the place of its own object of that source.
        """
        text = harness.command(['ninja', '-C', str(self.build), '-t', 'commands',
                                f'tests/{fuzzer}'])
        command = shlex.split([line for line in text.splitlines()
                               if f'-o tests/{fuzzer} ' in line][-1])
        where = command.index('-o')
        command[where:where + 2] = ['-o', str(output), *map(str, objects.values())]
        own = tuple(f'_{name.replace("/", "_")}.o' for name in objects)
        command = [word for word in command if not word.endswith(own)]
        harness.command(command, cwd=self.build)

    def make(self, mutant, directory):
        """Build the fuzzer over a broken library; its path."""
        broken = directory / 'broken'
        copy = broken / mutant.file
        copy.parent.mkdir(parents=True)
        text = (self.source / mutant.file).read_text(encoding='utf-8')
        count = text.count(mutant.old)
        if count != 1:
            raise harness.Failure(f'stale: its text is {count} times in '
                                  f'{mutant.file}')
        copy.write_text(text.replace(mutant.old, mutant.new), encoding='utf-8')
        objects = {name: directory / f'{Path(name).name}.o'
                   for name in mutant.rebuild}
        for name, output in objects.items():
            self.compile(name, broken, output)
        self.link(mutant.fuzzer, objects, directory / mutant.fuzzer)
        return directory / mutant.fuzzer


def hunt(mutant, workshop, options, scratch, tap):
    """The fuzzer has to find that the library is broken, from nothing."""
    directory = scratch / f'mutant-{mutant.name}'
    directory.mkdir()
    try:
        program = workshop.make(mutant, directory)
    except harness.Failure as failure:
        print(failure)
        tap.line(False, f'mutant {mutant.name}: BROKEN, it does not compile')
        return
    outcome = let_run(program, FULL_S if options.full else 3 * QUICK_S,
                      directory)
    if outcome.code == 0:
        tap.line(False, f'mutant {mutant.name}: SURVIVED {outcome.inputs()} '
                 f'inputs of {mutant.fuzzer}: {mutant.breaks}')
        return
    found = outcome.finding()
    good = re.search(mutant.expects, found) is not None
    if not good:
        print('\n'.join(outcome.text.splitlines()[-TAIL_LINES:]))
    tap.line(good, f'mutant {mutant.name}: {mutant.fuzzer} found '
             f'{"it" if good else "something else"} after {outcome.inputs()} '
             f'inputs, {outcome.seconds:.1f} s ({found})')


def wanted(rows, options):
    """Those that the command line asks for."""
    return [row for row in rows if options.only in (None, row.name)]


def main():
    """The program."""
    options = arguments()
    options.source, options.build = (options.source.resolve(),
                                     options.build.resolve())
    tap = Tap()
    if shutil.which('clang') is None:
        tap.skip('fuzzers', 'clang is not installed')
        return tap.close()
    fuzzers = wanted(FUZZERS, options)
    rows = tomllib.loads((options.source / 'tests' / 'fuzz' / 'mutants.toml')
                         .read_text(encoding='utf-8'))['mutant']
    mutants = [mutant for mutant in wanted([Mutant(**row) for row in rows],
                                           options)
               if options.full or options.only or mutant.quick]
    build = harness.Build(options.source, options.build, 'clang', OPTIONS)
    try:
        build.prepare()
        build.compile([f'tests/{name}' for name in sorted(
            {fuzzer.name for fuzzer in fuzzers} |
            {mutant.fuzzer for mutant in mutants})])
    except harness.Failure as failure:
        print(failure)
        tap.line(False, 'the fuzzers are built')
        return tap.close()
    with tempfile.TemporaryDirectory(prefix='peal-fuzz.') as directory, \
            ThreadPoolExecutor(AT_ONCE) as pool:
        scratch = Path(directory)
        workshop = Workshop(options.source, build)
        jobs = [pool.submit(fuzz, fuzzer, options, build, scratch, tap)
                for fuzzer in fuzzers]
        jobs += [pool.submit(hunt, mutant, workshop, options, scratch, tap)
                 for mutant in mutants]
        for job in jobs:
            job.result()
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
