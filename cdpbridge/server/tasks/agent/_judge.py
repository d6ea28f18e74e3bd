"""A judge looks at what an agent has done, and says whether its task was achieved.

It runs in the server, not in the agent's process: that one works on pages which may lead it astray, and must neither speak for
the judge nor hold its key. What it is asked is made of the record: the steps as they were reported, the pictures as they were stored.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from ._base import AgentResult, AgentSpec, AgentStep, Judgement
from ._cutter import Cutter
from ._judge_prompt import SCHEMA, Case, JudgedStep, NoVerdict, Verdict, question, read, spread, system_prompt

__all__ = ["Judge", "JudgeModel"]

logger = logging.getLogger("cdpbridge.server.tasks.agent")

_SCREENSHOTS: Final = 8
_SCREENSHOT_BYTES: Final = 3 * 1024 * 1024
_SCREENSHOTS_BYTES: Final = 8 * 1024 * 1024
_FILES: Final = 5
_FILE_BYTES: Final = 4_000
_ANSWER_TOKENS: Final = 8_192
"""Tokens of the answer, reasoning tokens among them."""

_ANSWER_BYTES: Final = 1024 * 1024
_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 5.0

# The endpoint does not understand the request: it is asked again with less in it.
_NOT_UNDERSTOOD: Final = frozenset({400, 404, 413, 415, 422})
_LATER: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """The model that judges.

    Attributes:
        name: What the endpoint calls it.
        independent: Whether it is another model than the agent's.
    """

    base_url: str
    key: str | None = field(repr=False)
    name: str
    independent: bool


class _Failed(Exception):
    """The endpoint gives no answer; the message says why."""


class Judge:
    """Asks a model.

    Args:
        seconds: Limit for one case, all attempts together.
    """

    def __init__(self, model: JudgeModel, *, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        # What an endpoint says of a wrong key may hold it.
        self._own = Cutter({model.key: "judge key"} if model.key else {})

    async def judge(
        self, spec: AgentSpec, result: AgentResult, steps: Sequence[AgentStep], cutter: Cutter
    ) -> Judgement:
        """Judge; return the verdict, or why there is none. Raises only when it is cancelled.

        Args:
            cutter: Takes the task's secrets out of everything that is sent, and out of what comes back.
        """
        mark = f"evidence-{secrets.token_hex(8)}"
        case, pictures = await asyncio.to_thread(_case, spec, result, steps, cutter)
        shown = len(pictures)
        verdict, error = None, None
        try:
            async with asyncio.timeout(self._seconds):
                text = f"{question(case, mark)}\n\n{shown} screenshots follow, oldest first."
                verdict, shown = await self._ask(system_prompt(mark), text, pictures)
        except TimeoutError:
            error = f"the judge had no verdict after {self._seconds:g} s"
        except (_Failed, NoVerdict) as failed:
            error = self._own.text(cutter.text(str(failed)))
        except Exception as unexpected:
            logger.exception("task %s: its judge failed", spec.task_id)
            error = f"the judge failed: {type(unexpected).__name__}"
        return self.judgement(verdict, error, cutter, screenshots=shown)

    def judgement(
        self, verdict: Verdict | None, error: str | None, cutter: Cutter, *, screenshots: int = 0
    ) -> Judgement:
        """Return a record that says who judged."""
        return Judgement(
            model=self._model.name,
            independent=self._model.independent,
            verdict=None if verdict is None else verdict.achieved,
            reasoning="" if verdict is None else cutter.text(verdict.reasoning),
            failure_reason="" if verdict is None else cutter.text(verdict.failure_reason),
            error=error,
            screenshots=screenshots,
        )

    async def _ask(
        self, instructions: str, text: str, pictures: Sequence[tuple[int, bytes]]
    ) -> tuple[Verdict, int]:
        """Return the verdict, and how many pictures it rests on: endpoints differ in what they understand."""
        options: dict[str, Any] = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "strict": True, "schema": SCHEMA},
            },
            "max_completion_tokens": _ANSWER_TOKENS,
        }
        attempts = [(options, pictures), ({}, pictures), ({}, ())] if pictures else [(options, ()), ({}, ())]
        headers = {"Authorization": f"Bearer {self._model.key or 'none'}"}
        # Proxies of the environment count, as they do for agents.
        async with httpx.AsyncClient(headers=headers, timeout=self._seconds) as http:
            refused: _Failed | None = None
            for more, shown in attempts:
                body = {
                    "model": self._model.name,
                    "messages": [
                        {"role": "system", "content": instructions},
                        {"role": "user", "content": [{"type": "text", "text": text}, *_parts(shown)]},
                    ],
                } | more
                try:
                    return await self._verdict(http, body), len(shown)
                except _NotUnderstood as error:
                    refused = error
            assert refused is not None
            raise refused

    async def _verdict(self, http: httpx.AsyncClient, body: dict[str, Any]) -> Verdict:
        """Ask one question; ask once more for an answer that is no verdict."""
        try:
            return read(await self._content(http, body))
        except NoVerdict:
            pass
        try:
            return read(await self._content(http, body))
        except NoVerdict as error:
            raise NoVerdict(f"the judge's answer cannot be used: {error}") from error

    async def _content(self, http: httpx.AsyncClient, body: dict[str, Any]) -> str:
        for attempt in range(1, _TRIES + 1):
            try:
                status, answer, pause = await self._post(http, body)
            except httpx.HTTPError as error:
                status, answer, pause = 0, type(error).__name__, None
            if status == 200:
                return _message(answer)
            if status in _NOT_UNDERSTOOD:
                raise _NotUnderstood(f"the judge's endpoint answered {status}: {_words(answer)}")
            if attempt == _TRIES or not (status == 0 or status in _LATER or status >= 500):
                said = f"answered {status}" if status else "could not be reached"
                raise _Failed(f"the judge's endpoint {said}: {_words(answer)}")
            await asyncio.sleep(
                min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**attempt if pause is None else pause)
            )
        raise AssertionError("every attempt ends above")

    async def _post(self, http: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, Any, float | None]:
        """Status, the JSON of the answer (else its text), and how many seconds to wait before asking again."""
        url = f"{self._model.base_url.rstrip('/')}/chat/completions"
        async with http.stream("POST", url, json=body) as response:
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > _ANSWER_BYTES:
                    raise _Failed(f"the judge's answer is longer than {_ANSWER_BYTES} bytes")
            text = data.decode(errors="replace")
            try:
                answer = httpx.Response(200, content=bytes(data)).json()
            except ValueError:
                answer = text
            return response.status_code, answer, _seconds(response.headers)


class _NotUnderstood(_Failed):
    """The endpoint does not understand what it is asked."""


def _message(answer: Any) -> str:
    """Return what the model says in a chat completion.

    Raises:
        NoVerdict: Nothing, or it was cut off.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoVerdict(f"it is no chat completion: {_words(answer)}") from None
    if refusal:
        raise _Failed(f"the judge refused to judge: {str(refusal)[:300]}")
    if reason == "length":
        raise _Failed("the judge's answer was cut off: it is longer than the model may write")
    if isinstance(content, list):  # parts, as some endpoints answer
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise NoVerdict("it has no text")
    return content


def _words(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    said = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(said).split())[:300] or "nothing"


def _seconds(headers: httpx.Headers) -> float | None:
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"])) if "retry-after" in headers else None
    except ValueError:  # a date
        return None


def _parts(pictures: Sequence[tuple[int, bytes]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for number, data in pictures:
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        parts.append({"type": "text", "text": f"Screenshot of step {number}:"})
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _case(
    spec: AgentSpec, result: AgentResult, steps: Sequence[AgentStep], cutter: Cutter
) -> tuple[Case, list[tuple[int, bytes]]]:
    """Return what is judged, without a secret in it, and the pictures of some steps."""
    context = {
        "instructions besides the task": spec.system_prompt_extension,
        "page at the start": spec.start_url or "",
        "hosts that could be reached": ", ".join(spec.allowed_domains),
        "JSON schema of the output": spec.structured_output or "",
        "names of files that were given": ", ".join(path.name for path in spec.uploads),
        "outputs of earlier tasks": "\n".join(spec.earlier),
    }
    files = [(path.name, _beginning(path)) for path in result.files[:_FILES]]
    if len(result.files) > _FILES:
        files.append((f"and {len(result.files) - _FILES} more", ""))
    case = Case(
        task=cutter.text(spec.task),
        output=cutter.text(result.output or ""),
        steps=[JudgedStep(step.number, cutter.text(_described(step))) for step in steps],
        context={name: cutter.text(text) for name, text in context.items()},
        files=[(cutter.text(name), cutter.text(text)) for name, text in files],
    )
    return case, _pictures(steps)


def _described(step: AgentStep) -> str:
    parts = {
        "page": step.url,
        "its view of the step before": step.evaluation_previous_goal,
        "memory": step.memory,
        "goal": step.next_goal,
        "actions": "\n".join(step.actions) or "(none: the model's answer could not be used)",
    }
    return "\n".join(f"{name}: {text}" for name, text in parts.items() if text)


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES)
        size = path.stat().st_size
    except OSError:
        return "(it cannot be read)"
    text = "(not text)" if b"\0" in data else data.decode(errors="replace")
    return f"{size} bytes. It begins:\n{text}"


def _pictures(steps: Sequence[AgentStep]) -> list[tuple[int, bytes]]:
    """Return pictures of the latest steps, as many as the bounds allow, in their order."""
    shown: list[tuple[int, bytes]] = []
    left = _SCREENSHOTS_BYTES
    there = [(step.number, step.screenshot) for step in steps if step.screenshot is not None]
    for index in reversed(spread(len(there), _SCREENSHOTS)):
        number, path = there[index]
        try:
            if path.stat().st_size > min(left, _SCREENSHOT_BYTES):
                continue
            data = path.read_bytes()
        except OSError:
            continue
        left -= len(data)
        shown.append((number, data))
    return shown[::-1]
