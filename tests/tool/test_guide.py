#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What docs/guide.md tells its reader to write compiles, and does what it says.

    test_guide.py SOURCE_DIRECTORY LIBRARY
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tap import run_tests, test  # pylint: disable=wrong-import-position

SOURCE, LIBRARY = (Path(argument).resolve() for argument in sys.argv[1:3])
GUIDE = (SOURCE / 'docs' / 'guide.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'```c\n(.*?)```', GUIDE, re.DOTALL)
PATIENCE_S = 20

# What the functions of the guide leave out.
HEAD = '''#include <errno.h>
#include <peal.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
'''


def compile_text(text, *arguments):
    """Compile C with the tree's headers; it must not even warn."""
    done = subprocess.run(
        [os.environ.get('CC', 'cc'), '-std=gnu11', '-Wall', '-Wextra',
         '-Werror', f'-I{SOURCE / "include"}', '-x', 'c', '-', '-x', 'none',
         *map(str, arguments)],
        input=text, check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def wait_for_name(path):
    """Until the server has opened it."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.is_socket():
        assert time.monotonic() < deadline, f'nobody opened {path}'
        time.sleep(0.005)


@test
def the_functions_compile_one_after_another():
    functions = [block for block in BLOCKS if 'int main(' not in block]
    compile_text(HEAD + ''.join(functions), '-fsyntax-only')


@test
def the_server_and_the_client_print_what_the_guide_shows():
    programs = [block for block in BLOCKS if 'int main(' in block]
    with tempfile.TemporaryDirectory(prefix='peal-', dir='/tmp') as scratch:
        built = [Path(scratch, f'program{i}') for i in range(len(programs))]
        for text, program in zip(programs, built):
            compile_text(text, LIBRARY, f'-Wl,-rpath,{LIBRARY.parent}', '-o',
                         program)
        server, client = map(str, built)
        environment = {**os.environ, 'PEAL_RUNTIME_DIR': scratch}
        with subprocess.Popen([server], env=environment) as process:
            try:
                wait_for_name(Path(scratch, 'shout'))
                done = subprocess.run(
                    [client, 'hello', 'world'], env=environment, check=True,
                    text=True, stdout=subprocess.PIPE, timeout=PATIENCE_S)
            finally:
                process.kill()
        assert done.stdout == 'HELLO\nWORLD\n', done.stdout
        assert '    HELLO\n    WORLD\n' in GUIDE


if __name__ == '__main__':
    sys.exit(run_tests())
