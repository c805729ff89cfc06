#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples do what they say, and an installed copy of peal is all they need.

    test_examples.py SOURCE_DIRECTORY EXAMPLE_PROGRAM...
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tap import run_tests, test  # pylint: disable=wrong-import-position

SOURCE = Path(sys.argv[1]).resolve()
PROGRAMS = {Path(path).name: str(Path(path).resolve()) for path in sys.argv[2:]}
SOURCES = sorted((SOURCE / 'examples').glob('*.c'))
LINES_MAX = 80
PATIENCE_S = 20
LICENCE = (SOURCE / 'LICENSE').read_text(encoding='utf-8')


class Place:
    """A directory for names; programs are started with it and ended with it."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.environment = {**os.environ, 'PEAL_RUNTIME_DIR': directory}
        self.running = []

    def start(self, *command, **options):
        """Start a program, to be waited for with finish()."""
        # pylint: disable=consider-using-with
        process = subprocess.Popen(
            [PROGRAMS.get(command[0], command[0]), *command[1:]],
            env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.running.append(process)
        return process

    def start_server(self, name, *command):
        """The same, until its name can be attached to."""
        process = self.start(*command)
        deadline = time.monotonic() + PATIENCE_S
        while not (self.directory / name).is_socket():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f'{command} opened no {name}'
            time.sleep(0.005)
        return process

    @staticmethod
    def finish(process, text=None):
        """(exit code, stdout, stderr) of a program that ends by itself."""
        out, err = process.communicate(text, timeout=PATIENCE_S)
        return process.returncode, out, err

    def run(self, *command, text=None):
        """Start and finish."""
        return self.finish(self.start(*command), text)

    def end(self):
        """Nothing that was started stays."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.communicate()


@contextmanager
def place():
    """A Place in a new directory."""
    with tempfile.TemporaryDirectory(prefix='peal-', dir='/tmp') as directory:
        here = Place(directory)
        try:
            yield here
        finally:
            here.end()


def check_hello(server_program):
    """Start it, send it three messages, and return (stdout, stderr)."""
    with place() as here:
        server = here.start_server('hello', server_program)
        time.sleep(0.15)
        assert here.run('hello_producer', 'one', 'two words', 'three') == \
            (0, '', '')
        code, out, err = here.finish(server)
        assert code == 0, err
        assert list(here.directory.iterdir()) == [], 'files are left'
        return out, err


@test
def every_example_is_shorter_than_80_lines():
    assert {source.stem for source in SOURCES} == set(PROGRAMS)
    for source in SOURCES:
        count = len(source.read_text(encoding='utf-8').splitlines())
        assert count < LINES_MAX, f'{source.name} has {count} lines'


@test
def hello_consumer_prints_what_hello_producer_sends():
    out, err = check_hello('hello_consumer')
    assert (out, err) == ('one\ntwo words\nthree\n', '')


@test
def epoll_consumer_prints_it_beside_a_timer_that_ticks():
    out, err = check_hello('epoll_consumer')
    assert out == 'one\ntwo words\nthree\n'
    assert int(re.search(r'ticked (\d+) times', err)[1]) >= 1, err


@test
def hello_producer_without_a_consumer_says_so():
    with place() as here:
        code, _, err = here.run('hello_producer', 'one')
        assert code == 1 and "no server has the name 'hello'" in err, err


@test
def a_second_consumer_of_a_name_says_so():
    with place() as here:
        here.start_server('hello', 'hello_consumer')
        code, _, err = here.run('epoll_consumer')
        assert code == 1 and 'already has the name' in err, err


@test
def batch_delivers_every_number_in_its_turn():
    with place() as here:
        assert here.run('batch') == \
            (0, '1600000 numbers came, each in its turn\n', '')
        assert list(here.directory.iterdir()) == [], 'files are left'


def count(text):
    """What words_consumer has to print."""
    words = {}
    for word in text.split():
        first = word[0].lower() if word[0].isalpha() else '*'
        words[first] = words.get(first, 0) + 1
    return ''.join(
        [f'{len(text.splitlines())} messages\n{len(text)} bytes\n'] +
        [f'{words[first]} {first}\n' for first in sorted(words)])


@test
def words_of_four_producers_are_all_counted():
    texts = [LICENCE, LICENCE * 1000, '\n \n', '']
    with place() as here:
        server = here.start_server('words', 'words_consumer', 'words', '4')
        producers = [here.start('words_producer', 'words') for _ in texts]
        for producer, text in zip(producers, texts):
            assert here.finish(producer, text) == (0, '', '')
        code, out, err = here.finish(server)
        assert code == 0, err
        assert out == count(''.join(texts)), out


@test
def words_programs_say_how_they_are_called():
    with place() as here:
        for command in (('words_consumer',), ('words_consumer', 'words', 'x'),
                        ('words_producer',)):
            code, _, err = here.run(*command)
            assert code == 1 and err.startswith(f'{command[0]}: '), err


def tool(*command, **options):
    """Run a tool of the system; its output."""
    done = subprocess.run(command, check=False, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


class Installed:
    """A copy of peal under a prefix, and what a user knows of it."""

    def __init__(self, prefix):
        packages = list(prefix.rglob('peal.pc'))
        assert len(packages) == 1, packages
        self.prefix = prefix
        self.environment = {**os.environ,
                            'PKG_CONFIG_LIBDIR': str(packages[0].parent)}
        self.library = self.pkg_config('--variable=libdir')[0]
        self.environment['LD_LIBRARY_PATH'] = self.library

    def pkg_config(self, *arguments):
        """What it says of peal, as words."""
        return tool('pkg-config', *arguments, 'peal',
                    env=self.environment).split()

    def build(self, source, program):
        """Compile one file into the program of that name; its path."""
        path = self.prefix / program
        tool(os.environ.get('CC', 'cc'), '-std=c11', '-pedantic', '-Wall',
             '-Wextra', '-Werror', str(source),
             *self.pkg_config('--cflags', '--libs'),
             f'-Wl,-rpath,{self.library}', '-o', str(path))
        return str(path)


def check_hello_alone(installed):
    """hello_producer, built as a stranger would, reaches our consumer."""
    program = installed.build(SOURCE / 'examples' / 'hello_producer.c', 'hello')
    with place() as here:
        server = here.start_server('hello', 'hello_consumer')
        assert here.run(program, 'installed') == (0, '', '')
        assert here.finish(server)[1] == 'installed\n'


def check_readme(installed):
    """The two programs of README.md talk to each other."""
    text = (SOURCE / 'README.md').read_text(encoding='utf-8')
    programs = []
    for i, block in enumerate(re.findall(r'```c\n(.*?)```', text, re.DOTALL)):
        source = installed.prefix / f'readme{i}.c'
        source.write_text(block, encoding='utf-8')
        programs.append(installed.build(source, f'readme{i}'))
        assert len(block.splitlines()) <= 20, 'a program of README.md is long'
    consumer, producer = programs
    with place() as here:
        server = here.start_server('hello', 'stdbuf', '-oL', consumer)
        assert here.run(producer) == (0, '', '')
        assert server.stdout.readline().startswith('hello from ')


@test
def an_installed_copy_is_all_that_a_program_needs():
    with tempfile.TemporaryDirectory(prefix='peal-') as directory:
        build, prefix = Path(directory, 'build'), Path(directory, 'prefix')
        tool('meson', 'setup', f'--prefix={prefix}', '-Dtests=false',
             '-Dbench=false', '-Dexamples=false', str(build), str(SOURCE))
        tool('meson', 'install', '-C', str(build))
        installed = Installed(prefix)
        pages = {page.name for page in prefix.rglob('man/man?/*')}
        assert pages == {page.name for page in
                         (SOURCE / 'docs' / 'man').iterdir()}, pages
        version = tool(str(prefix / 'bin' / 'shmctl'), '--version',
                       env=installed.environment)
        assert version.startswith('shmctl'), version
        check_hello_alone(installed)
        check_readme(installed)


if __name__ == '__main__':
    sys.exit(run_tests())
