#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the system calls of two sides that are awake.

    no_syscalls.py AWAKE WORK... [COUNT]

AWAKE (awake.c, awake_calls.c) is run under strace. Between its two marks, a
million messages, neither side may ask the kernel for anything, nor may the
server's thread that admits others wake up.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tap import Tap  # noqa: E402  pylint: disable=wrong-import-position

MESSAGES = 1000000
TIMEOUT_S = 100
PATIENCE_S = 40
TRIES_MAX = 40
BEGIN, END = '"peal: begin"', '"peal: end"'
# A call that another thread's interrupts is written down in two parts; what
# counts is the one at which it is made.
CALL = re.compile(r'(\d+)\s+(\w+)\(')


def why_not():
    """Why system calls cannot be counted here, or None."""
    if shutil.which('strace') is None:
        return 'strace is not installed'
    if len(os.sched_getaffinity(0)) < 2:
        return 'two that are awake need two processors'
    tried = subprocess.run(['strace', '-f', '-o', os.devnull, 'true'],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=TIMEOUT_S, check=False)
    if tried.returncode != 0:
        return f'strace cannot trace here: {tried.stdout.strip()}'
    return None


def trace(program, work, count, directory):
    """What strace wrote down about one run, line by line."""
    log = Path(directory, 'log')
    done = subprocess.run(
        ['strace', '-f', '-qq', '-o', str(log), program, work, str(count)],
        env={**os.environ, 'PEAL_RUNTIME_DIR': directory,
             # LeakSanitizer cannot run under strace.
             'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
             ':detect_leaks=0'},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f'{work} ended with {done.returncode}: '
                           f'{done.stdout}')
    return log.read_text().splitlines()


def count_calls(lines):
    """
    {pid: Counter of calls} between the marks: of each process that makes them
    between its own, of other threads between the first and the last of all.
    """
    marked = {line.split()[0] for line in lines if BEGIN in line}
    first = min(i for i, line in enumerate(lines) if BEGIN in line)
    last = max(i for i, line in enumerate(lines) if END in line)
    calls = {pid: collections.Counter() for pid in marked}
    inside = set()
    for number, line in enumerate(lines):
        match = CALL.match(line)
        if match is None:
            continue
        pid, name = match.groups()
        if BEGIN in line:
            inside.add(pid)
        elif END in line:
            inside.discard(pid)
        elif pid in inside or (pid not in marked and first < number < last):
            calls.setdefault(pid, collections.Counter())[name] += 1
    return calls


def check(tap, program, work, count):
    """
    One way of exchanging messages. A side that the scheduler keeps from running
    for long is not awake, and the other one asks after it: so one run out of
    many has to be silent, which on an idle machine is the first.
    """
    end = time.monotonic() + PATIENCE_S
    total, tries = None, 0
    while total is None or (total > 0 and tries < TRIES_MAX and
                            time.monotonic() < end):
        tries += 1
        with tempfile.TemporaryDirectory(prefix='peal-') as directory:
            lines = trace(program, work, count, directory)
        calls = count_calls(lines)
        total = sum(sum(counter.values()) for counter in calls.values())
        print(f'# {work}: {count} messages, {len(calls)} processes and '
              f'threads seen between the marks, {total} system calls; '
              f'{len(lines)} in the whole run')
        for pid, counter in calls.items():
            for call, times in counter.most_common():
                print(f'# {pid} {call}: {times}')
    tap.line(total == 0, f'{count} messages by {work} without one system call '
             f'(try {tries} of at most {TRIES_MAX})')


def main():
    """The exit code."""
    program = sys.argv[1]
    works = [word for word in sys.argv[2:] if not word.isdigit()]
    count = int(sys.argv[-1]) if sys.argv[-1].isdigit() else MESSAGES
    reason = why_not()
    tap = Tap()
    for work in works:
        if reason is not None:
            tap.skip(f'{count} messages by {work} without one system call',
                     reason)
        else:
            check(tap, program, work, count)
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
