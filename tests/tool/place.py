# SPDX-License-Identifier: MIT
"""Programs at work: started in a private runtime directory, ended with it."""

import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 20


LISTENING = 0x10000  # __SO_ACCEPTCON


def is_listening(path):
    """Can one connect? A socket that is there may be a dead server's."""
    with open('/proc/net/unix', encoding='utf-8', errors='replace') as table:
        rows = [line.split() for line in table]
    # The table has the name that it was bound by, before it listened.
    return path.is_socket() and any(
        row[-1] == f'{path}~peal' and int(row[3], 16) & LISTENING
        for row in rows[1:])


class Place:
    """A directory for names; programs are started with it and ended with it."""

    def __init__(self, directory, programs):
        self.directory = Path(directory)
        self.programs = programs
        self.environment = {**os.environ, 'PEAL_RUNTIME_DIR': directory}
        self.running = []

    def start(self, *command, **options):
        """Start a program, to be waited for with finish()."""
        # pylint: disable=consider-using-with
        process = subprocess.Popen(
            [self.programs.get(command[0], command[0]), *command[1:]],
            env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.running.append(process)
        return process

    def start_server(self, name, *command):
        """The same, until its name can be attached to."""
        process = self.start(*command)
        deadline = time.monotonic() + PATIENCE_S
        while not is_listening(self.directory / name):
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

    def stop(self, process):
        """The same of a server that ends at SIGTERM."""
        process.terminate()
        return self.finish(process)

    def end(self):
        """Nothing that was started stays."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.communicate()


@contextmanager
def place_of(programs):
    """A Place in a new directory."""
    with tempfile.TemporaryDirectory(prefix='peal-', dir='/tmp') as directory:
        here = Place(directory, programs)
        try:
            yield here
        finally:
            here.end()
