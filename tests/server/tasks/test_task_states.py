"""Each transition of a task's table, and that nothing else changes anything."""

import itertools

from cdpbridge.server.tasks._task_states import (
    END_TEXTS,
    TRANSITIONS,
    WORKING,
    TaskEnd,
    TaskLife,
    TaskSignal,
    TaskState,
)
from tests.cases import cases

WAYS = [
    ("pause", "paused", None),
    ("pause resume", "started", None),
    ("finish", "finished", "finished"),
    ("pause finish", "finished", "finished"),
    ("die", "stopped", "agent_died"),
    ("stop", "stopping", "stopped_by_caller"),
    ("stop ended", "stopped", "stopped_by_caller"),
    ("pause stop ended", "stopped", "stopped_by_caller"),
    ("stop_session expire ended", "stopped", "session_stopped"),  # the first reason counts
    ("expire ended", "stopped", "session_expired"),
    ("browser_exit ended", "stopped", "browser_exited"),
    ("disk_limit ended", "stopped", "disk_limit"),
    ("memory_limit ended", "stopped", "memory_limit"),
    ("process_limit ended", "stopped", "process_limit"),
    ("server_stop ended", "stopped", "server_stopped"),
    ("server_lost", "stopped", "server_lost"),
    ("stop server_lost", "stopped", "stopped_by_caller"),
    ("stop finish", "stopping", "stopped_by_caller"),
    ("finish stop", "finished", "finished"),
]


@cases(("signals", "state", "reason"), WAYS)
def test_ways(signals, state, reason):
    life = TaskLife()
    for signal in signals.split():
        life.take(TaskSignal(signal))
    assert (life.state, life.reason) == (state, reason)


def test_what_is_not_in_the_table_changes_nothing():
    for state, signal in itertools.product(TaskState, TaskSignal):
        life = TaskLife(state)
        assert life.take(signal) is ((state, signal) in TRANSITIONS)
        assert life.state == TRANSITIONS.get((state, signal), state)


def test_no_way_out_of_the_end():
    assert not {state for state, _ in TRANSITIONS} & {TaskState.FINISHED, TaskState.STOPPED}
    assert set(WORKING) == set(TaskState) - {TaskState.FINISHED, TaskState.STOPPED}


def test_every_end_without_an_answer_has_a_text():
    assert set(END_TEXTS) == set(TaskEnd) - {TaskEnd.FINISHED}
    assert "stopped" in repr(TaskLife(TaskState.STOPPED, TaskEnd.AGENT_DIED))
