"""The life of a task as a table. Pure: no clock, no I/O.

Theory. A task works while it is `started`, `paused` or `stopping`, and a session works on one task at a time. Whatever
leads out of `started` and `paused` is the reason of the end, and the first one counts: a stop, the session's end and
the agent's own end may race as they like. An agent that is asked to stop needs a moment; `stopping` is that moment,
and already `stopped` for the outside.

                 pause            stop, the session's or browser's end          agent ended
    started ◀──────────▶ paused ────────────────────────────────▶ stopping ──────────────▶ stopped
        │        resume     │                                                                ▲
        ├───────────────────┼──────────────── died, lost ────────────────────────────────────┘
        └───────────────────┴──────────────── finish ──▶ finished
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["END_TEXTS", "TRANSITIONS", "WORKING", "TaskEnd", "TaskLife", "TaskSignal", "TaskState"]


class TaskState(StrEnum):
    """A state of a task."""

    STARTED = "started"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"


class TaskSignal(StrEnum):
    """An event of a task."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    STOP_SESSION = "stop_session"
    EXPIRE = "expire"
    BROWSER_EXIT = "browser_exit"
    DISK_LIMIT = "disk_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    SERVER_STOP = "server_stop"
    SERVER_LOST = "server_lost"
    FINISH = "finish"
    DIE = "die"
    ENDED = "ended"


class TaskEnd(StrEnum):
    """Why a task ended."""

    FINISHED = "finished"
    STOPPED_BY_CALLER = "stopped_by_caller"
    SESSION_STOPPED = "session_stopped"
    SESSION_EXPIRED = "session_expired"
    BROWSER_EXITED = "browser_exited"
    DISK_LIMIT = "disk_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    SERVER_STOPPED = "server_stopped"
    SERVER_LOST = "server_lost"
    AGENT_DIED = "agent_died"


WORKING: Final = (TaskState.STARTED, TaskState.PAUSED, TaskState.STOPPING)
"""A session takes no other task meanwhile."""

_REASONS: Final[Mapping[TaskSignal, TaskEnd]] = MappingProxyType(
    {
        TaskSignal.STOP: TaskEnd.STOPPED_BY_CALLER,
        TaskSignal.STOP_SESSION: TaskEnd.SESSION_STOPPED,
        TaskSignal.EXPIRE: TaskEnd.SESSION_EXPIRED,
        TaskSignal.BROWSER_EXIT: TaskEnd.BROWSER_EXITED,
        TaskSignal.DISK_LIMIT: TaskEnd.DISK_LIMIT,
        TaskSignal.MEMORY_LIMIT: TaskEnd.MEMORY_LIMIT,
        TaskSignal.PROCESS_LIMIT: TaskEnd.PROCESS_LIMIT,
        TaskSignal.SERVER_STOP: TaskEnd.SERVER_STOPPED,
        TaskSignal.SERVER_LOST: TaskEnd.SERVER_LOST,
        TaskSignal.FINISH: TaskEnd.FINISHED,
        TaskSignal.DIE: TaskEnd.AGENT_DIED,
    }
)

_STOPS: Final = (
    TaskSignal.STOP,
    TaskSignal.STOP_SESSION,
    TaskSignal.EXPIRE,
    TaskSignal.BROWSER_EXIT,
    TaskSignal.DISK_LIMIT,
    TaskSignal.MEMORY_LIMIT,
    TaskSignal.PROCESS_LIMIT,
    TaskSignal.SERVER_STOP,
)

TRANSITIONS: Final[Mapping[tuple[TaskState, TaskSignal], TaskState]] = MappingProxyType(
    {
        (TaskState.STARTED, TaskSignal.PAUSE): TaskState.PAUSED,
        (TaskState.PAUSED, TaskSignal.RESUME): TaskState.STARTED,
        **{
            (state, signal): TaskState.STOPPING
            for state in (TaskState.STARTED, TaskState.PAUSED)
            for signal in _STOPS
        },
        **{
            (state, signal): following
            for state in (TaskState.STARTED, TaskState.PAUSED)
            for signal, following in (
                (TaskSignal.FINISH, TaskState.FINISHED),
                (TaskSignal.DIE, TaskState.STOPPED),
                (TaskSignal.SERVER_LOST, TaskState.STOPPED),
            )
        },
        (TaskState.STOPPING, TaskSignal.ENDED): TaskState.STOPPED,
        (TaskState.STOPPING, TaskSignal.SERVER_LOST): TaskState.STOPPED,
    }
)

END_TEXTS: Final[Mapping[TaskEnd, str]] = MappingProxyType(
    {
        TaskEnd.STOPPED_BY_CALLER: "The task was stopped before it was done.",
        TaskEnd.SESSION_STOPPED: "The session was stopped before the task was done.",
        TaskEnd.SESSION_EXPIRED: "The session's time was over before the task was done.",
        TaskEnd.DISK_LIMIT: "The session's browser used more disk than it may and was stopped before the task was done.",
        TaskEnd.MEMORY_LIMIT: "The session's browser used more memory than it may and was stopped before the task was done.",
        TaskEnd.PROCESS_LIMIT: "The session's browser had more processes than it may and was stopped before the task was done.",
        TaskEnd.BROWSER_EXITED: "The session's browser ended unexpectedly before the task was done.",
        TaskEnd.SERVER_STOPPED: "The server was stopped before the task was done.",
        TaskEnd.SERVER_LOST: "The server ended unexpectedly before the task was done.",
        TaskEnd.AGENT_DIED: "The agent ended unexpectedly before the task was done.",
    }
)
"""The output of a task that has no answer."""


class TaskLife:
    """One task's walk through the table.

    Attributes:
        state: Where it is.
        reason: Why it ended, None before.
    """

    def __init__(self, state: TaskState = TaskState.STARTED, reason: TaskEnd | None = None) -> None:
        self.state = state
        self.reason = reason

    def __repr__(self) -> str:
        return f"TaskLife({self.state}{', ' + self.reason if self.reason else ''})"

    def take(self, signal: TaskSignal) -> bool:
        """Follow `signal`; False when it changes nothing here."""
        following = TRANSITIONS.get((self.state, signal))
        if following is None:
            return False
        if self.reason is None:
            self.reason = _REASONS.get(signal)
        self.state = following
        return True
