"""The record of an ended agent session, for viewers of its live page: the messages that show it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from cdpbridge.server.files import FileStore
from cdpbridge.server.recording import video_path
from cdpbridge.server.store import Store, Task, TaskStep

__all__ = ["SessionRecord"]

_STEPS_PER_MESSAGE: Final = 50


class SessionRecord:
    """Tasks with their steps, screenshots and outputs, and the recording, of an ended session.

    Output files, downloads, labels and logs are not part of it: a share shows what the session did, and gives no files.

    Args:
        sign: Makes the address of a file, relative to the server's, from its path in the store.
    """

    def __init__(self, store: Store, files: FileStore, sign: Callable[[str], str]) -> None:
        self._store = store
        self._files = files
        self._sign = sign

    async def messages(self, browser_id: UUID) -> AsyncGenerator[dict[str, Any]]:
        """Each task, then its steps, at most 50 in a message; then the recording. None for a browser without a session."""
        session = await self._store.agent_session_of(browser_id)
        if session is None:
            return
        for task in await self._store.tasks_of_session(session.id):
            yield _task(task)
            steps, _ = await self._store.task_details(task.id)
            for first in range(0, len(steps), _STEPS_PER_MESSAGE):
                part = steps[first : first + _STEPS_PER_MESSAGE]
                yield {"type": "steps", "task": str(task.id), "steps": [self._step(step) for step in part]}
        browser = await self._store.rental(browser_id)
        video = None if browser is None else video_path(self._files, browser)
        if video is not None:
            yield {"type": "recording", "path": self._sign(video)}

    def _step(self, step: TaskStep) -> dict[str, Any]:
        return {
            "number": step.number,
            "evaluation": step.evaluation_previous_goal,
            "memory": step.memory,
            "goal": step.next_goal,
            "url": _without_credentials(step.url),
            "actions": step.actions,
            "seconds": step.duration_seconds,
            "screenshot": step.screenshot and self._sign(step.screenshot),
        }


def _task(task: Task) -> dict[str, Any]:
    return {
        "type": "task",
        "id": str(task.id),
        "task": task.task,
        "llm": task.llm,
        "status": task.state,
        "output": task.output,
        "success": task.is_success,
        "seconds": None if task.finished_at is None else (task.finished_at - task.created_at).total_seconds(),
    }


def _without_credentials(url: str) -> str:
    """`url` without a user's name and password, which an address may carry before its host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address that could carry them
        return url
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
