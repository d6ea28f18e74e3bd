"""`Store`: every read and every change of the database, each change in one transaction."""

from __future__ import annotations

from ._agent_sessions import AgentSessions
from ._browsers import Browsers
from ._engine_rows import EngineRows
from ._profiles import Profiles
from ._queue import Queue
from ._servers import Servers
from ._sign_ins import SignIns
from ._tasks import Tasks

__all__ = ["Store"]


class Store(Browsers, Profiles, AgentSessions, Tasks, Servers, Queue, EngineRows, SignIns):
    """The database. Objects it returns are detached copies."""
