# SPDX-License-Identifier: MIT
"""The Test Anything Protocol: how a script tells the runner about its checks."""

import sys
import threading
import traceback


class Tap:
    """Prints one line per check, as soon as it is known, and the plan last."""

    def __init__(self):
        self.count = 0
        self.failures = 0
        self.lock = threading.Lock()

    def line(self, good, name):
        """One check is done; any thread may say so."""
        with self.lock:
            self.count += 1
            self.failures += not good
            print(f'{"ok" if good else "not ok"} {self.count} - {name}',
                  flush=True)

    def skip(self, name, why):
        """One check cannot be done here."""
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {why}', flush=True)

    def close(self):
        """The exit code of the program."""
        print(f'1..{self.count}', flush=True)
        return 1 if self.failures else 0


TESTS = []


def test(function):
    """Marks a function as a test: it passes unless it raises."""
    TESTS.append(function)
    return function


def run_tests():
    """Run what is marked; the exit code of the program."""
    tap = Tap()
    for function in TESTS:
        try:
            function()
            good = True
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc(file=sys.stdout)
            good = False
        tap.line(good, function.__name__)
    return tap.close()
