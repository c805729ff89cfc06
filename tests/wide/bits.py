#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shared bytes are the same for programs of 32 and of 64 bits.

    tests/wide/bits.py

Every file of the library, and with it every asserted offset of what is shared,
compiles for 32 bits without a warning; and a ring passes messages between two
programs of which one has 32 bits and the other 64. The 32-bit libnuma, liburcu
and cmocka are not needed for this, and are not on most machines.
"""

import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tests'))

from tap import Tap  # pylint: disable=wrong-import-position

FOLDERS = ('base', 'shm', 'doorbell', 'mpsc', 'reactor')
FLAGS = ['-std=c11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-O1',
         f'-I{ROOT}', f'-I{ROOT}/include']
WIDTHS = (32, 64)
COUNT = 50_000
PATIENCE_S = 60


def compiles(width, arguments):
    """Does gcc take it? Prints what it says."""
    done = subprocess.run(['gcc', f'-m{width}', *FLAGS, *arguments], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    print(done.stdout, end='')
    return done.returncode == 0


def library_headers(directory):
    """
    A place with the headers of libraries. They are the same for all widths,
    but Debian has liburcu's where gcc looks for 64 bits only.
    """
    place = subprocess.run(['gcc', '-print-multiarch'], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.strip()
    for name in ('urcu',):
        there = Path('/usr/include', place, name)
        if there.is_dir():
            Path(directory, name).symlink_to(there)
    return directory


def passes_messages(directory, writer, reader, seed):
    """One program writes, the other reads; do both end well?"""
    ring = os.memfd_create('ring')
    os.ftruncate(ring, 4096 + 65536)
    # Where both begin: the position has to be there before either looks.
    os.pwrite(ring, (2 ** 32 - 1024).to_bytes(8, sys.byteorder), 0)
    try:
        ends = [subprocess.Popen(
            [f'{directory}/end{width}', what, str(ring), str(seed), str(COUNT)],
            stdin=subprocess.DEVNULL, pass_fds=[ring])
            for width, what in ((writer, 'write'), (reader, 'read'))]
        try:
            return [end.wait(PATIENCE_S) for end in ends] == [0, 0]
        except subprocess.TimeoutExpired:
            return False
        finally:
            for end in ends:
                end.kill()
                end.wait()
    finally:
        os.close(ring)


def main():
    """The program."""
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix='peal-wide.') as directory:
        empty = Path(directory, 'empty.c')
        empty.write_text('#include <stdint.h>\nint main(void) { return 0; }\n')
        if not compiles(32, [str(empty), '-o', f'{directory}/empty']):
            tap.skip('bits', 'gcc has no libraries of 32 bits here '
                     '(gcc-multilib)')
            return tap.close()
        headers = library_headers(directory)
        files = sorted(path for folder in FOLDERS
                       for path in (ROOT / folder).glob('*.c'))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            taken = list(pool.map(lambda file: compiles(
                32, ['-isystem', headers, '-fsyntax-only', str(file)]), files))
        tap.line(all(taken), f'{len(files)} files compile for 32 bits, with '
                 'every offset where it is for 64')
        # What would notice: an offset that depends on the width.
        empty.write_text('#include <stddef.h>\nstruct x { long a; int b; };\n'
                         '_Static_assert(offsetof(struct x, b) == 8, "");\n')
        wide = [width for width in WIDTHS
                if compiles(width, ['-fsyntax-only', str(empty)])]
        tap.line(wide == [64], 'an offset that is not the same is noticed')
        for width in WIDTHS:
            if not compiles(width, [
                    str(ROOT / 'tests/wide/ring_end.c'),
                    str(ROOT / 'mpsc/ring.c'), '-o', f'{directory}/end{width}']):
                tap.line(False, f'the end of {width} bits is built')
                return tap.close()
        seed = random.getrandbits(32)
        print(f'PEAL_TEST_SEED={seed}')
        for writer, reader in ((32, 64), (64, 32)):
            tap.line(passes_messages(directory, writer, reader, seed),
                     f'{writer} bits write and {reader} bits read {COUNT} '
                     'messages')
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
