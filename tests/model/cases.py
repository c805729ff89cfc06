# SPDX-License-Identifier: MIT
"""What run_models.py asks of the models: one row for each check.

A bound is as large as the time allows; --full has larger ones. For a mutant the
smallest bounds do in which it loses something.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A model, what it is built with, and what pan is to find there."""
    name: str
    model: str
    defines: tuple
    error: str = None  # or the assertion that must fail
    is_long: bool = False
    is_for_full: bool = False
    is_all_reached: bool = False  # no line of the model is dead here


DOORBELL, CLIENT = 'doorbell.pml', 'client.pml'
ROOM, SLOTS = 'room.pml', 'slots.pml'
ONE = ('PRODUCERS=1', 'MESSAGES=2', 'CALLS=0')
TWO = ('PRODUCERS=2', 'MESSAGES=1', 'CALLS=0')
NOTIFY = ('PRODUCERS=1', 'MESSAGES=1', 'CALLS=1', 'KILLS=0')
STOP = ('PRODUCERS=1', 'MESSAGES=1', 'CALLS=2', 'KILLS=0')
BOTH = ('PRODUCERS=1', 'MESSAGES=1', 'CALLS=3', 'KILLS=0')
QUIET = ('WAKES=0', 'KILLS=0')
WOKEN = ('ANSWERS=1', 'KILLS=0')
SMALL = ('REQUESTS=2', 'PUSHES=0')
PUSHED = ('REQUESTS=2', 'PUSHES=1')
ANSWERED = ('REQUESTS=1', 'PUSHES=0', 'EVICTIONS=1')
NAMED = ('REQUESTS=0', 'PUSHES=1', 'EVICTIONS=0')
EVICTED = ('REQUESTS=0', 'PUSHES=0', 'EVICTIONS=1')
BABBLED = ('REQUESTS=0', 'PUSHES=0', 'EVICTIONS=0', 'NONSENSE')
CROSSED = ('REQUESTS=3', 'PUSHES=1')


def holds(name, model, *defines, **more):
    """pan finds nothing."""
    return Case(name, model, defines, **more)


def breaks(mutant, error, model, *defines, **more):
    """The mutant fails this assertion."""
    return Case(f'{mutant.lower()}_fails', model, (mutant, *defines), error,
                **more)


def only_with_buffers(mutant, model, *defines):
    """
    What orders a store before a load is needed because of store buffers:
    without them the model holds without it, with them it does not.
    """
    return (Case(f'{mutant.lower()}_passes_without_store_buffers', model,
                 (mutant, *defines)),
            breaks(mutant, 'lost_wake', model, 'TSO', *defines))


CASES = (
    # The bell of a consumer.
    holds('no_wake_is_lost_by_futex', DOORBELL, 'TSO', *ONE),
    holds('no_wake_is_lost_by_fd', DOORBELL, 'TSO', 'FD', *ONE),
    holds('no_wake_is_lost_by_isolated_producers', DOORBELL, 'TSO',
          'ISOLATED', *ONE),
    holds('no_wake_is_lost_with_two_producers', DOORBELL, 'TSO', *TWO,
          is_long=True),
    holds('no_notify_and_no_stop_is_lost_by_futex', DOORBELL, 'TSO', *BOTH),
    holds('no_notify_and_no_stop_is_lost_by_fd', DOORBELL, 'TSO', 'FD', *BOTH),
    *only_with_buffers('NO_PRODUCER_ORDER', DOORBELL, *ONE),
    *only_with_buffers('NO_CONSUMER_ORDER', DOORBELL, *ONE),
    breaks('NO_SECOND_LOOK', 'lost_wake', DOORBELL, *ONE),
    breaks('NO_BUMP', 'lost_wake', DOORBELL, *ONE),
    breaks('SEEN_LATE', 'lost_wake', DOORBELL, *NOTIFY),
    breaks('NOTIFY_WITHOUT_BUMP', 'lost_wake', DOORBELL, *NOTIFY),
    breaks('STOP_WITHOUT_BUMP', 'lost_wake', DOORBELL, *STOP),
    breaks('EPOCH_AGAIN', 'lost_wake', DOORBELL, *ONE),
    breaks('FIRST_RINGER_CLEARS', 'lost_wake', DOORBELL, *TWO),
    breaks('INDEX_BEFORE_PAYLOAD', 'torn', DOORBELL, *ONE),
    breaks('NOBODY_RINGS_FOR_THE_DEAD', 'lost_wake', DOORBELL, *ONE),
    breaks('PASSED_ON_WITHOUT_BUMP', 'lost_wake', DOORBELL, 'ISOLATED', *ONE),

    # The bell of a client.
    holds('no_answer_no_wake_and_no_loss_is_slept_through', CLIENT, 'TSO'),
    holds('no_answer_no_wake_and_no_loss_is_slept_through_by_fd', CLIENT, 'TSO',
          'FD'),
    *only_with_buffers('NO_SERVER_ORDER', CLIENT, *QUIET),
    *only_with_buffers('NO_CLIENT_ORDER', CLIENT, *QUIET),
    breaks('ANSWER_WITHOUT_BUMP', 'lost_wake', CLIENT, *QUIET),
    breaks('ANSWER_WITHOUT_WAKE', 'lost_wake', CLIENT, *QUIET),
    breaks('SEEN_AFTER_THE_LOOK', 'lost_wake', CLIENT, *QUIET),
    breaks('CLIENTS_EPOCH_AGAIN', 'lost_wake', CLIENT, *QUIET),
    breaks('NO_SECOND_LOOK_FOR_ANSWERS', 'lost_wake', CLIENT, 'FD', *QUIET),
    breaks('WAKE_WITHOUT_BUMP', 'lost_wake', CLIENT, *WOKEN),
    breaks('WOKEN_AFTER_THE_BELL', 'lost_wake', CLIENT, *WOKEN),
    breaks('NOBODY_LOOKS_FOR_THE_LOSS', 'lost_wake', CLIENT, 'WAKES=0'),
    breaks('LOSS_BEFORE_ANSWERS', 'dropped', CLIENT, 'WAKES=0'),
    breaks('COMMIT_BEFORE_PAYLOAD', 'torn', CLIENT, *QUIET),

    # The bells of a client, and room.
    holds('nobody_sleeps_through_room_or_an_answer', ROOM, 'TSO', *SMALL),
    holds('nobody_sleeps_through_room_that_pushes_take', ROOM, *PUSHED,
          is_all_reached=True),
    holds('nobody_sleeps_through_what_is_rung_in_steps', ROOM, 'IN_STEPS',
          *SMALL),
    holds('nobody_sleeps_through_pushes_that_are_rung_in_steps', ROOM,
          'IN_STEPS', *PUSHED),
    breaks('RUNG_WITHOUT_BUMP', 'lost_wake', ROOM, 'IN_STEPS', *SMALL),
    *only_with_buffers('RELEASE_WITHOUT_ORDER', ROOM, *SMALL),
    *only_with_buffers('SLEEPER_WITHOUT_ORDER', ROOM, *SMALL),
    breaks('NO_SECOND_LOOK_OF_CLIENT', 'lost_wake', ROOM, *SMALL),
    breaks('NO_SECOND_LOOK_OF_REACTOR', 'lost_wake', ROOM, *SMALL),
    breaks('REACTOR_DOES_NOT_SETTLE', 'lost_wake', ROOM, 'TSO', *SMALL),
    breaks('CLIENT_DOES_NOT_SETTLE', 'lost_wake', ROOM, *SMALL),
    breaks('WANTS_TOO_MUCH', 'lost_wake', ROOM, *SMALL),
    breaks('WANT_IS_NOT_TOLD', 'lost_wake', ROOM, *SMALL),
    breaks('ROOM_IS_NOT_LOOKED_FOR', 'lost_wake', ROOM, *SMALL),
    breaks('PARKED_ONE_IS_LOOKED_AT', 'vain', ROOM, *PUSHED),
    breaks('PARKED_ONE_SLEEPS_ON', 'lost_wake', ROOM, 'REQUESTS=2', 'PUSHES=2'),
    breaks('ANSWERS_DO_NOT_INTERRUPT', 'lost_wake', ROOM, *CROSSED),

    # The life of a slot.
    holds('late_answers_and_evictions_leave_no_slot_behind', SLOTS,
          *ANSWERED, is_long=True),
    holds('name_of_an_earlier_client_reaches_nobody', SLOTS, *NAMED),
    holds('nonsense_frees_no_slot_too_early', SLOTS, *BABBLED),
    breaks('LEAVING_IS_HEARD', 'leaked', SLOTS, *BABBLED),
    breaks('NO_GENERATION_CHECK', 'stray', SLOTS, *NAMED),
    breaks('SAME_GENERATION_AGAIN', 'stray', SLOTS, *NAMED),
    breaks('NO_SERIAL', 'stray', SLOTS, *NAMED),
    breaks('HANG_UP_IS_NOT_ANNOUNCED', 'leaked', SLOTS, *NAMED),
    breaks('NO_POKE', 'leaked', SLOTS, *NAMED),
    breaks('FREED_BEFORE_READER_LEFT', 'unmapped', SLOTS, *NAMED),
    breaks('NOT_HELD', 'twice', SLOTS, *ANSWERED),
    breaks('EVICTED_IS_FREED', 'leaked', SLOTS, *ANSWERED),
    breaks('HUNG_UP_OVER_DONE', 'twice', SLOTS, *EVICTED),

    # More of it, for the long run.
    holds('four_answers_and_three_wakes_of_a_client', CLIENT, 'TSO',
          'ANSWERS=4', 'WAKES=3', is_long=True, is_for_full=True),
    holds('four_answers_and_three_wakes_of_a_client_by_fd', CLIENT, 'TSO', 'FD',
          'ANSWERS=4', 'WAKES=3', is_long=True, is_for_full=True),
    holds('two_producers_with_two_messages_lose_no_wake', DOORBELL, 'TSO',
          'PRODUCERS=2', 'MESSAGES=2', 'CALLS=0', is_long=True,
          is_for_full=True),
    holds('two_producers_lose_no_wake_by_fd', DOORBELL, 'TSO', 'FD', *TWO,
          is_long=True, is_for_full=True),
    holds('two_isolated_producers_lose_no_wake', DOORBELL, 'TSO', 'ISOLATED',
          *TWO, is_long=True, is_for_full=True),
    holds('two_deaths_lose_no_wake', DOORBELL, 'TSO', *TWO, 'KILLS=2',
          is_long=True, is_for_full=True),
    holds('all_at_once_lose_no_wake', DOORBELL, 'PRODUCERS=2', 'MESSAGES=1',
          'CALLS=3', is_long=True, is_for_full=True),
    holds('pushes_find_their_room', ROOM, 'TSO', *PUSHED, is_long=True,
          is_for_full=True, is_all_reached=True),
    holds('more_pushes_find_their_room', ROOM, 'TSO', 'REQUESTS=2',
          'PUSHES=2', is_long=True, is_for_full=True),
    holds('more_requests_find_their_room', ROOM, 'TSO', 'REQUESTS=3',
          'PUSHES=1', is_long=True, is_for_full=True),
    holds('rings_of_two_find_their_room', ROOM, 'TSO', 'REQUESTS=3',
          'PUSHES=1', 'REQUEST_ROOM=2', 'RESPONSE_ROOM=2', is_long=True,
          is_for_full=True),
    holds('nonsense_of_those_with_requests_frees_no_slot_too_early', SLOTS,
          'NONSENSE', *ANSWERED, is_long=True, is_for_full=True),
    holds('everything_at_once_leaves_no_slot_behind', SLOTS, is_long=True,
          is_for_full=True),
    holds('three_clients_in_turn_leave_no_slot_behind', SLOTS, 'CONNECTIONS=3',
          *ANSWERED, is_long=True, is_for_full=True),
    holds('names_among_three_clients_reach_nobody_else', SLOTS,
          'CONNECTIONS=3', *NAMED, is_long=True, is_for_full=True),
)
