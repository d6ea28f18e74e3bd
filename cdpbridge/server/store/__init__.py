"""The database: projects, keys, profiles, browsers, sessions, tasks, and a ledger that is only ever added to."""

from __future__ import annotations

from ._browsers import NewAgentSession
from ._keys import key_hash_of
from ._models import (
    AgentSession,
    ApiKey,
    Browser,
    EngineRow,
    LedgerEntry,
    Profile,
    Project,
    Server,
    Share,
    Task,
    TaskFile,
    TaskStep,
    Worker,
)
from ._money import LedgerKind, from_micro_usd, to_micro_usd
from ._projects import Account, ProjectOverview
from ._recording_states import RecordingState
from ._refusals import (
    AdmissionRefused,
    InsufficientCredits,
    KeyRevoked,
    KeyTaken,
    NotStarting,
    TooManyBrowsers,
    TooManyProfiles,
)
from ._rental_steps import Settlement
from ._store import Store
from ._tasks import SessionBusy, SessionOver, TaskOutcome

__all__ = [
    "Account",
    "AdmissionRefused",
    "AgentSession",
    "ApiKey",
    "Browser",
    "EngineRow",
    "InsufficientCredits",
    "KeyRevoked",
    "KeyTaken",
    "LedgerEntry",
    "LedgerKind",
    "NewAgentSession",
    "NotStarting",
    "Profile",
    "Project",
    "ProjectOverview",
    "RecordingState",
    "Server",
    "SessionBusy",
    "SessionOver",
    "Settlement",
    "Share",
    "Store",
    "Task",
    "TaskFile",
    "TaskOutcome",
    "TaskStep",
    "TooManyBrowsers",
    "TooManyProfiles",
    "Worker",
    "from_micro_usd",
    "key_hash_of",
    "to_micro_usd",
]
