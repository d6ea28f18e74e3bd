"""The options of `client.start` and `client.run`, split into those of the session and those of the task. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from cdpbridge.errors import ConfigurationError

from .calls import RunOptions, ServerDefault, server_default
from .calls._base import id_text

__all__ = ["session_of"]


def session_of(
    options: RunOptions, output_model: type[BaseModel] | None
) -> tuple[UUID | None, dict[str, Any], dict[str, Any]]:
    """Split the options of a run.

    Returns:
        The session that was given, the options of one to create before the task (empty: none), and those of the task.

    Raises:
        ConfigurationError: They contradict each other, or an id is malformed.
    """
    given: dict[str, Any] = dict(options)
    session_id, keep_session = given.pop("session_id", None), given.pop("keep_session", False)
    session: dict[str, Any] = {}
    if (profile_id := given.pop("profile_id", None)) is not None:
        session["profile_id"] = profile_id
    if not isinstance(country := given.pop("proxy_country", server_default), ServerDefault):
        session["proxy_country"] = country
    if output_model is not None and given.get("structured_output") is not None:
        raise ConfigurationError("output_model is the structured output: give one of them")
    if session_id is not None and (session or keep_session):
        raise ConfigurationError(
            "a session that is there already has its profile and proxy, and stays: with session_id, leave out "
            + ", ".join([*session, *(["keep_session"] if keep_session else [])])
        )
    if keep_session or session:  # made before its task
        session["keep_alive"] = keep_session
    elif session_id is None:
        more = dict(given.get("extra_body") or {})
        settings = {"keepAlive": False} | dict(more.get("sessionSettings") or {})
        given["extra_body"] = more | {"sessionSettings": settings}
    if output_model is not None:
        given["structured_output"] = output_model
    return None if session_id is None else UUID(id_text(session_id)), session, given
