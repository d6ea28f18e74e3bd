"""Records as commands take them: by id, by the first characters of one, and profiles by name.

What cannot be taken back, e.g. the end of a key, needs a whole id or a name: an empty variable, or a mistyped name, picks nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient

    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType  # generic in newer versions only

__all__ = [
    "ID",
    "browser_id",
    "file_id",
    "one_of",
    "profile_id",
    "session_id",
    "task_id",
    "whole_profile_id",
    "whole_session_id",
]

_FEWEST: Final = 4  # characters: a word that is mistyped as an id is refused, and not searched for
_PREFIX: Final = re.compile(r"[0-9a-f-]+", re.IGNORECASE)


class _Id(_TextType):
    """An id, or its first characters."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; whether there is one is for the server to say."""
        text = str(value).strip().lower()
        if not _PREFIX.fullmatch(text) or len(text) < _FEWEST:
            self.fail(
                f"{value!r} is no id: give it whole, or its first {_FEWEST} characters or more", param, ctx
            )
        return text


ID: Final = _Id()


def one_of(
    kind: str,
    text: str,
    found: dict[UUID, str | None],
    *,
    hint: str = "",
    named: bool = False,
    whole: bool = False,
) -> UUID:
    """Return the id that `text` begins, or names.

    Args:
        kind: The word for messages.
        text: An id, its first characters (4 or more), or a name.
        found: What there is: id to name.
        hint: The command that lists them.
        named: True if names count; a name comes before an id that begins like it.
        whole: True if the first characters of an id are not enough.

    Raises:
        ConfigurationError: There is none, or several.
    """
    from cdpbridge.errors import ConfigurationError

    matches = [each for each, name in found.items() if named and text and name == text]
    if not matches and (known := _whole(text)) is not None:
        matches = [known] if known in found else []
    elif not matches and not whole and len(text) >= _FEWEST and _PREFIX.fullmatch(text):
        matches = [each for each in found if str(each).startswith(text.lower())]
    see = f"; see `{hint}`" if hint else ""
    if not matches:
        has = "has the id" if whole else "has an id that begins with"
        says = f"is called, or {has}," if named else has
        enough = "" if whole or len(text) >= _FEWEST else f" ({_FEWEST} characters of an id are needed)"
        raise ConfigurationError(f"no {kind} {says} {text!r}{enough}{see}")
    if len(matches) > 1:
        shown = ", ".join(map(str, matches[:3])) + (", ..." if len(matches) > 3 else "")
        more = "the whole id" if whole else "more of the id"
        raise ConfigurationError(f"{len(matches)} {kind}s fit {text!r}: {shown}; give {more}")
    return matches[0]


def _whole(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _finder(
    kind: str,
    list_all: Callable[[AsyncClient], AsyncIterable[Any]],
    hint: str,
    *,
    named: bool = False,
    whole: bool = False,
) -> Callable[[AsyncClient, str], Awaitable[UUID]]:
    async def find(client: AsyncClient, text: str) -> UUID:
        if (known := _whole(text)) is not None:
            return known
        found = {each.id: getattr(each, "name", None) async for each in list_all(client)}
        return one_of(kind, text, found, hint=hint, named=named, whole=whole)

    return find


browser_id: Final = _finder(
    "active browser", lambda client: client.browsers.list(status="active"), "cdpbridge browsers"
)
session_id: Final = _finder("session", lambda client: client.sessions.list(), "cdpbridge sessions list --all")
whole_session_id: Final = _finder(
    "session", lambda client: client.sessions.list(), "cdpbridge sessions list --all", whole=True
)
task_id: Final = _finder("task", lambda client: client.tasks.list(), "cdpbridge tasks list")
profile_id: Final = _finder(
    "profile", lambda client: client.profiles.list(), "cdpbridge profiles list", named=True
)
whole_profile_id: Final = _finder(
    "profile", lambda client: client.profiles.list(), "cdpbridge profiles list", named=True, whole=True
)


async def file_id(client: AsyncClient, task: UUID, text: str) -> UUID:
    """Return the file of a task, by its id, the beginning of that, or its name."""
    if (known := _whole(text)) is not None:
        return known
    files = (await client.tasks.get(task)).output_files
    hint = f"cdpbridge tasks get {task}"
    return one_of("file", text, {each.id: each.file_name for each in files}, hint=hint, named=True)
