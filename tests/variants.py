# SPDX-License-Identifier: MIT
"""The ways of building and running peal that tests/run knows."""

from dataclasses import dataclass

STRICT = ('-Dwerror=true',)
# Named places to stop and kill at, and no safety net under a lost wake.
BARE = ('-Dhooks=true', '-Dbounded_sleep=false', '-Dwhole=false',
        '-Dbench=false', '-Dexamples=false')
# gcc warns about code that a sanitizer has put there, so nothing is strict.
# Sanitizers make much of code, and optimising that takes minutes; of debugging
# information their reports need lines only.
SANITIZED = BARE + ('-Db_lundef=false', '-Doptimization=1', '-Dc_args=-g1')
QUICKLY = {'gcc': ('-Dunit_optimization=1',),
           'clang': ('-Dunit_optimization=0',),
           'hooks': ('-Dunit_optimization=1',),
           'asan': ('-Dunit_optimization=0',),
           'tsan': ('-Dunit_optimization=0',)}

SANITIZER_ENVIRONMENT = {
    'ASAN_OPTIONS': 'detect_leaks=1:strict_string_checks=1',
    'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1',
    'TSAN_OPTIONS': 'halt_on_error=1:second_deadlock_stack=1',
}
SANITIZER_PATIENCE = 3.0

# The programs of the full counts, and what they ask a test program for.
FULL_ENVIRONMENT = {'PEAL_FULL': '1'}
FULL_PATIENCE = 20.0

# valgrind 3.19 does not know pidfd_open(2), so nothing can be accepted under it:
# it has the layers below, and who looks at servers. A process that dies on purpose
# has freed nothing, so leaks are no errors; ASan looks for them. Left out besides:
# shm_map and pass (they ask for limits that valgrind needs a part of), shm_failing
# (seccomp and limits of locked memory) and shm_cgroup (mount(2) without a type).
VALGRIND = ('valgrind', '--quiet', '--error-exitcode=99', '--leak-check=no',
            '--fair-sched=yes')
VALGRIND_PROGRAMS = frozenset({
    'base', 'shm', 'ring', 'ring_claims', 'ring_hostile', 'ring_flow',
    'doorbell', 'doorbell_wait', 'lifeline', 'spin', 'spin_budget', 'scan', 'wire',
    'name', 'name_lock', 'lanes', 'observer', 'observer_hostile',
    'observer_process', 'my_last', 'store_buffers'})
VALGRIND_FEW = frozenset({'ring', 'ring_claims', 'ring_hostile', 'wire', 'scan'})
VALGRIND_PATIENCE = 10.0


# Tests of these suites measure times in which nobody else may disturb them, or want
# all processors, or go step by step while others wait; the rest mostly waits.
ALONE_SUITES = frozenset({'stress', 'alone', 'load', 'steps'})
AT_ONCE = 3
# What --quick leaves out, unless it is asked for.
SLOW_SUITES = frozenset({'model'})


@dataclass(frozen=True)
class Variant:
    """One way to build everything, and the suites that are worth it there."""
    name: str
    about: str
    compiler: str
    options: tuple
    suites: frozenset
    sanitizer: str = ''
    # The suites that only the long run adds.
    long: frozenset = frozenset()
    # Compile it all, for the warnings, and not only what is run.
    whole: bool = False
    # The variant whose build is used, if not one of its own.
    build: str = ''
    # What stands before each program, and how much longer it takes then.
    wrapper: tuple = ()
    patience: float = 1.0
    # All that it runs, if that is not everything; all without --long.
    programs: frozenset = frozenset()
    few: frozenset = frozenset()

    def suites_of(self, is_long):
        """What is run of it, now or in the long run."""
        return self.suites | self.long if is_long else self.suites


VARIANTS = (
    Variant('gcc', 'gcc, as released, warnings are errors', 'gcc', STRICT,
            frozenset({'tidy', 'headers', 'unit', 'tool', 'fuzz', 'model'}),
            whole=True),
    Variant('clang', 'clang, as released, warnings are errors', 'clang', STRICT,
            frozenset({'headers'}), long=frozenset({'unit'}), whole=True),
    Variant('hooks', 'gcc with hooks, without the bounded sleep', 'gcc',
            STRICT + BARE, frozenset({'weave', 'death', 'stress', 'steps',
                                      'fault', 'load'}), long=frozenset({'long'})),
    Variant('asan', 'the same under ASan and UBSan', 'gcc',
            SANITIZED + ('-Db_sanitize=address,undefined',),
            frozenset({'unit', 'tool', 'weave', 'death', 'stress'}),
            'address,undefined', long=frozenset({'fault', 'load'})),
    Variant('tsan', 'clang and TSan, what runs in one process', 'clang',
            SANITIZED + ('-Db_sanitize=thread',),
            frozenset({'inprocess'}), 'thread'),
    Variant('valgrind', 'memcheck on the build of clang', 'clang', STRICT,
            frozenset({'unit'}), build='clang', wrapper=VALGRIND,
            patience=VALGRIND_PATIENCE, programs=VALGRIND_PROGRAMS,
            few=VALGRIND_FEW),
)


def options_of(variant, is_long):
    """How it is configured. In the long run nothing is made easier."""
    return variant.options + (() if is_long else QUICKLY.get(variant.name, ()))
