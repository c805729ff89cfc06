#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds what a script can hold of CONTRIBUTING.md.

    tests/tidy.py                         everything that needs no build
    tests/tidy.py --library libpeal.so    and the symbols of the library

Each check is a function check_*(tree) that yields problems; its docstring is
the rule. A problem is printed as "file:line: a sentence saying what to do".
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from ccode import CFile
from tap import Tap

# Who may include whom: a folder, and those that lie below it.
BELOW = {
    'base': (),
    'shm': ('base',),
    'doorbell': ('base',),
    'mpsc': ('shm', 'doorbell', 'base'),
    'reactor': ('mpsc', 'shm', 'doorbell', 'base'),
}
# The layer that each public header belongs to.
PUBLIC = {
    'base.h': 'base', 'shm.h': 'shm', 'doorbell.h': 'doorbell',
    'ring.h': 'mpsc', 'mpsc.h': 'mpsc', 'observer.h': 'mpsc',
    'reactor.h': 'reactor', 'client.h': 'reactor',
}
# They use peal as a stranger would: installed headers only.
STRANGERS = ('tools', 'examples', 'bench')
LIBRARY = tuple(BELOW) + ('include',)

# What only one file may do: a pattern of code, the files, the reason.
# What reads the words of peers, and the files with atomic words that are ours.
ACCESSOR = 'include/peal/base.h'
NO_PEERS_WORDS = (
    'base/*.[ch]', 'mpsc/admission.c', 'mpsc/drain.c', 'mpsc/grant.c',
    'reactor/client.c', 'reactor/client_wait.c', 'reactor/completions.c',
    'reactor/open.c', 'reactor/run.c', 'reactor/self.c',
)
OWNED = (
    (r'\bSYS_futex\w*|\bFUTEX_(?!OWNER_DIED|WAITERS|TID_MASK)[A-Z_]+',
     ('doorbell/futex.h',), 'calls futex(2)'),
    (r'\b(numa|mbind|set_mempolicy)_?\w*(?=\s*\()', ('shm/numa.c',),
     'places memory on nodes'),
    (r'\baccept4?(?=\s*\()', ('mpsc/admission*.c',), 'accepts connections'),
    (r'\bm(un|re)?map(?=\s*\()', ('shm/*.c',), 'maps memory'),
    (r'\b__atomic_load_n\b', (ACCESSOR, *NO_PEERS_WORDS),
     'loads what no peer can write; other words are read by peal__load() '
     'or peal__read_once()'),
)
OWNED_INCLUDES = (
    (r'numa(if)?\.h', ('shm/numa.c',)),
    (r'linux/futex\.h', ('doorbell/futex.h', 'doorbell/lifeline.h')),
    (r'urcu.*', ('reactor/completions.c',)),
)
# What works on memory that it is handed.
NEVER_ALLOCATES = ('include/*', 'doorbell/*', 'mpsc/ring*')
ALLOCATION = r'\b(malloc|calloc|realloc|aligned_alloc|strdup|free)(?=\s*\()'
FORBIDDEN_CALLS = (
    'printf', 'fprintf', 'vprintf', 'vfprintf', 'dprintf', 'puts', 'fputs',
    'putchar', 'fputc', 'putc', 'fwrite', 'perror', 'psignal', 'syslog',
    'warnx?', 'errx?', 'exit', '_exit', '_Exit', 'quick_exit', 'abort', 'assert',
    'raise', 'signal', 'sigaction',
)

FUNCTION_MAX_LINES = 70
FILE_MAX_LINES = 500
LABEL_REACH_LINES = 3
CONTRACT = ('Callers', 'Ordering', 'Progress', 'Death', 'Wrap', 'Errors',
            'Units', 'Source')
FORMATTER_VERSION = '14'

ORDER = re.compile(r'\b(?:(?:__ATOMIC|memory_order)_(\w+)|PEAL__(ANNOUNCE)\b)')
LABEL = re.compile(r'(?:^|[/*\n])[\s*]*([A-Z]{1,2}\d{1,3}):\s')
LABEL_NAME = re.compile(r'\b[A-Z]{1,2}\d{1,3}\b')
# "pairs with A1 in peal_x() and with A2", and no further.
PARTNERS = re.compile(
    r'pairs with ((?:(?:,? and with|,? and|,)? ?[A-Z]{1,2}\d{1,3}\b'
    r'(?: in \w+(?:\(\))?)?)+)')
EXPORTED = re.compile(r'\bPEAL_API\b[^;{]*?\b(peal_\w+)\s*(?:\(|;|\[)')
INLINE = re.compile(r'\bstatic\s+inline\b[^;{]*?\b(peal_[a-z]\w*)\s*\(')

PACKAGE_HOSTS = re.compile(
    r'https?://[^\s/]*(?:registry|mirror|pypi|npmjs|crates\.io|debian\.org'
    r'|ubuntu\.com|proxy\.golang|rubygems)')
HOME_PATHS = re.compile(r'(?<![\w.])/(?:home|Users)/\w|(?<![\w.])/roo[t]/')
STANDARD_DIRECTORIES = {'/', '/tmp', '/var', '/var/tmp', '/usr/src', '/src'}


class Skip(Exception):
    """This check cannot be done here; the text says why."""


class Tree:
    """The files of the project, read once."""

    def __init__(self, root, library=None):
        self.root = Path(root)
        self.library = library
        self._c_files = {}
        self.paths = sorted(self._walk())

    def _walk(self):
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name != '.git'
                          and name != '__pycache__'
                          and not name.startswith('build')]
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(self.root).as_posix()

    def text(self, path):
        """The text of one file."""
        return (self.root / path).read_text(encoding='utf-8', errors='replace')

    def c_file(self, path):
        """One file as C."""
        if path not in self._c_files:
            self._c_files[path] = CFile(self.text(path))
        return self._c_files[path]

    def c_files(self, folders=None):
        """(path, CFile) of all sources and headers, or those in @folders."""
        for path in self.paths:
            if path.endswith(('.c', '.h')) and (
                    folders is None or path.split('/')[0] in folders):
                yield path, self.c_file(path)

    def is_script(self, path):
        """Does the file begin with #!?"""
        with (self.root / path).open('rb') as file:
            return file.read(2) == b'#!'


# layers ------------------------------------------------------------------

def layer_of(path):
    """The layer that a file of the library belongs to, or None."""
    if path == 'include/peal.h':
        return 'reactor'
    if path.startswith('include/peal/'):
        return PUBLIC.get(Path(path).name)
    return path.split('/')[0] if path.split('/')[0] in BELOW else None


def included_layer(included):
    """The layer that an include leads to, or None for the system's."""
    if included == 'peal.h':
        return 'reactor'
    if included.startswith('peal/'):
        return PUBLIC.get(Path(included).name)
    return included.split('/')[0] if included.split('/')[0] in BELOW else None


def check_layers(tree):
    """A folder includes its own headers and those of the layers below it."""
    for path, file in tree.c_files(LIBRARY):
        layer = layer_of(path)
        if layer is None:
            yield path, 1, 'give this header a layer in PUBLIC of tests/tidy.py'
            continue
        public = path.startswith('include/')
        for line, bracket, included in file.includes():
            target = included_layer(included)
            if target is None and bracket == '"':
                yield (path, line, f'include "{included}" with its folder, '
                       f'as "{layer}/{Path(included).name}"')
            elif target is not None and target != layer and \
                    target not in BELOW[layer]:
                yield (path, line, f'{layer} is below {target}: move what it '
                       f'needs from {included} down, or this up')
            elif public and target is not None and \
                    not included.startswith('peal'):
                yield (path, line, f'a public header may not need {included}, '
                       'which is not installed')


def check_strangers(tree):
    """Tools, examples and benchmarks use the installed headers only."""
    for path, file in tree.c_files(STRANGERS):
        for line, _, included in file.includes():
            if included.split('/')[0] in (*BELOW, '..'):
                yield (path, line, f'use <peal/...> instead of {included}: '
                       'nothing here may know the inside of the library')
        for line, match in file.find(r'\bpeal__\w+|\bPEAL__\w+'):
            yield (path, line, f'{match.group()} is private: use what '
                   'include/peal offers')


def check_owners(tree):
    """One file has one subject: what only it may call or include."""
    for path, file in tree.c_files(LIBRARY):
        for pattern, owners, what in OWNED:
            if any(fnmatchcase(path, owner) for owner in owners):
                continue
            for line, match in file.find(pattern):
                yield (path, line, f'{match.group()}: only '
                       f'{" or ".join(owners)} {what}')
        for line, _, included in file.includes():
            for pattern, owners in OWNED_INCLUDES:
                if re.fullmatch(pattern, included) and not any(
                        fnmatchcase(path, owner) for owner in owners):
                    yield (path, line, f'only {" or ".join(owners)} '
                           f'includes <{included}>')


def check_allocation(tree):
    """Rings and doorbells work on memory that they are handed."""
    for path, file in tree.c_files(LIBRARY):
        if any(fnmatchcase(path, place) for place in NEVER_ALLOCATES):
            for line, match in file.find(ALLOCATION):
                yield (path, line, f'{match.group()}(): let the caller bring '
                       'the memory')


# ordering ----------------------------------------------------------------

def labels_of(comment):
    """The labels that a comment defines, each with its partners."""
    found = list(LABEL.finditer(comment.text))
    for here, after in zip(found, found[1:] + [None]):
        text = comment.text[here.end():after.start() if after else None]
        text = re.sub(r'[\s*]+', ' ', text)
        partners = {name for part in PARTNERS.findall(text)
                    for name in LABEL_NAME.findall(part)}
        yield here.group(1), partners


def ordered_accesses(file):
    """(call, orders) of every explicit atomic access."""
    for call in file.calls(r'__atomic_(?!always|is_lock)\w+|atomic_\w+_explicit'
                           r'|peal__load'):
        yield call, {(order or announce).upper()
                     for order, announce in ORDER.findall(call.arguments)}


def check_relaxed(tree):
    """A relaxed access says why it may be; a run of them says it once."""
    for path, file in tree.c_files(LIBRARY):
        explained = -LABEL_REACH_LINES
        for call, orders in ordered_accesses(file):
            if orders != {'RELAXED'} or path == 'base/read.h':
                continue
            if call.first - explained <= LABEL_REACH_LINES or any(
                    'elaxed' in comment.text for comment in
                    file.comments_near(call.first, call.last,
                                       LABEL_REACH_LINES)):
                explained = call.last
            else:
                yield (path, call.first, 'say in a comment why this may be '
                       'relaxed ("Relaxed: ..."), or use peal__read_once()')


def check_labels(tree):
    """Every ordered access has a label that names its partner."""
    for path, file in tree.c_files(LIBRARY):
        for call, orders in ordered_accesses(file):
            if 'fence' in call.name or orders == {'RELAXED'}:
                continue
            # The definition of peal__load() has its order from who loads.
            if not orders and path == ACCESSOR:
                continue
            near = file.comments_near(call.first, call.last, LABEL_REACH_LINES)
            if not orders:
                yield (path, call.first, f'write the order of this {call.name} '
                       'here, so that it can be checked')
            elif not any(True for comment in near
                         for _ in labels_of(comment)):
                yield (path, call.first, 'label this access and name its '
                       'partner: /* A1: pairs with R1 in peal_x(). */')


def check_implicit_order(tree):
    """Only atomics with an explicit order, and no fence."""
    for path, file in tree.c_files(LIBRARY):
        for line, match in file.find(
                r'\b(__atomic_thread_fence|__atomic_signal_fence'
                r'|atomic_thread_fence|atomic_signal_fence)\b'):
            yield (path, line, f'{match.group()}: let an access carry the order')
        for line, match in file.find(
                r'\b__sync_\w+|\batomic_(?!\w*_explicit)(?:load|store|exchange'
                r'|fetch_\w+|compare_exchange_\w+|flag_\w+)\b|\b_Atomic\b'
                r'|\batomic_(?:bool|u?(?:char|short|int|long|llong)|u?int\w*_t'
                r'|u?intptr_t|size_t)\b'):
            yield (path, line, f'{match.group()} hides its order: use the '
                   '__atomic builtins with one')


def check_label_pairs(tree):
    """Labels are unique, their partners exist and name them back."""
    labels = {}
    for path, file in tree.c_files(LIBRARY):
        for comment in file.comments:
            for label, partners in labels_of(comment):
                where, known = labels.setdefault(
                    label, ((path, comment.first), set()))
                known |= partners
                if where[0] != path:
                    yield (path, comment.first, f'label {label} is already '
                           f'used in {where[0]}: choose a free number')
    for label, ((path, line), partners) in labels.items():
        if not partners:
            yield (path, line, f'say what {label} "pairs with"')
        for partner in sorted(partners):
            if partner not in labels:
                yield (path, line, f'{label} pairs with {partner}, '
                       'which is nowhere in the code')
            elif label not in labels[partner][1]:
                yield (path, line, f'{label} pairs with {partner}, but '
                       f'{partner} does not name {label}')
    yield from compare_with_document(tree, labels)


def compare_with_document(tree, labels):
    """docs/ordering.md has one row for every label, with what the code says."""
    document = 'docs/ordering.md'
    rows = {}
    if document in tree.paths:
        names = {name for _, file in tree.c_files(LIBRARY)
                 for name in re.findall(r'\w+', file.code)}
        for number, line in enumerate(tree.text(document).splitlines(), 1):
            cells = line.split('|')
            if len(cells) != 7 or not LABEL_NAME.fullmatch(cells[1].strip()):
                continue
            label = cells[1].strip()
            if label in rows:
                yield document, number, f'{label} has a row already'
            rows.setdefault(label, number)
            for name in re.findall(r'`(\w+)`', cells[2]):
                if name not in names:
                    yield document, number, f'{name} is nowhere in the code'
            partners = labels.get(label, (None, None))[1]
            if partners and partners != set(LABEL_NAME.findall(cells[4])):
                yield (document, number, f'in the code {label} pairs with '
                       f'{", ".join(sorted(partners))}')
    for label, ((path, line), _) in labels.items():
        if label not in rows:
            yield (path, line, f'add a row for {label} to {document}')
    for label, number in rows.items():
        if label not in labels:
            yield document, number, f'{label} is nowhere in the code'


# interface ---------------------------------------------------------------

def declared(tree, pattern):
    """{symbol: (path, line)} of what the public headers declare."""
    return {match.group(1): (path, line)
            for path, file in tree.c_files(('include',))
            for line, match in file.find(pattern)}


def public_functions(tree):
    """What a user may call: exported or inline, and not private."""
    names = {**declared(tree, EXPORTED), **declared(tree, INLINE)}
    return {name: where for name, where in names.items()
            if not name.startswith('peal__')}


def check_symbols(tree):
    """The library exports what the headers declare, and nothing else."""
    if tree.library is None:
        raise Skip('no --library was given')
    text = subprocess.run(['nm', '-D', '--defined-only', tree.library],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    exported = {line.split()[-1].split('@')[0] for line in text.splitlines()
                if len(line.split()) == 3 and line.split()[1] != 'A'}
    promised = declared(tree, EXPORTED)
    library = Path(tree.library).name
    for name in sorted(exported - promised.keys()):
        yield (library, 0, f'{name} is exported, but not declared PEAL_API '
               'in include/peal')
    for name in sorted(promised.keys() - exported):
        yield (*promised[name], f'{name} is declared PEAL_API, but {library} '
               'does not have it')


def names_in_symbols(kind, library):
    """What nm finds in the table of a shared library, without versions."""
    text = subprocess.run(['nm', '-D', kind, library], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return {line.split()[-1].split('@')[0] for line in text.splitlines()}


def check_wrapped(tree):
    """Each call of the library can be made to fail, or a reason says why not."""
    if tree.library is None:
        raise Skip('no --library was given')
    source, listed = 'tests/fault/fault.c', 'tests/fault/unwrapped.toml'
    written = set(re.findall(r'\b__wrap_(?!##)(\w+)', tree.text(source))) | set(
        re.findall(r'^WRAP(?:_ALLOCATOR)?\((?:[\w *]+,\s*)?(\w+),\s*\(',
                   tree.text(source), re.M))
    linked = set(re.findall(r"'(\w+)'", re.search(
        r'foreach name : \[(.*?)\]\n', tree.text('tests/meson.build'),
        re.S)[1]))
    excused = {name for row in tomllib.loads(tree.text(listed))['unwrapped']
               if row['why'] for name in row['calls']}
    called = names_in_symbols('--undefined-only', tree.library)
    for name in sorted(written - linked):
        yield 'tests/meson.build', 1, f'wrap {name}, as {source} does'
    for name in sorted(excused & linked):
        yield listed, 1, f'{name} has a wrapper'
    for name in sorted(called - linked - excused):
        yield (source, 1, f'the library calls {name}(): let it fail here, or '
               f'say in {listed} why it cannot')


def check_manual_names(tree):
    """Every public function is in a man page."""
    pages = [path for path in tree.paths if path.startswith('docs/man/')]
    words = {word for path in pages
             for word in re.findall(r'\bpeal_\w+', tree.text(path))}
    for name, (path, line) in sorted(public_functions(tree).items()):
        if name not in words:
            yield path, line, f'describe {name}() in a page of docs/man'


def check_manual_pages(tree):
    """mandoc finds nothing to warn about in a man page."""
    pages = [path for path in tree.paths
             if re.fullmatch(r'docs/man/.*\.\d', path)]
    if shutil.which('mandoc') is None:
        raise Skip('mandoc is not installed')
    if not pages:
        return
    done = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', *pages],
                          cwd=tree.root, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in done.stdout.splitlines():
        match = re.match(r'mandoc: ([^:]+):(\d+):(?:\d+:)? (.*)', line)
        yield (match[1], int(match[2]), match[3]) if match else ('docs', 0, line)


def check_header_contracts(tree):
    """A header begins with its contract, paragraphs in one order."""
    for path, file in tree.c_files(LIBRARY):
        if not path.endswith('.h') or path == 'include/peal.h':
            continue
        found = re.findall(rf'^ \* ({"|".join(CONTRACT)}):',
                           file.opening_comment(), re.M)
        if 'Callers' not in found:
            yield (path, 2, 'begin with a comment that says what this is for '
                   'and has a paragraph "Callers:"')
        if found != sorted(found, key=CONTRACT.index):
            yield (path, 2, 'bring the paragraphs of the contract into the '
                   f'order {", ".join(CONTRACT)}')


# text --------------------------------------------------------------------

def check_licence(tree):
    """Every source file says SPDX-License-Identifier: MIT at its top."""
    for path in tree.paths:
        if path.endswith(('.c', '.h', '.cpp', '.py', '.sh', '.toml')) or \
                tree.is_script(path):
            top = '\n'.join(tree.text(path).splitlines()[:2])
            if 'SPDX-License-Identifier: MIT' not in top:
                yield (path, 1, 'begin with the line '
                       'SPDX-License-Identifier: MIT in a comment')


def check_lengths(tree):
    """No function is longer than 70 lines, no file of the library than 500."""
    for path, file in tree.c_files():
        for first, count in file.functions():
            if count > FUNCTION_MAX_LINES:
                yield path, first, f'split this function of {count} lines'
        if file.line_count() > FILE_MAX_LINES and not path.startswith('tests/'):
            yield path, 1, f'split this file of {file.line_count()} lines'
    for path in tree.paths:
        if path.endswith('.py'):
            for node in ast.walk(ast.parse(tree.text(path))):
                if isinstance(node, ast.FunctionDef) and \
                        node.end_lineno - node.lineno >= FUNCTION_MAX_LINES:
                    yield path, node.lineno, f'split {node.name}()'


def check_tests_listed(tree):
    """Every C file of the tests is built: tests/meson.build names it."""
    listed = 'tests/meson.build'
    rows = tree.text(listed) if listed in tree.paths else ''
    for path, _ in tree.c_files(('tests',)):
        if path.endswith('.c') and path.removeprefix('tests/') not in rows:
            yield path, 1, f'add a row for it to {listed}'


def sources_of_tests(tree):
    """{name of a test: its source}, as the files of meson list them."""
    sources = {}
    for path in tree.paths:
        if re.fullmatch(r'tests/(.*/)?meson\.build', path):
            folder = path.removesuffix('meson.build')
            for name, rest in re.findall(r"\[+'(\w+)',(.*(?:\n +\[files.*)?)",
                                         tree.text(path)):
                source = re.search(r"'([^'\s]*\.(?:c|py))'", rest)
                sources[name] = folder + source[1] if source else ''
    return sources


def mutants_of(tree):
    """[(where, name, its checks)] of every mutant."""
    for path in tree.paths:
        if re.fullmatch(r'tests/(.*/)?mutants\.toml', path):
            for row in tomllib.loads(tree.text(path)).get('mutant', []):
                yield path, row['name'], row.get('checks', ['fuzz'])


def plain(check):
    """A check that runs in either mode has one sentence."""
    return re.sub('_in_(futex|fd)_mode$', '', check)


def is_check(tree, source, check):
    """Is there such a check in the program of @source?"""
    return source in tree.paths and re.search(
        rf'\b{re.escape(plain(check))}\b', tree.text(source))


def check_reliability(tree):
    """docs/reliability.md names every mutant beside a check of it, no promise twice."""
    document = 'docs/reliability.md'
    if document not in tree.paths:
        return
    sources, mutants = sources_of_tests(tree), {}
    for path, name, checks in mutants_of(tree):
        # Two tables may break the same: a check of either will do.
        mutants.setdefault(name, set()).update(map(plain, checks))
        for program, _, check in (check.partition(': ') for check in checks):
            if program not in sources:
                yield path, 1, f'{name}: there is no test {program}'
            elif check and not is_check(tree, sources[program], check):
                yield path, 1, f'{name}: {program} has no check {check}'
    named, promises = set(), set()
    for number, line in enumerate(tree.text(document).splitlines(), 1):
        cells = line.split('|')
        if len(cells) != 6 or cells[1].strip() in ('promise', '---'):
            continue
        if cells[1] in promises:
            yield document, number, 'this promise has a row already'
        promises.add(cells[1])
        found = set(re.findall('`([^`]+)`', cells[3]))
        checks = set(map(plain, re.findall('`([^`]+)`', cells[2])))
        named |= found
        for name in sorted(found):
            noticed = mutants.get(name)
            if noticed is None:
                yield document, number, f'there is no mutant {name}'
            # A program stands for all of its checks.
            elif not checks & (noticed | {check.split(': ')[0] for check in noticed}):
                yield document, number, (f'no check of this row notices {name}, '
                                         f'but {", ".join(sorted(noticed))} does')
        for name in sorted(checks):
            program, _, check = name.partition(': ')
            if program not in sources:
                yield document, number, f'there is no test {program}'
            elif check and not is_check(tree, sources[program], check):
                yield document, number, f'{program} has no check {check}'
    for name in sorted(mutants.keys() - named):
        yield document, 1, f'add the mutant {name} to a row'


def check_format(tree):
    """All C is as clang-format 14 writes it."""
    formatter = shutil.which(f'clang-format-{FORMATTER_VERSION}') or \
        shutil.which('clang-format')
    if formatter is None:
        raise Skip('clang-format is not installed')
    version = subprocess.run([formatter, '--version'], check=True, text=True,
                             stdout=subprocess.PIPE).stdout.strip()
    if f'version {FORMATTER_VERSION}.' not in version:
        raise Skip(f'it takes version {FORMATTER_VERSION}, this is {version}')
    files = [path for path, _ in tree.c_files()]
    if not files:
        return
    done = subprocess.run([formatter, '--dry-run', *files], cwd=tree.root,
                          check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    reported = set()
    for match in re.finditer(r'^([^\s:]+):(\d+):\d+: (?:warning|error)',
                             done.stdout, re.M):
        if match[1] not in reported:
            reported.add(match[1])
            yield match[1], int(match[2]), f'run clang-format -i {match[1]}'


def check_manners(tree):
    """The library never prints, exits, sets errno or handles a signal."""
    calls = '|'.join(FORBIDDEN_CALLS)
    for path, file in tree.c_files(LIBRARY):
        for line, match in file.find(rf'(?<![\w.>])({calls})(?=\s*\()'):
            yield (path, line, f'{match.group()}(): a library leaves this to '
                   'the program')
        for line, match in file.find(r'\berrno\s*=(?!=|\s*saved_)'):
            yield path, line, 'return -errno; errno itself belongs to the caller'


# Where somebody can be killed, and the table of who is.
HOOK = re.compile(r'\bPEAL__HOOK\(\s*"([^"]*)"')
HOOKS_TABLE = 'tests/death/places.h'
HOOKS_ROW = re.compile(r'^\t\{"([^"]*)",\s*(?:DIES_\w+[\s|]*)+\},?$', re.M)


def check_hooks(tree):
    """A place has a name of its own, and a row that says who is killed there."""
    places = {}
    for path in tree.paths:
        if path.split('/')[0] not in LIBRARY or not path.endswith(('.c', '.h')):
            continue
        text = tree.text(path)
        for match in HOOK.finditer(text):
            line = text.count('\n', 0, match.start()) + 1
            if match[1] in places:
                yield path, line, (f"another place is called '{match[1]}': "
                                   'give this one a name of its own')
            places.setdefault(match[1], (path, line))
    table = tree.text(HOOKS_TABLE) if HOOKS_TABLE in tree.paths else ''
    rows = {}
    for match in HOOKS_ROW.finditer(table):
        rows.setdefault(match[1], table.count('\n', 0, match.start()) + 1)
    for name in places.keys() - rows.keys():
        yield *places[name], (f"nobody is killed at '{name}': give it a row in "
                              f'{HOOKS_TABLE}')
    for name in rows.keys() - places.keys():
        yield HOOKS_TABLE, rows[name], f"take out '{name}', there is no such place"


def check_places(tree):
    """No path of one machine, no address of a package registry."""
    mine = [str(path) for path in (tree.root.resolve(),
                                   tree.root.resolve().parent)
            if str(path) not in STANDARD_DIRECTORIES]
    for path in tree.paths:
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            if HOME_PATHS.search(line) or any(
                    re.search(rf'(?<![\w.]){re.escape(place)}/', line)
                    for place in mine):
                yield path, number, 'take out this path of one machine'
            if PACKAGE_HOSTS.search(line):
                yield path, number, 'take out this address of a registry'


# program -----------------------------------------------------------------

CHECKS = (
    check_layers, check_strangers, check_owners, check_allocation, check_relaxed,
    check_labels,
    check_implicit_order, check_label_pairs, check_symbols, check_wrapped,
    check_manual_names,
    check_manual_pages, check_header_contracts, check_licence, check_lengths,
    check_tests_listed, check_reliability, check_format, check_manners, check_hooks,
    check_places,
)


def run_check(check, tree, tap):
    """Run one check and print what it finds."""
    name = f'{check.__name__[6:]}: {check.__doc__.splitlines()[0].rstrip(".")}'
    try:
        problems = list(check(tree))
    except Skip as skip:
        tap.skip(name, skip)
        return
    for path, line, sentence in problems:
        print(f'{path}:{line}: {sentence}')
    tap.line(not problems, name)


def main():
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--library', help='libpeal.so, for the symbol check')
    parser.add_argument('--root', default=Path(__file__).resolve().parent.parent,
                        help='another tree than the one this file is in')
    parser.add_argument('--only', metavar='CHECK', action='append',
                        help='one check, without check_; may be repeated')
    options = parser.parse_args()
    tree = Tree(options.root, options.library)
    tap = Tap()
    for check in CHECKS:
        if not options.only or check.__name__[6:] in options.only:
            run_check(check, tree, tap)
    for path, file in tree.c_files(('tests',)):
        if file.line_count() > FILE_MAX_LINES:
            print(f'# {path}:1: {file.line_count()} lines; a second file?')
    return tap.close()


if __name__ == '__main__':
    sys.exit(main())
