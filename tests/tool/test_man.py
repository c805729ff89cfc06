#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual pages are well formed, and the programs in them build and run.

    test_man.py SOURCE_DIRECTORY LIBRARY
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tap import Tap  # pylint: disable=wrong-import-position

SOURCE, LIBRARY = (Path(argument).resolve() for argument in sys.argv[1:3])
PAGES = sorted((SOURCE / 'docs' / 'man').iterdir())
PATIENCE_S = 20
VERSION = re.search(r"version: '([^']+)'",
                    (SOURCE / 'meson.build').read_text(encoding='utf-8'))[1]

# What the programs print, by the page and by which of its programs it is. Those
# of peal_mpsc.3 and of peal_reactor.3 talk to each other, so that the first one
# waits for the second.
PRINTS = {
    ('peal_client.3', 0): '',
    ('peal_client.3', 1): 'HELLO\n',
    ('peal_doorbell.3', 0): 'woken\n',
    ('peal_mpsc.3', 0): 'hello, world\n',
    ('peal_mpsc.3', 1): '',
    ('peal_observer.3', 0): '',
    ('peal_reactor.3', 0): '',
    ('peal_reactor.3', 1): 'hello, world\n',
    ('peal_ring.3', 0): 'hello\n',
    ('peal_shm.3', 0): 'around the ring\n',
    ('peal_strerror.3', 0): f'peal {VERSION}: no server has this name\n',
}


def lint(page):
    """What mandoc has to say, but for pages that are installed nowhere yet."""
    done = subprocess.run(['mandoc', '-T', 'lint', str(page)], check=False,
                          text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    return [line for line in done.stdout.splitlines()
            if 'referenced manual not found' not in line]


def programs(page):
    """The C programs in a page, as a reader would copy them."""
    lines, program = [], None
    for line in page.read_text(encoding='utf-8').splitlines():
        if line.startswith('.Bd'):
            program = []
        elif line == '.Ed':
            text = '\n'.join(program) + '\n'
            if 'int main(' in text:
                lines.append(text.replace('\\e', '\\').replace('\\&', ''))
            program = None
        elif program is not None:
            program.append(line)
    return lines


def build(text, program):
    """Compile one, with the source tree's headers and the built library."""
    done = subprocess.run(
        [os.environ.get('CC', 'cc'), '-std=gnu11', '-Wall', '-Wextra',
         '-Werror', f'-I{SOURCE / "include"}', '-x', 'c', '-', '-x', 'none',
         str(LIBRARY), f'-Wl,-rpath,{LIBRARY.parent}', '-o', str(program)],
        input=text, check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    print(done.stdout, end='')
    return done.returncode == 0


def start(program, directory):
    """Run one of them, with a directory for its names."""
    return subprocess.Popen(
        [str(program)], text=True, stdout=subprocess.PIPE,
        env={**os.environ, 'PEAL_RUNTIME_DIR': str(directory)})


def wait_for_name(directory, process):
    """Until the first program of two has opened its name, and listens."""
    while process.poll() is None and \
            not any(path.is_socket() and not path.name.endswith('~peal')
                    for path in directory.iterdir()):
        time.sleep(0.005)


def run_all(built, directory):
    """Start the programs of a page in their order; what each one printed."""
    processes = []
    for program in built:
        processes.append(start(program, directory))
        if program is not built[-1]:
            wait_for_name(directory, processes[-1])
    try:
        return [process.communicate(timeout=PATIENCE_S)[0]
                for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def check_programs(tap, page):
    """Build and run what is in one page."""
    texts = programs(page)
    with tempfile.TemporaryDirectory(prefix='peal-', dir='/tmp') as scratch:
        built = [Path(scratch, f'program{i}') for i in range(len(texts))]
        names = Path(scratch, 'names')
        names.mkdir()
        good = all([build(*pair) for pair in zip(texts, built)])
        if good:
            printed = run_all(built, names)
            if page.name == 'peal_observer.3':
                # It looks into /run/peal as well: whoever serves there.
                printed = [re.sub(r'(?m)^[\w.-]+: \d+ messages\n', '', text)
                           for text in printed]
            expected = [PRINTS[page.name, i] for i in range(len(built))]
            good = printed == expected
            if not good:
                print(f'{printed} instead of {expected}')
    tap.line(good, f'{page.name}: its {len(texts)} programs build and run')


def main():
    """The program."""
    tap = Tap()
    for page in PAGES:
        name = f'{page.name}: mandoc finds nothing to say'
        if shutil.which('mandoc') is None:
            tap.skip(name, 'mandoc is not installed')
        else:
            problems = lint(page)
            print(*problems, sep='\n', end='\n' if problems else '')
            tap.line(not problems, name)
    for page in PAGES:
        if programs(page):
            check_programs(tap, page)
    listed = re.findall(r"'man/([^']+)'",
                        (SOURCE / 'docs' / 'meson.build').read_text(encoding='utf-8'))
    tap.line(sorted(listed) == [page.name for page in PAGES],
             'docs/meson.build installs every page')
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
