#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kv keeps what it was given, apart in its forks, whoever writes meanwhile.

    test_kv.py KV ECHO_CLIENT
"""

import select
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# pylint: disable=wrong-import-position
from place import place_of
from tap import run_tests, test

PROGRAMS = {'kv': str(Path(sys.argv[1]).resolve()),
            'echo_client': str(Path(sys.argv[2]).resolve())}
PATIENCE_S = 20
WORDS = {f'word{i * 7919 % 5000:04}': f'{i * 2654435761 % 2**32:x}'
         for i in range(5000)}
NO_KEY = 'there is no such key'


class Session:
    """A client that is told one line at a time."""

    def __init__(self, here, fork='main'):
        self.process = here.start('kv', 'session', 'kv', '-f', fork)
        self.said = ''

    def tell(self, line):
        """Say a line, and do not wait for the answer."""
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()

    def hear(self):
        """A line that it answers."""
        return self.process.stdout.readline().rstrip('\n')

    def ask(self, line):
        """Say and hear."""
        self.tell(line)
        return self.hear()

    def is_waiting(self):
        """Is there no answer, and for a while?"""
        return not select.select([self.process.stdout], [], [], 0.2)[0]

    def die(self):
        """Without a good-bye."""
        self.process.kill()
        self.process.wait()


def start_server(here, *options):
    """kv serve, over the directory "data"."""
    return here.start_server('kv', 'kv', 'serve', *options,
                             str(here.directory / 'data'), 'kv')


@contextmanager
def served(*options):
    """A place with a server; it must end well."""
    with place_of(PROGRAMS) as here:
        server = start_server(here, *options)
        yield here
        ended = here.stop(server)
        assert ended == (0, '', ''), ended
        names = {path.name for path in here.directory.iterdir()}
        assert names == {'data'}, names


def kv(here, *arguments, text=None):
    """What a subcommand prints; it must succeed."""
    code, out, err = here.run('kv', *arguments, text=text)
    assert (code, err) == (0, ''), err
    return out


def lines_of(words):
    """As load reads them and scan writes them."""
    return ''.join(f'{key}\t{words[key]}\n' for key in sorted(words))


@test
def what_was_loaded_is_read_back():
    with served() as here:
        assert kv(here, 'load', 'kv', text=lines_of(WORDS)) == '5000 pairs\n'
        assert kv(here, 'scan', 'kv') == lines_of(WORDS)
        assert kv(here, 'get', 'kv', 'word0042') == WORDS['word0042'] + '\n'
        some = {key: value for key, value in WORDS.items()
                if key.startswith('word12')}
        assert kv(here, 'scan', 'kv', 'word12') == lines_of(some)
        assert kv(here, 'scan', 'kv', 'x') == ''
        session = Session(here)
        for key, value in WORDS.items():
            assert session.ask(f'get {key}') == value


@test
def values_of_any_size_that_is_allowed_come_back():
    with served() as here:
        values = {f'{size:06}': 'v' * size for size in
                  (0, 1, 511, 4096, 65535, 65536)}
        kv(here, 'load', 'kv', 'main', text=lines_of(values))
        assert kv(here, 'scan', 'kv') == lines_of(values)
        kv(here, 'put', 'kv', 'k' * 511, 'long')
        assert kv(here, 'get', 'kv', 'k' * 511) == 'long\n'


@test
def put_get_delete():
    with served() as here:
        assert kv(here, 'put', 'kv', 'color', 'blue') == ''
        assert kv(here, 'get', 'kv', 'color') == 'blue\n'
        assert kv(here, 'put', 'kv', 'color', 'light green') == ''
        assert kv(here, 'get', 'kv', 'color') == 'light green\n'
        assert kv(here, 'delete', 'kv', 'color') == ''
        assert here.run('kv', 'get', 'kv', 'color') == \
            (1, '', f'kv: {NO_KEY}\n')


@test
def forks_are_independent():
    with served() as here:
        kv(here, 'load', 'kv', text=lines_of(WORDS))
        kv(here, 'fork', 'kv', 'spring')
        kv(here, 'put', 'kv', '-f', 'spring', 'word0000', 'changed')
        kv(here, 'put', 'kv', 'only', 'main')
        kv(here, 'fork', 'kv', 'summer', 'spring')
        assert kv(here, 'forks', 'kv') == 'main\nspring\nsummer\n'
        assert kv(here, 'scan', 'kv') == lines_of({**WORDS, 'only': 'main'})
        for fork in 'spring', 'summer':
            assert kv(here, 'scan', 'kv', '-f', fork) == \
                lines_of({**WORDS, 'word0000': 'changed'})


FORK_RULE = "cannot name a fork: 1 to 64 letters, digits, '-', '_'"
MISTAKES = (
    (('get', 'kv', 'nothing'), NO_KEY),
    (('delete', 'kv', 'nothing'), NO_KEY),
    (('get', 'kv', ''), 'a key has 1 to 511 bytes, not 0'),
    (('put', 'kv', '', 'v'), 'a key has 1 to 511 bytes, not 0'),
    (('put', 'kv', 'k' * 512, 'v'), 'a key has 1 to 511 bytes, not 512'),
    (('scan', 'kv', 'k' * 512), 'a key has 1 to 511 bytes, not 512'),
    (('put', 'kv', 'k', 'v' * 65537),
     'a value has at most 65536 bytes, not 65537'),
    (('get', 'kv', '-f', 'none', 'k'), "there is no fork 'none'"),
    (('load', 'kv', 'none'), "there is no fork 'none'"),
    (('get', 'kv', '-f', 'a/b', 'k'), f"'a/b' {FORK_RULE}"),
    (('fork', 'kv', 'a/b'), f"'a/b' {FORK_RULE}"),
    (('fork', 'kv', '..'), f"'..' {FORK_RULE}"),
    (('fork', 'kv', ''), f"'' {FORK_RULE}"),
    (('fork', 'kv', 'n' * 65), f"'{'n' * 64}' {FORK_RULE}"),
    (('fork', 'kv', 'a\nb'), f"'a?b' {FORK_RULE}"),
    (('fork', 'kv', 'main'), "there is a fork 'main' already"),
    (('fork', 'kv', 'new', 'none'), "there is no fork 'none'"),
)


@test
def each_mistake_has_its_sentence():
    with served() as here:
        for command, sentence in MISTAKES:
            code, out, err = here.run('kv', *command)
            assert (code, out, err) == (1, '', f'kv: {sentence}\n'), err
        assert kv(here, 'scan', 'kv') + kv(here, 'forks', 'kv') == 'main\n'


@test
def who_finds_nobody_hears_where_it_was_looked_for():
    with served() as here:
        code, out, err = here.run('kv', 'get', 'nobody', 'k')
        assert (code, out) == (1, '') and err.startswith(
            f"kv: no server has the name 'nobody' in {here.directory}"), err


@test
def mistakes_in_a_session_have_theirs():
    lines = ('commit', 'abort', 'begin', 'begin', 'fork x', 'fork x main',
             'put x', 'get', 'begin now', 'load')
    with served() as here:
        session = Session(here)
        assert [session.ask(line) for line in lines] == [
            'error: no write is open', 'error: no write is open', 'ok',
            'error: a write is open already',
            *['error: a write is open: commit or abort it first'] * 2,
            'error: this takes other words: put KEY VALUE',
            'error: this takes other words: get KEY',
            'error: this takes other words: begin',
            'error: a session has no such word']
        assert session.ask('abort') == 'ok'
        assert session.ask('fork x main') == 'ok'


@test
def a_load_is_all_or_nothing():
    with served() as here:
        for text, sentence in (
                ('a\t1\nb\n', 'line 2: has no tab'),
                ('a\t1\n\t2\n', 'line 2: a key has 1 to 511 bytes, not 0'),
                (f'a\t1\nb\t{"v" * 65537}\n',
                 'line 2: a value has at most 65536 bytes, not 65537')):
            assert here.run('kv', 'load', 'kv', text=lines_of(WORDS) + text) \
                == (1, '', f'kv: {sentence}\n'.replace('line 2', 'line 5002'))
        assert kv(here, 'scan', 'kv') == ''


@test
def the_33rd_fork_is_refused():
    with served('-n') as here:
        for i in range(31):
            kv(here, 'fork', 'kv', f'fork{i}')
        assert here.run('kv', 'fork', 'kv', 'more') == \
            (1, '', 'kv: there are 32 forks already\n')


@test
def bytes_that_are_no_request_are_told_so():
    with place_of(PROGRAMS) as here:
        here.start_server('echo', 'kv', 'serve', str(here.directory / 'data'),
                          'echo')
        for text in ('', 'x', 'pkv1', 'pkv1' + 'x' * 20, 'pkv1' + 'x' * 30000):
            assert here.run('echo_client', text) == \
                (0, "this is no request of kv's\n", '')


@test
def kv_says_how_it_is_called():
    with place_of(PROGRAMS) as here:
        for command in ((), ('frobnicate',), ('serve',), ('serve', 'd'),
                        ('serve', '-x', 'd', 'n'), ('get',), ('get', 'kv'),
                        ('put', 'kv', 'k'), ('get', 'kv', '-x', 'k'),
                        ('serve', '-w', 'x', 'd', 'n'),
                        ('serve', '-w', '-1', 'd', 'n'),
                        ('serve', '-w', '1025', 'd', 'n'),
                        ('scan', 'kv', 'a', 'b'), ('bench',)):
            code, out, err = here.run('kv', *command)
            assert code == 2 and out == '', command
            name = command[0] if command else 'frobnicate'
            if name == 'frobnicate':
                assert err.startswith('usage: kv serve '), err
                assert err.count('\n') == 10, err
            else:
                assert err.startswith(f'usage: kv {name} '), err
                assert err.count('\n') == 1, err


# open writes -------------------------------------------------------------

@test
def an_open_write_is_seen_by_its_client_alone():
    with served() as here:
        writer, reader = Session(here), Session(here)
        assert writer.ask('put k old') == 'ok'
        assert writer.ask('begin') == 'ok'
        assert writer.ask('put k new') == 'ok'
        assert writer.ask('get k') == 'new'
        assert writer.ask('scan k') == 'k\tnew' and writer.hear() == 'ok'
        assert reader.ask('get k') == 'old'
        assert writer.ask('commit') == 'ok'
        assert reader.ask('get k') == 'new'
        assert writer.ask('begin') == 'ok'
        assert writer.ask('delete k') == 'ok'
        assert writer.ask('get k') == f'error: {NO_KEY}'
        assert writer.ask('abort') == 'ok'
        assert writer.ask('get k') == 'new' == reader.ask('get k')


@test
def writes_to_a_fork_wait_for_its_open_write_and_those_to_others_do_not():
    with served() as here:
        kv(here, 'fork', 'kv', 'other')
        holder, waiter = Session(here), Session(here)
        assert holder.ask('begin') == 'ok'
        waiter.tell('put k waiter')
        assert waiter.is_waiting()
        kv(here, 'put', 'kv', '-f', 'other', 'k', 'at once')
        assert kv(here, 'scan', 'kv') == ''
        assert holder.ask('put k holder') == 'ok'
        assert waiter.is_waiting()
        assert holder.ask('commit') == 'ok'
        assert waiter.hear() == 'ok'
        assert holder.ask('get k') == 'waiter'


@test
def a_mistake_within_an_open_write_undoes_nothing_else():
    with served() as here:
        session = Session(here)
        assert [session.ask(line) for line in
                ('begin', 'put a 1', 'delete nothing', 'put  2', 'put b 2',
                 'commit')] == \
            ['ok', 'ok', f'error: {NO_KEY}',
             'error: a key has 1 to 511 bytes, not 0', 'ok', 'ok']
        assert kv(here, 'scan', 'kv') == 'a\t1\nb\t2\n'


@test
def the_open_write_of_a_client_that_dies_is_undone():
    with served() as here:
        holder, waiters = Session(here), [Session(here) for _ in range(3)]
        assert holder.ask('begin') == 'ok'
        assert holder.ask('put dead 1') == 'ok'
        for i, waiter in enumerate(waiters):
            waiter.tell(f'put k{i} v')
        assert waiters[0].is_waiting()
        waiters[1].die()  # what it asked for is not done any more
        time.sleep(0.3)
        holder.die()
        assert waiters[0].hear() == waiters[2].hear() == 'ok'
        assert kv(here, 'scan', 'kv') == 'k0\tv\nk2\tv\n'


@test
def the_open_write_of_a_client_that_leaves_is_undone():
    with served() as here:
        holder, waiter = Session(here), Session(here)
        assert holder.ask('begin') == 'ok'
        assert holder.ask('put left 1') == 'ok'
        waiter.tell('put k v')
        assert waiter.is_waiting()
        assert here.finish(holder.process) == (0, '', '')
        assert waiter.hear() == 'ok'
        assert kv(here, 'scan', 'kv') == 'k\tv\n'


@test
def clients_that_add_to_one_number_lose_nothing():
    rounds = 50
    with served('-n') as here:
        kv(here, 'put', 'kv', 'sum', '0')
        sessions = [Session(here) for _ in range(4)]
        # Each is at its own place in: begin, get, put, commit.
        places, left = [0] * 4, [rounds] * 4
        for session in sessions:
            session.tell('begin')
        while any(left):
            ready = select.select([session.process.stdout for session, more
                                   in zip(sessions, left) if more], [], [],
                                  PATIENCE_S)[0]
            assert ready, f'nobody goes on: {places} {left}'
            for i, session in enumerate(sessions):
                if session.process.stdout not in ready:
                    continue
                said = session.hear()
                assert said.isdigit() if places[i] == 1 else said == 'ok', said
                places[i] = (places[i] + 1) % 4
                left[i] -= places[i] == 0
                if left[i]:
                    session.tell(('begin', 'get sum',
                                  f'put sum {int(said) + 1}' if places[i] == 2
                                  else '', 'commit')[places[i]])
        assert kv(here, 'get', 'kv', 'sum') == f'{4 * rounds}\n'


def script_of(client):
    """Lines for a session that mixes reads and writes, and its answers."""
    lines, answers, mine = [], [], {}
    for i, (key, value) in enumerate(list(WORDS.items())[:600]):
        lines.append(f'get {key}')
        answers.append(value)
        if i % 3 == 0:
            mine[f'{client}:{i % 40}'] = f'{client}{value}'
            grouped = i % 4 == 0
            lines += ['begin'] * grouped + \
                [f'put {client}:{i % 40} {client}{value}',
                 f'get {client}:{i % 40}'] + ['commit'] * grouped
            answers += ['ok'] * grouped + ['ok', f'{client}{value}'] + \
                ['ok'] * grouped
    return lines, answers, mine


@test
def clients_that_read_and_write_together_see_what_they_wrote():
    with served('-n') as here:
        kv(here, 'load', 'kv', text=lines_of(WORDS))
        expected = dict(WORDS)
        scripts = [script_of(client) for client in 'ABCD']
        running = [here.start('kv', 'session', 'kv') for _ in scripts]
        for process, (lines, _, _) in zip(running, scripts):
            process.stdin.write('\n'.join(lines) + '\n')
            process.stdin.close()
            process.stdin = None
        for process, (_, answers, mine) in zip(running, scripts):
            code, out, err = here.finish(process)
            assert (code, err) == (0, ''), err
            assert out.splitlines() == answers
            expected.update(mine)
        assert kv(here, 'scan', 'kv') == lines_of(expected)


# the server's end --------------------------------------------------------

@test
def what_was_committed_is_there_after_a_new_start():
    with place_of(PROGRAMS) as here:
        server = start_server(here)
        kv(here, 'load', 'kv', text=lines_of(WORDS))
        kv(here, 'fork', 'kv', 'spring')
        holder, waiter = Session(here), Session(here)
        assert holder.ask('begin') == 'ok'
        assert holder.ask('put open 1') == 'ok'
        waiter.tell('put waiting 1')
        assert waiter.is_waiting()
        assert here.stop(server) == (0, '', '')
        # The waiter was told, and not left alone.
        assert waiter.hear() == \
            'error: the server has closed or is shutting down', 'told'
        server = start_server(here)
        for fork in 'main', 'spring':
            assert kv(here, 'scan', 'kv', '-f', fork) == lines_of(WORDS)
        server.kill()
        server.communicate()
        # The dead one has left its name, which the next one takes.
        server = here.start('kv', 'serve', str(here.directory / 'data'), 'kv')
        deadline = time.monotonic() + PATIENCE_S
        while here.run('kv', 'forks', 'kv')[0] != 0:
            assert time.monotonic() < deadline, 'it does not come back'
        assert kv(here, 'scan', 'kv') == lines_of(WORDS)
        assert here.stop(server) == (0, '', '')


@test
def a_copy_that_was_cut_short_is_swept_away():
    with place_of(PROGRAMS) as here:
        half = here.directory / 'data' / '.half'
        half.mkdir(parents=True)
        (half / 'data.mdb').write_text('half', encoding='utf-8')
        server = start_server(here)
        assert not half.exists()
        kv(here, 'fork', 'kv', 'half')
        assert here.stop(server) == (0, '', '')


@test
def a_directory_has_one_server():
    with served() as here:
        data = str(here.directory / 'data')
        assert here.run('kv', 'serve', data, 'other') == \
            (1, '', f'kv: {data}: another server has it\n')
        assert here.run('kv', 'serve', '/dev/null', 'other') == \
            (1, '', 'kv: /dev/null: Not a directory\n')
        code, out, err = here.run(
            'kv', 'serve', str(here.directory / 'more'), 'kv')
        assert (code, out) == (1, '') and 'already has the name' in err, err
        (here.directory / 'more' / 'main' / 'data.mdb').unlink()
        (here.directory / 'more' / 'main' / 'lock.mdb').unlink()
        (here.directory / 'more' / 'main').rmdir()
        (here.directory / 'more').rmdir()


@test
def bench_prints_its_tables_and_leaves_nothing():
    with place_of(PROGRAMS) as here:
        code, out, err = here.run('kv', 'bench', '-s', '-m', '5', 'bench')
        assert (code, err) == (0, ''), err
        rows = [line.split() for line in out.splitlines()
                if line.startswith('    ')
                and line.split()[0].isdigit()]
        assert [tuple(row[:2]) for row in rows] == 2 * [
            ('1', '1'), ('1', '2'), ('1', '4'), ('1', '8'), ('1', '16'),
            ('2', '1'), ('4', '1'), ('7', '1')], out
        assert all(len(row) == 10 for row in rows), out
        assert list(here.directory.iterdir()) == [], 'files are left'


if __name__ == '__main__':
    sys.exit(run_tests())
