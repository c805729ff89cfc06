#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lets spin prove the models of this folder, and break them on purpose.

    run_models.py [--full] [--only PATTERN] [--list]

One check for each row of cases.py. A model holds when pan has searched all of
it and found no error; a mutant is caught when pan found the very error that it
is to make. All else, a model that does not compile, a search that ended early,
an error of another kind, is neither: it is broken, and the check fails.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from cases import CASES  # noqa: E402  pylint: disable=wrong-import-position
from tap import Tap  # noqa: E402  pylint: disable=wrong-import-position

AT_ONCE = 2
TIMEOUT_S = 1800
DEPTH = 100000
MEMORY_MB = {False: 1500, True: 8000}
PAN = ('-DSAFETY', '-DNOFAIR', '-w')
# Half of the time goes into compiling, and clang needs half as much for it.
COMPILER = 'clang' if shutil.which('clang') else 'gcc'
# Any of them means that pan did not see all there is.
EARLY = ('Search not completed', 'max search depth too small',
         'out of memory', 'reached -DMEMLIM', 'hash factor',
         'Bit statespace search', 'VECTORSZ')
VIOLATED = re.compile(r'^pan:\d+: assertion violated +!\((\w+)\)', re.M)
ERRORS = re.compile(r'^State-vector \d+ byte, depth reached \d+, '
                    r'errors: (\d+)$', re.M)
# From a hundred million on pan writes 1.2345678e+08.
STORED = re.compile(r'^ *([\d.e+]+) states, stored', re.M)
UNREACHED = re.compile(r'^\t(\S+\.pml:\d+), state \d+, "(.*)"$', re.M)
MARKER = re.compile(r'# (\d+) "([^"]*)"')


class Broken(Exception):
    """Neither proved nor caught; the text says why."""


def command(arguments, directory, timeout_s=TIMEOUT_S):
    """Its output; Broken if it cannot be run to its end without an error."""
    try:
        done = subprocess.run(arguments, cwd=directory, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=timeout_s,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired as expired:
        raise Broken(f'{arguments[0]} took over {timeout_s} s') from expired
    if done.returncode != 0:
        raise Broken(f'{arguments[0]} ended with {done.returncode}:\n'
                     f'{done.stdout[-2000:]}')
    return done.stdout


def search(model, defines, is_full, is_long, depth=DEPTH, memory_mb=None):
    """All that pan has to say of one way to build a model."""
    with tempfile.TemporaryDirectory(prefix='peal-model.') as directory:
        said = command(['spin', '-a', *(f'-D{name}' for name in defines),
                        str(HERE / model)], directory)
        if 'rror' in said or not Path(directory, 'pan.c').exists():
            raise Broken(f'spin: {said}')
        memory_mb = memory_mb or MEMORY_MB[is_full]
        # To compile with more would take longer than a short search does.
        command([COMPILER, '-O1' if is_long else '-O0', *PAN,
                 *(['-DCOLLAPSE'] if is_full else []),
                 f'-DMEMLIM={memory_mb}', '-o', 'pan', 'pan.c'], directory)
        return command(['./pan', f'-m{depth}', '-w20'], directory)


def unreached(output):
    """The places of a model that the search never came to."""
    return [f'{place} {text}' for place, text in UNREACHED.findall(output)
            if text != '-end-']


def lines_there(model, defines):
    """What of a model is left when #ifdef has been seen to, as 'file:line'."""
    text = command([COMPILER, '-E', '-x', 'c',
                    *(f'-D{name}' for name in defines), str(HERE / model)],
                   HERE)
    there, file, number = set(), '', 0
    for line in text.splitlines():
        marker = MARKER.match(line)
        if marker:
            number, file = int(marker[1]), Path(marker[2]).name
            continue
        if line.strip():
            there.add(f'{file}:{number}')
        number += 1
    return there


class Lines:
    """The lines of the models that some proof has never come to."""

    def __init__(self):
        self.proofs = []

    def note(self, model, defines, output):
        """One complete search without an error."""
        missed = Counter(line.split()[0].split('/')[-1]
                         for line in unreached(output))
        self.proofs.append((lines_there(model, defines), missed))

    def missed(self):
        """
        What no proof comes to. A line of an inline is there several times; it
        was come to where fewer are missed than elsewhere.
        """
        most = Counter()
        for _, missed in self.proofs:
            most |= missed
        return sorted(line for line in most
                      if not any(line in there and missed[line] < most[line]
                                 for there, missed in self.proofs))


def judge(output):
    """The error that a complete search found, or None; its states."""
    errors = ERRORS.findall(output)
    stored = STORED.findall(output)
    violated = VIOLATED.findall(output)
    if len(errors) != 1 or len(stored) != 1:
        raise Broken(f'pan does not say what it found:\n{output[-2000:]}')
    if errors == ['0']:
        early = [sign for sign in EARLY if sign in output]
        if early or 'pan:1:' in output:
            raise Broken(f'the search ended early: {", ".join(early)}')
        if 'Full statespace search' not in output or \
                not re.search(r'assertion violations\t\+', output) or \
                not re.search(r'invalid end states\t\+', output):
            raise Broken('this was no full search for what we want to know')
        return None, int(float(stored[0]))
    # It stops at the first error, which is all that is asked of a mutant.
    if errors != ['1'] or len(violated) != 1 or 'out of memory' in output:
        raise Broken(f'an error of no known kind:\n{output[-2000:]}')
    return violated[0], int(float(stored[0]))


def check(case, is_full, lines):
    """One row: what it came to, as a sentence, or Broken."""
    output = search(case.model, case.defines, is_full, case.is_long)
    found, states = judge(output)
    if found != case.error:
        raise Broken(f'pan found {found or "no error"} in {states} states, '
                     f'and not {case.error or "none"}')
    if found is None:
        lines.note(case.model, case.defines, output)
    missed = unreached(output) if case.is_all_reached else []
    if missed:
        raise Broken('never reached, so not proved:\n' + '\n'.join(missed))
    return f'{states} states' if found is None else found


def early_end_is_noticed():
    """A search that lacks depth or memory is neither proved nor caught."""
    case = next(case for case in CASES if case.error is None)
    for change, sign in (({'depth': 20}, 'early'), ({'memory_mb': 1}, '')):
        try:
            judge(search(case.model, case.defines, False, False, **change))
        except Broken as broken:
            if sign in str(broken):
                continue
        raise Broken(f'with {change} it looks proved')


def nonsense_is_noticed():
    """A model that is none is neither proved nor caught."""
    with tempfile.NamedTemporaryFile('w', suffix='.pml') as model:
        model.write('active proctype p() { undeclared = 1 }\n')
        model.flush()
        try:
            judge(search(model.name, (), False, False))
        except Broken:
            return
    raise Broken('it looks proved')


def lines_are_reached(lines):
    """Each line of each model is come to in some proof."""
    if lines.missed():
        raise Broken('never reached in any proof, so not proved:\n' +
                     '\n'.join(lines.missed()))
    return f'in {len(lines.proofs)} proofs'


def missed_line_is_noticed():
    """A line that no search comes to is found."""
    with tempfile.NamedTemporaryFile('w', suffix='.pml') as model:
        model.write('byte x;\nactive proctype p() {\nif\n:: x > 0 ->\n'
                    'x = 2\n:: else\nfi }\n')
        model.flush()
        lines = Lines()
        lines.note(model.name, (), search(model.name, (), False, False))
    if [line.split(':')[1] for line in lines.missed()] != ['5']:
        raise Broken(f'found {lines.missed()}')


def numbers_are_told_right():
    """docs/reliability.md says how many mutants there are."""
    document = (HERE.parent.parent / 'docs/reliability.md').read_text('utf-8')
    told = re.search(r'(\d+) broken ways, (\d+) of them of the bells.*?'
                     r'the (\d+) without an order', document)
    bells = {'doorbell.pml', 'client.pml', 'room.pml'}
    mutants = [case for case in CASES if case.error]
    there = [len(mutants), sum(case.model in bells for case in mutants),
             sum('passes_without_store_buffers' in case.name for case in CASES)]
    if told is None or [int(number) for number in told.groups()] != there:
        raise Broken(f'docs/reliability.md: there are {there[0]} broken ways, '
                     f'{there[1]} of them of the bells, and {there[2]} '
                     'without an order')


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--full', action='store_true',
                        help='also the larger bounds; so does PEAL_FULL=1')
    parser.add_argument('--only', default='*', metavar='PATTERN',
                        help='what matches this shell pattern')
    parser.add_argument('--list', action='store_true',
                        help='say what would be checked')
    return parser.parse_args()


def main():
    """The program."""
    options = arguments()
    is_full = options.full or os.environ.get('PEAL_FULL') == '1'
    cases = [case for case in CASES if (is_full or not case.is_for_full)
             and fnmatchcase(case.name, options.only)]
    tap, lines = Tap(), Lines()

    if options.list:
        for case in cases:
            print(f'{case.name}: {case.model} {" ".join(case.defines)}')
        return 0
    for tool in ('spin', COMPILER):
        if shutil.which(tool) is None:
            tap.skip('models', f'{tool} is not installed')
            return tap.close()

    def one(name, work):
        try:
            result = work()
        except Broken as broken:
            print('\n'.join(f'# {line}' for line in str(broken).splitlines()))
            tap.line(False, name)
        else:
            tap.line(True, f'{name} ({result})' if result else name)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        work = [pool.submit(one, case.name, lambda case=case:
                            check(case, is_full, lines)) for case in cases]
        if options.only == '*':
            work += [pool.submit(one, function.__name__, function)
                     for function in (early_end_is_noticed,
                                      nonsense_is_noticed,
                                      missed_line_is_noticed,
                                      numbers_are_told_right)]
        for each in work:
            each.result()
    if options.only == '*':
        one('every_line_is_reached_in_some_proof',
            lambda: lines_are_reached(lines))
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
