#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each public header compiles alone, twice in one file, as C11 and as C++.

    tests/headers.py
    tests/headers.py --library build/libpeal.so

With --library, programs in C and in C++ that include all of them link instead,
call peal_version(), and find every function that the headers declare.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tidy
from tap import Tap

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / 'include'
STRICT = ('-pedantic-errors', '-Wall', '-Wextra', '-Wshadow', '-Werror')
# No -D_GNU_SOURCE and no gnu dialect: a stranger's program may have neither.
LANGUAGES = (
    ('gcc', 'c', 'c11'), ('clang', 'c', 'c11'),
    ('g++', 'c++', 'c++11'), ('clang++', 'c++', 'c++11'),
    ('g++', 'c++', 'c++17'), ('clang++', 'c++', 'c++17'),
)
# What the guide says of C++ is said of these as well.
NEWEST = (('g++', 'c++', 'c++20'), ('clang++', 'c++', 'c++20'))
CPP_BLOCK = re.compile(r'^```cpp\n(.*?)^```$', re.MULTILINE | re.DOTALL)
# Each _INIT, as C++ takes it.
INITS = '''
#include <peal.h>
int main()
{
	peal_shm_options shm = PEAL_SHM_OPTIONS_INIT;
	peal_consumer_options consumer = PEAL_CONSUMER_OPTIONS_INIT;
	peal_producer_options producer = PEAL_PRODUCER_OPTIONS_INIT;
	peal_reactor_options reactor = PEAL_REACTOR_OPTIONS_INIT;
	peal_client_options client = PEAL_CLIENT_OPTIONS_INIT;

	return shm.size + consumer.size + producer.size + reactor.size +
	       client.size == 0;
}
'''

PROGRAM = '''
typedef void (*function)(void);
static const function functions[] = {{
{functions}
}};

int main(void)
{{
	char version[32];

	snprintf(version, sizeof(version), "%d.%d.%d", PEAL_VERSION_MAJOR,
		 PEAL_VERSION_MINOR, PEAL_VERSION_PATCH);
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (functions[i] == 0)
			return 2;
	return strcmp(version, peal_version()) != 0;
}}
'''


def compiler(language, *arguments, code):
    """Feed @code to a compiler; '' or what it has to say."""
    name, kind, standard = language
    done = subprocess.run(
        [name, f'-x{kind}', f'-std={standard}', *STRICT, f'-I{INCLUDE}', '-',
         *arguments], input=code, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout if done.returncode else ''


def include(header):
    """The line that includes it."""
    return f'#include <{header.relative_to(INCLUDE).as_posix()}>\n'


def check_alone(tap, header):
    """One header, twice in a file that has nothing else."""
    said = [compiler(language, '-fsyntax-only', code=include(header) * 2)
            for language in LANGUAGES]
    print(''.join(said), end='')
    tap.line(not any(said), f'<{header.relative_to(INCLUDE).as_posix()}> '
             'compiles alone as C11, C++11 and C++17')


def check_together(tap, headers, library, language):
    """All headers in one program that links and runs."""
    functions = sorted(tidy.public_functions(tidy.Tree(ROOT)))
    code = ('#include <stdio.h>\n#include <string.h>\n'
            + ''.join(map(include, headers))
            + PROGRAM.format(functions=',\n'.join(
                f'\t(function){name}' for name in functions)))
    with tempfile.TemporaryDirectory(prefix='peal-headers.') as directory:
        program = Path(directory, 'program')
        said = compiler(language, '-Wno-cast-function-type', '-o', str(program),
                        '-xnone', str(library), code=code)
        if not said:
            done = subprocess.run(
                [program], check=False, env={
                    **os.environ, 'LD_LIBRARY_PATH': str(library.parent)})
            if done.returncode:
                said = f'the program ended with {done.returncode}\n'
    print(said, end='')
    tap.line(not said, f'all headers together link with {language[0]} '
             f'-std={language[2]}')


def check_uninstalled(tap, library):
    """What a program finds by pkg-config in the build directory."""
    place = {**os.environ,
             'PKG_CONFIG_PATH': str(library.parent / 'meson-uninstalled')}
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'peal'],
                           check=True, text=True, env=place,
                           stdout=subprocess.PIPE).stdout.split()
    with tempfile.TemporaryDirectory(prefix='peal-headers.') as directory:
        done = subprocess.run(
            ['gcc', '-xc', '-', '-xnone', *flags, '-o', f'{directory}/program'],
            input='#include <peal.h>\nint main(void) '
            '{ return peal_version() == 0; }\n', check=False, text=True)
    tap.line(done.returncode == 0,
             'a program is built with what is not yet installed')


def check_guide(tap):
    """What docs/guide.md says in C++, and the _INITs that it speaks of."""
    guide = Path(ROOT, 'docs', 'guide.md').read_text(encoding='utf-8')
    blocks = CPP_BLOCK.findall(guide)
    said = [compiler(language, '-fsyntax-only', code=code)
            for language in LANGUAGES + NEWEST if language[1] == 'c++'
            for code in [INITS, *blocks]]
    print(''.join(said), end='')
    tap.line(blocks and not any(said),
             'what the guide says in C++ compiles as C++11, C++17 and C++20')


def main():
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--library', type=Path, help='libpeal.so, to link with')
    options = parser.parse_args()
    headers = sorted(INCLUDE.rglob('*.h'))
    tap = Tap()
    if options.library is None:
        for header in headers:
            check_alone(tap, header)
        check_guide(tap)
    else:
        for language in LANGUAGES:
            check_together(tap, headers, options.library.resolve(), language)
        check_uninstalled(tap, options.library.resolve())
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
