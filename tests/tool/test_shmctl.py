#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shmctl as a user calls it, against servers that run, hang, stop and die.

    test_shmctl.py SHMCTL TOOL_SERVER TOOL_PRODUCER TOOL_REACTOR
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tap import run_tests, test  # pylint: disable=wrong-import-position

SHMCTL, TOOL_SERVER, TOOL_PRODUCER, TOOL_REACTOR = sys.argv[1:5]
# What every message is made of: nothing of it may be seen anywhere.
SECRET = 'ThisIsWhatTheClientSaidInPrivate'
PATIENCE_S = 20


class Talker:
    """A program of ours that answers every line with a line."""

    def __init__(self, *arguments):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.answer()

    def answer(self):
        """One line of it."""
        line = self.process.stdout.readline()
        assert line, f'{self.process.args} has ended'
        return line.strip()

    def tell(self, line):
        """Say one line and return the answer."""
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return self.answer()

    def leave(self):
        """Let it end by itself."""
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0

    def signal(self, number):
        """Only ever to a process that we started and have not waited for."""
        self.process.send_signal(number)

    def end(self):
        """Whatever it does, it does it no longer."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        if not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass


@contextmanager
def directory():
    """An empty place for names."""
    with tempfile.TemporaryDirectory(prefix='peal.') as path:
        before = os.environ.get('PEAL_RUNTIME_DIR')
        os.environ['PEAL_RUNTIME_DIR'] = path
        try:
            yield Path(path)
        finally:
            os.environ.pop('PEAL_RUNTIME_DIR', None)
            if before is not None:
                os.environ['PEAL_RUNTIME_DIR'] = before


@contextmanager
def server(name='words', wait_mode='futex'):
    """A server of this name, in a directory of its own."""
    with directory():
        talker = Talker(TOOL_SERVER, name, wait_mode)
        try:
            yield talker
        finally:
            talker.end()


@contextmanager
def producer(name='words', ring_bytes=65536):
    """A producer that is attached."""
    talker = Talker(TOOL_PRODUCER, name, str(ring_bytes))
    try:
        yield talker
    finally:
        talker.end()


def shmctl(*arguments, code=0):
    """(stdout, stderr) of shmctl, which has to end with @code."""
    done = subprocess.run([SHMCTL, *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=PATIENCE_S,
                          check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, f'{arguments}: {done.returncode}: {said}'
    assert SECRET[:8] not in said, said
    assert all(' ' <= byte <= '~' or byte == '\n' for byte in said), said
    return done.stdout, done.stderr


def look(name='words', *arguments):
    """What stat --json says."""
    return json.loads(shmctl('stat', '--json', *arguments, name)[0])


def listed():
    """What list --json says of the servers here, by name."""
    found = json.loads(shmctl('list', '--json')[0])['servers']
    here = os.environ['PEAL_RUNTIME_DIR']
    return {row['name']: row for row in found
            if os.path.dirname(row['path']) == here}


def eventually(condition):
    """Wait until it is true: some counters move a turn later."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, 'it never became true'
        time.sleep(0.01)


# list ------------------------------------------------------------------------

@test
def list_without_servers_says_where_it_looked():
    with directory():
        assert not listed()
        if '/run/peal' not in shmctl('list')[0]:
            assert 'NAME' in shmctl('list')[0]


@test
def list_shows_a_server_and_its_numbers():
    with server() as words, producer() as client:
        assert client.tell('send 10 100') == 'sent 10 full 0'
        eventually(lambda: listed()['words']['message_count'] == 10)
        row = listed()['words']
        assert row['state'] == 'alive' and row['pid'] == words.pid
        assert row['uid'] == os.getuid() and row['client_count'] == 1
        assert row['payload_bytes'] == 1000 and row['error'] is None
        assert 0 < row['age_ns'] < PATIENCE_S * 10**9
        table = shmctl('list')[0].splitlines()
        assert table[0].split()[:4] == ['NAME', 'PID', 'UID', 'STATE']
        line = next(line for line in table if line.startswith('words '))
        assert line.split()[1:7] == [str(words.pid), str(os.getuid()), 'alive',
                                     '1', '10', '1000B']


@test
def list_is_in_the_order_of_names_and_shows_many():
    with server('beta'):
        others = [Talker(TOOL_SERVER, name, 'futex')
                  for name in ('gamma', 'alpha')]
        try:
            assert list(listed()) == ['alpha', 'beta', 'gamma']
        finally:
            for other in others:
                other.end()


@test
def list_shows_what_a_dead_server_left_and_how_to_tidy_up():
    with server() as words:
        words.signal(signal.SIGKILL)
        words.process.wait()
        row = listed()['words']
        assert row['state'] == 'dead' and row['pid'] is None
        assert row['message_count'] is None and 'has died' in row['error']
        text = shmctl('list')[0]
        assert re.search(r'^words +- +\d+ +dead ', text, re.M)
        assert 'harmless' in text and row['path'] in text
        said = shmctl('stat', 'words', code=1)[1]
        assert "no server has the name 'words'" in said, said
        # Elsewhere on this machine there may be another one.
        assert text.count('.lock\n') > 1 or 'A dead server has left' in text
        other = Talker(TOOL_SERVER, 'verbs', 'futex')
        other.signal(signal.SIGKILL)
        other.process.wait()
        other.end()
        text = shmctl('list')[0]
        assert 'Dead servers have left their sockets' in text, text
        assert row['path'] in text and listed()['verbs']['path'] in text
        # The next one takes the name over.
        again = Talker(TOOL_SERVER, 'words', 'futex')
        try:
            assert listed()['words']['pid'] == again.pid
        finally:
            again.end()


@test
def list_does_not_show_a_server_that_closed():
    with server() as words:
        words.leave()
        assert not listed()


@test
def list_shows_a_socket_that_is_not_ours_as_such():
    with directory() as here:
        # A stream socket, as of some other program.
        script = ('import socket, sys; s = socket.socket(socket.AF_UNIX); '
                  's.bind(sys.argv[1]); s.listen(); print(flush=True); '
                  'sys.stdin.read()')
        other = Talker(sys.executable, '-c', script, str(here / 'other'))
        try:
            row = listed()['other']
            assert row['state'] == 'unknown' and row['error'], row
            assert 'other: ' in shmctl('list')[0]
        finally:
            other.end()


# stat ------------------------------------------------------------------------

@test
def stat_shows_the_right_numbers():
    with server() as words, producer(ring_bytes=16384) as client:
        client.tell('send 10 100')
        eventually(lambda: look()['message_count'] == 10)
        seen = look()
        assert seen['name'] == 'words' and seen['pid'] == words.pid
        assert seen['state'] == 'alive' and seen['slot_max'] == 8
        assert seen['client_count'] == 1 and seen['attached_count'] == 1
        assert seen['payload_bytes'] == 1000
        assert seen['looked_ns'] < PATIENCE_S * 10**9
        slot, = seen['slots']
        assert slot['pid'] == client.pid and slot['uid'] == os.getuid()
        assert slot['gid'] == os.getgid() and slot['state'] == 'live'
        assert slot['ring_bytes'] == 16384 and slot['message_count'] == 10
        assert slot['payload_bytes'] == 1000
        assert slot['idle_ns'] <= slot['age_ns'] <= seen['age_ns']
        assert slot['client_says'] == {
            'fill_bytes': 0, 'full_count': 0,
            'blocked_ns': slot['client_says']['blocked_ns']}


@test
def stat_counts_those_who_left_and_died_and_keeps_their_messages():
    with server():
        with producer() as client:
            client.tell('send 3 10')
            client.leave()
        with producer() as client:
            client.tell('send 4 10')
            client.signal(signal.SIGKILL)
            client.process.wait()
        eventually(lambda: look()['client_count'] == 0 and not look()['slots'])
        seen = look()
        assert seen['attached_count'] == 2, seen
        assert seen['detached_count'] == 1 and seen['died_count'] == 1, seen
        assert seen['message_count'] == 7 and seen['payload_bytes'] == 70


@test
def stat_shows_a_dead_producer_whose_messages_are_still_to_be_taken():
    with server() as words, producer() as client:
        words.tell('hold')
        client.tell('send 5 10')
        client.signal(signal.SIGKILL)
        client.process.wait()
        eventually(lambda: look()['slots'][0]['state'] == 'draining')
        seen = look()
        assert seen['died_count'] == 1 and seen['client_count'] == 0, seen
        assert re.search(r' draining ', shmctl('stat', 'words')[0])
        words.tell('peek')
        eventually(lambda: not look()['slots'])
        assert look()['message_count'] == 5


@test
def stat_marks_what_is_the_clients_word():
    with server() as words, producer(ring_bytes=4096) as client:
        words.tell('hold')
        sent, full = map(int, re.findall(r'\d+', client.tell('send 100 1000')))
        assert 0 < sent < 5 and full == 100 - sent
        says = look()['slots'][0]['client_says']
        assert says['full_count'] == full
        assert sent * 1000 < says['fill_bytes'] <= 4096
        text = shmctl('stat', 'words')[0]
        assert '~FILL' in text and '~FULL' in text and '~BLOCKED' in text
        assert "client's own word" in text
        assert 'Slot 0 is nearly full' in text, text


@test
def stat_shows_how_long_a_client_was_blocked():
    with server() as words, producer(ring_bytes=4096) as client:
        words.tell('hold')
        client.tell('block 50')
        says = look()['slots'][0]['client_says']
        assert 40 * 10**6 < says['blocked_ns'] < PATIENCE_S * 10**9, says


@test
def stat_of_a_stuck_server_in_futex_mode_is_fresh():
    with server() as words, producer(ring_bytes=4096) as client:
        words.tell('stuck')
        client.tell('send 100 1000')
        seen = look()
        assert seen['state'] == 'alive'
        assert seen['slots'][0]['client_says']['fill_bytes'] > 1000
        assert seen['slots'][0]['message_count'] == 0


@test
def stat_of_a_stuck_server_in_fd_mode_shows_its_last_numbers():
    with server(wait_mode='fd') as words, producer() as client:
        client.tell('send 5 10')
        eventually(lambda: look()['message_count'] == 5)
        words.tell('stuck')
        seen = look('words', '--timeout', '100')
        assert seen['state'] == 'silent' and seen['pid'] == words.pid
        assert seen['slots'][0]['message_count'] == 5
        text = shmctl('stat', '--timeout', '100', 'words')[0]
        assert 'did not answer within 100ms' in text, text
        assert listed()['words']['state'] == 'silent'
        words.tell('peek')
        assert look()['state'] == 'alive'


@test
def stat_of_a_stopped_server_works_and_says_so():
    with server() as words, producer() as client:
        client.tell('send 5 10')
        eventually(lambda: look()['message_count'] == 5)
        words.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, words.pid, os.WSTOPPED)
        seen = look('words', '--timeout', '50')
        assert seen['state'] == 'stopped' and seen['pid'] == words.pid
        assert seen['slots'][0]['pid'] == client.pid
        assert seen['message_count'] == 5
        assert 'is stopped' in shmctl('stat', '--timeout', '50', 'words')[0]
        assert listed()['words']['state'] == 'stopped'
        words.signal(signal.SIGCONT)
        eventually(lambda: look()['state'] == 'alive')


@test
def stat_takes_the_path_of_a_socket():
    with server():
        path = os.path.join(os.environ['PEAL_RUNTIME_DIR'], 'words')
        del os.environ['PEAL_RUNTIME_DIR']
        assert look(path)['name'] == 'words'
        os.environ['PEAL_RUNTIME_DIR'] = os.path.dirname(path)


@test
def stat_with_an_interval_looks_again_and_tells_the_rate():
    with server(), producer() as client:
        lines = shmctl('stat', '--json', '--interval', '0.05', '--count', '3',
                       'words')[0].splitlines()
        looks = [json.loads(line) for line in lines]
        assert len(looks) == 3
        assert looks[0]['age_ns'] < looks[1]['age_ns'] < looks[2]['age_ns']
        client.tell('send 5 10')
        text = shmctl('stat', '--interval', '0.05', '--count', '2', 'words')[0]
        rows = [line.split() for line in text.splitlines()
                if re.match(r' *0 +\d+ ', line)]
        assert [row[7] for row in rows] == ['-', '0'], text


@test
def stat_with_an_interval_ends_with_its_server():
    with server() as words:
        # pylint: disable=consider-using-with
        watch = subprocess.Popen(
            [SHMCTL, 'stat', '--interval', '0.05', 'words'],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watch.stdout.readline()
        words.signal(signal.SIGKILL)
        words.process.wait()
        out, err = watch.communicate(timeout=PATIENCE_S)
        assert watch.returncode == 1 and 'has gone' in err, (out, err)


# misuse ----------------------------------------------------------------------

@test
def unknown_name_is_one_sentence_and_exit_code_one():
    with directory():
        out, err = shmctl('stat', 'nobody', code=1)
        assert out == '' and err.count('\n') == 1
        assert "no server has the name 'nobody'" in err, err
        assert 'shmctl list' in err
        out, err = shmctl('stat', '--json', 'nobody', code=1)
        assert out == '' and err


@test
def name_that_cannot_be_one_is_exit_code_one_and_printed_plainly():
    with directory():
        for name in ('', 'a b', 'x' * 300, '/' + 'y' * 300, '\x1b[31m', '.x',
                     '%s%n', 'caf\xe9'):
            out, err = shmctl('stat', '--', name, code=1)
            assert out == '' and err.count('\n') == 1, err
            assert 'options.' not in err, err


@test
def misuse_is_exit_code_two_and_says_how_to_go_on():
    for arguments in ((), ('nonsense',), ('stat',), ('stat', 'a', 'b'),
                      ('list', 'a'), ('list', '--nonsense'),
                      ('stat', '--timeout', 'x', 'a'),
                      ('stat', '--timeout', '-1', 'a'),
                      ('stat', '--timeout', '', 'a'),
                      ('stat', '--timeout', 'nan', 'a'),
                      ('stat', '--timeout', '1e9', 'a'), ('stat', '--timeout'),
                      ('stat', '--interval', '0', 'a'),
                      ('stat', '--count', '0', 'a'),
                      ('stat', '--count', '2', 'a'),
                      ('list', '--interval', '1'), ('--nonsense',)):
        out, err = shmctl(*arguments, code=2)
        assert out == '' and '--help' in err, (arguments, out, err)


# reactors --------------------------------------------------------------------

@contextmanager
def reactor():
    """A reactor called words, with a client."""
    with directory():
        talker = Talker(TOOL_REACTOR, 'words')
        try:
            yield talker
        finally:
            talker.end()


def row_of_reactor():
    """What the reactor itself says of its only client."""
    slots = look()['slots']
    return slots[0]['reactor'] if slots else {}


@test
def reactor_tells_what_is_in_flight_and_since_when():
    with reactor() as talker:
        eventually(lambda: row_of_reactor().get('running_count') == 0)
        assert row_of_reactor()['oldest_ns'] is None
        talker.tell('keep')
        eventually(lambda: row_of_reactor()['running_count'] == 1)
        assert row_of_reactor()['parked_cap'] == 0
        time.sleep(0.05)
        assert 50e6 <= row_of_reactor()['oldest_ns'] < PATIENCE_S * 1e9
        talker.tell('keep')
        eventually(lambda: row_of_reactor()['running_count'] == 2)
        whole, row = look()['reactor'], row_of_reactor()
        assert whole['running_count'] == 2 and whole['worker_count'] == 2
        assert whole['answered_count'] == 0 and whole['shown_ns'] is not None
        assert row['parked_cap'] == 1 and row['oldest_ns'] >= 50e6
        out, _ = shmctl('stat', 'words')
        assert '2 running' in out and '0 of 2 busy' in out, out
        check_head(out)
        assert 'as many requests in flight as it may' in out, out
        talker.tell('answer')
        eventually(lambda: row_of_reactor()['running_count'] == 0)
        row = row_of_reactor()
        assert row['parked_cap'] == 0 and row['oldest_ns'] is None
        assert look()['reactor']['answered_count'] == 2
        talker.leave()


@test
def reactor_tells_who_does_not_read():
    with reactor() as talker:
        talker.tell('flood')
        eventually(lambda: row_of_reactor()['parked_unread'] == 1)
        row = row_of_reactor()
        assert row['queued_count'] >= 1 and row['queued_bytes'] >= 2000, row
        assert row['turn'] == 'free' and row['parked_turn'] == 0
        out, _ = shmctl('stat', 'words')
        assert 'does not read its answers' in out and ' unread ' in out, out
        talker.leave()


@test
def plain_consumer_has_no_columns_of_a_reactor():
    with server(), producer():
        assert 'reactor' not in look() and 'reactor' not in look()['slots'][0]
        assert 'PARKED' not in shmctl('stat', 'words')[0]
        check_head(shmctl('stat', 'words')[0])


def check_head(text):
    """The lines before the table begin with words, and with each only once."""
    words = [line.split()[0] for line in text.partition('\n\n')[0].splitlines()]
    assert words[0] == 'server' and 'sleeps' in words, text
    assert len(set(words)) == len(words), text


@test
def count_without_an_interval_says_what_it_needs():
    assert '--count needs --interval' in shmctl('stat', '--count', '2', 'a',
                                                code=2)[1]


@test
def help_and_version_are_fine():
    for arguments in (('--help',), ('-h',), ('list', '--help'),
                      ('stat', '--help'), ('stat', '-h')):
        out, err = shmctl(*arguments)
        assert out.startswith('Usage: shmctl') and err == ''
        assert max(map(len, out.splitlines())) <= 80
    assert re.fullmatch(r'shmctl \(peal\) \d+\.\d+\.\d+\n', shmctl('--version')[0])


@test
def output_that_cannot_be_written_is_a_failure():
    with directory(), open('/dev/full', 'w', encoding='ascii') as full:
        done = subprocess.run([SHMCTL, 'list', '--json'], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1 and 'could not be written' in done.stderr


if __name__ == '__main__':
    sys.exit(run_tests())
