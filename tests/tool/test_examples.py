#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples do what they say, and an installed copy of peal is all they need.

    test_examples.py SOURCE_DIRECTORY EXAMPLE_PROGRAM...
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# pylint: disable=wrong-import-position
from place import place_of
from tap import run_tests, test

SOURCE = Path(sys.argv[1]).resolve()
PROGRAMS = {Path(path).name: str(Path(path).resolve()) for path in sys.argv[2:]}
SOURCES = sorted((SOURCE / 'examples').glob('*.c'))
LINES_MAX = 79
# Code without the comment that a program begins with; for some it is a promise.
CODE_LINES_MAX = {'echo_client': 25, 'echo_server': 25, 'embed_epoll': 119,
                  'embed_io_uring': 119, 'embed_libuv': 119}
# They are built where a library is there.
OPTIONAL = {'embed_io_uring', 'embed_libuv'}
LICENCE = (SOURCE / 'LICENSE').read_text(encoding='utf-8')


def place():
    """A Place that knows the examples."""
    return place_of(PROGRAMS)


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
def every_example_is_short():
    names = {source.stem for source in SOURCES}
    assert names - OPTIONAL <= set(PROGRAMS) <= names, PROGRAMS
    for source in SOURCES:
        text = source.read_text(encoding='utf-8')
        count, most = len(text.splitlines()), LINES_MAX
        if source.stem in CODE_LINES_MAX:
            code = text[text.index('#include'):].splitlines()
            count = sum(line.strip() != '' for line in code)
            most = CODE_LINES_MAX[source.stem]
        assert count <= most, f'{source.name} has {count} lines'


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
            (0, '1600000 of 1600000 numbers came, each in its turn\n', '')
        assert list(here.directory.iterdir()) == [], 'files are left'


@test
def batch_says_why_its_name_cannot_be_opened():
    with place() as here:
        (here.directory / 'batch').mkdir()
        code, out, err = here.run('batch')
        assert code == 1, (code, out, err)
        assert out == '0 of 1600000 numbers came, each in its turn\n', out
        assert 'batch exists and is not a socket' in err, err


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


@test
def echo_client_prints_what_echo_server_answers():
    with place() as here:
        here.start_server('echo', 'echo_server')
        assert here.run('echo_client', 'one', '', 'two words') == \
            (0, 'one\n\ntwo words\n', '')
        long = 'x' * 50000
        clients = [here.start('echo_client', *[f'{i} {long}'] * 2)
                   for i in range(4)]
        for i, client in enumerate(clients):
            assert here.finish(client) == (0, f'{i} {long}\n' * 2, '')


@test
def echo_client_without_a_server_says_so():
    with place() as here:
        code, out, err = here.run('echo_client', 'one')
        assert (code, out) == (1, ''), out
        assert err.startswith("echo_client: no server has the name 'echo'"), err


def ask_status(path):
    """What an embed_* program says on the socket of its own."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return client.recv(100).decode()


def check_embed(program):
    """A reactor, a timer and a socket are served by one loop of one thread."""
    with place() as here:
        status = here.directory / 'status'
        server = here.start_server('echo', program, str(status))
        time.sleep(0.35)
        calls = [f'call {i}' for i in range(100)]
        out = '\n'.join(calls) + '\n'
        assert here.run('echo_client', *calls) == (0, out, '')
        clients = [here.start('echo_client', *calls) for _ in range(3)]
        for client in clients:
            assert here.finish(client) == (0, out, '')
        said = re.fullmatch(r'(\d+) calls, (\d+) ticks\n', ask_status(status))
        assert int(said[1]) == 400 and int(said[2]) >= 3, said[0]
        threads = list(Path(f'/proc/{server.pid}/task').iterdir())
        assert len(threads) == 1, 'it has more threads than its own'
        check_sleeps(server)
        check_refusals(here, program)
        assert here.stop(server) == (0, '', '')
        assert list(here.directory.iterdir()) == [], 'files are left'
    check_interrupt(program)


def check_refusals(here, program):
    """A name or a socket that is taken is told, and nothing is left of it."""
    code, out, err = here.run(program, str(here.directory / 'other'))
    assert (code, out) == (1, '') and 'already has the name' in err, err
    assert not (here.directory / 'other').exists(), 'its socket is left'
    with place() as there:
        status = there.directory / 'status'
        status.touch()
        code, out, err = there.run(program, str(status))
        assert (code, out) == (1, '') and 'already in use' in err, err
        assert list(there.directory.iterdir()) == [status], 'files are left'


def check_interrupt(program):
    """Ctrl-C ends it as SIGTERM does."""
    with place() as here:
        server = here.start_server('echo', program,
                                   str(here.directory / 'status'))
        assert here.run('echo_client', 'ready?') == (0, 'ready?\n', '')
        server.send_signal(signal.SIGINT)
        assert here.finish(server) == (0, '', '')
        assert list(here.directory.iterdir()) == [], 'files are left'


def check_sleeps(server):
    """With nothing to do it sleeps: no more CPU than the ticks take."""
    def ticks():
        text = Path(f'/proc/{server.pid}/stat').read_text(encoding='utf-8')
        return sum(map(int, text.rsplit(')', 1)[1].split()[11:13]))

    before = ticks()
    time.sleep(0.5)
    used = (ticks() - before) / os.sysconf('SC_CLK_TCK')
    assert used < 0.1, f'it used {used} s of CPU in half an idle second'


@test
def embed_epoll_serves_beside_a_timer_and_a_socket():
    check_embed('embed_epoll')


if 'embed_libuv' in PROGRAMS:
    @test
    def embed_libuv_serves_beside_a_timer_and_a_pipe():
        check_embed('embed_libuv')


if 'embed_io_uring' in PROGRAMS:
    @test
    def embed_io_uring_serves_beside_a_timer_and_a_socket():
        check_embed('embed_io_uring')


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
    """The programs of README.md talk to each other."""
    text = (SOURCE / 'README.md').read_text(encoding='utf-8')
    programs = []
    for i, block in enumerate(re.findall(r'```c\n(.*?)```', text, re.DOTALL)):
        source = installed.prefix / f'readme{i}.c'
        source.write_text(block, encoding='utf-8')
        programs.append(installed.build(source, f'readme{i}'))
        assert len(block.splitlines()) <= 20, 'a program of README.md is long'
    server, client, consumer, producer = programs
    with place() as here:
        here.start_server('greeter', server)
        assert here.run(client) == (0, 'hello\n', '')
    with place() as here:
        server = here.start_server('hello', 'stdbuf', '-oL', consumer)
        assert here.run(producer) == (0, '', '')
        assert server.stdout.readline().startswith('hello from ')


@test
def an_installed_copy_is_all_that_a_program_needs():
    with tempfile.TemporaryDirectory(prefix='peal-') as directory:
        build, prefix = Path(directory, 'build'), Path(directory, 'prefix')
        # It has to be there and to work, not to be fast.
        tool('meson', 'setup', f'--prefix={prefix}', '-Dtests=false',
             '-Dbench=false', '-Dexamples=false', '-Dwhole=false',
             '-Doptimization=0', str(build), str(SOURCE))
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
