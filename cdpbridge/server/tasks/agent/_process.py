"""An agent's process: its start, its lines, and every way it ends.

    started --spec written--> working --result read, or stdout's end--> ending --reaped, files cut--> over

It lives as long as its standard input is open, so it dies with us. It has a process group of its own, killed as a whole.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Self

from cdpbridge._concurrency import in_pool, to_the_end
from cdpbridge.chromium import IsolatedProgram
from cdpbridge.errors import AgentStartFailed, BrowserStartFailed

from ._base import AgentResult, AgentSpec, AgentStep
from ._cutter import Cutter, written_files
from ._environment import AgentEnvironment
from ._given import child_environment, first_line, secrets_of
from ._placement import AgentPlace, AgentPlaces

__all__ = ["AgentProcess"]

logger = logging.getLogger("cdpbridge.server.tasks.agent")

_PROGRAM: Final = Path(__file__).with_name("_child.py")
_STOP_SECONDS: Final = (
    # The step at hand has 3 of them, then the agent is cancelled and closes its connection.
    8.0
)
_EXIT_SECONDS: Final = 5.0  # from the last word to the end
_KILL_SECONDS: Final = 5.0
# Longest event; the child's own bounds are far below.
_LINE_BYTES: Final = 32 * 1024 * 1024
_READ_BYTES: Final = 65_536
_LOG_BYTES: Final = 10 * 1024 * 1024
_LAST_LINES: Final = 5


class AgentProcess:
    """An agent at work. Implements `AgentRun`."""

    def __init__(
        self,
        process: Process | IsolatedProgram,
        spec: AgentSpec,
        on_step: Callable[[AgentStep], Awaitable[None]],
        scratch: Path,
        cutter: Cutter,
    ) -> None:
        self._process = process
        self._spec = spec
        self._on_step = on_step
        self._scratch = scratch
        self._cutter = cutter
        self._hidden: dict[str, str] = {}
        self._log = _Log(spec.folder / "agent.log")
        self._version: str | None = None
        self._last_word: dict[str, Any] | None = None
        self._fault: str | None = None
        self._stopping = False
        self._killer: asyncio.TimerHandle | None = None
        self._place: AgentPlace | None = None
        self._over: asyncio.Task[AgentResult] | None = None

    def __repr__(self) -> str:
        return f"<AgentProcess {self._process.pid} of task {self._spec.task_id}>"

    @property
    def pid(self) -> int:
        """Its process, and its process group."""
        return self._process.pid

    @property
    def cutter(self) -> Cutter:
        """Takes every secret that the process was given, or has fetched, out of a text."""
        return self._cutter

    # --- start ----------------------------------------------------------------------------------------------------

    @classmethod
    async def start(
        cls,
        environment: AgentEnvironment,
        spec: AgentSpec,
        on_step: Callable[[AgentStep], Awaitable[None]],
        *,
        places: AgentPlaces | None,
        schema: Mapping[str, Any] | None,
        secrets: Mapping[str, str | dict[str, str]],
        llm: Mapping[str, str | None],
        op_token: str | None,
        confine: str,
    ) -> Self:
        """Start it; what it makes of its task is in its result.

        Args:
            places: Gives it a place of its own; None for none.
            confine: The server's setting `isolation`.

        Raises:
            AgentStartFailed: There is no process.
        """
        hidden = secrets_of(spec, secrets, llm, op_token)
        scratch = spec.folder / f".agent-{token_hex(8)}"
        refusal = None if places is None else places.refusal(environment, spec)
        if refusal is not None and confine == "require":
            raise AgentStartFailed(f'isolation = "require", and the agent cannot be isolated: {refusal}')
        place: AgentPlace | None = None
        process: Process | IsolatedProgram
        try:
            await in_pool(_prepare, spec, scratch)
            if places is not None and refusal is None:
                place = await places.open(
                    environment, spec, scratch, llm=llm["llm_base_url"] or "", op_token=op_token
                )
                process = await _start_in(place, environment, spec, scratch)
            else:
                process = await _start_here(environment, spec, scratch)
        except BaseException as error:
            await in_pool(partial(shutil.rmtree, scratch, ignore_errors=True))
            if place is not None:
                await to_the_end(place.close())
            if isinstance(error, OSError | BrowserStartFailed):
                raise AgentStartFailed(f"the agent was not started: {error}") from error
            raise
        run = cls(process, spec, on_step, scratch, Cutter(hidden))
        run._hidden = hidden
        run._place = place
        task = first_line(
            spec,
            llm,
            schema=schema,
            secrets=secrets,
            op_token=op_token,
            hidden=hidden,
            scratch=scratch,
            # In a place, its own rules are the second layer.
            confine=confine if place is None else "auto",
            place=f"none: {refusal}" if refusal else f"{place}" if place else "none",
        )
        run._over = asyncio.create_task(run._live(task), name=f"agent of task {spec.task_id}")
        return run

    # --- what its owner says --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Rest after the step at hand, until `resume`."""
        self._say("pause")

    def resume(self) -> None:
        """Go on."""
        self._say("resume")

    def stop(self) -> None:
        """End soon: after the step at hand when that takes 3 s at most, in the middle of it else; killed after 8 s."""
        if not self._stopping:
            self._stopping = True
            self._say("stop")
            self._killer = asyncio.get_running_loop().call_later(_STOP_SECONDS, self._kill)

    async def result(self) -> AgentResult:
        """Return how it ended, once it has."""
        assert self._over is not None
        return await asyncio.shield(self._over)

    def on_end(self, call: Callable[[AgentProcess], object]) -> None:
        """Call when it is over."""
        assert self._over is not None
        self._over.add_done_callback(lambda _: call(self))

    def _say(self, command: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        if self._process.returncode is None and not stdin.is_closing():
            stdin.write(json.dumps({"do": command}).encode() + b"\n")

    def _kill(self) -> None:
        # Only while it is unreaped: afterwards its id may belong to another process.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    # --- its life -------------------------------------------------------------------------------------------------

    async def _live(self, task: bytes) -> AgentResult:
        log = asyncio.create_task(self._keep_log())
        try:
            try:
                await self._talk(task)
            except Exception as error:
                logger.exception("%r is ended", self)
                self._fault = f"the server failed it: {type(error).__name__}"
            if self._fault is not None:
                self._kill()
            await self._end()
        finally:
            if self._killer is not None:
                self._killer.cancel()
            self._kill()  # we were cancelled
            # A process outside its group may hold its standard error open.
            _, unfinished = await asyncio.wait({log}, timeout=_EXIT_SECONDS)
            for reading in unfinished:
                reading.cancel()
        try:
            if self._place is not None:
                await self._place.end_processes()
            files = await asyncio.to_thread(self._clean_up)
        finally:
            if self._place is not None:
                await self._place.close()
        return self._result(files)

    async def _talk(self, task: bytes) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(task)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return  # it has ended; why, its last lines say
        async for line in stdout:
            event = json.loads(line)
            match event.pop("event"):
                case "started":
                    self._version = event["version"]
                    self._hidden |= event["hide"]
                    self._cutter = Cutter(self._hidden)
                case "step":
                    await self._on_step(self._step(event))
                case "result":
                    self._last_word = event
                    return

    def _step(self, event: Mapping[str, Any]) -> AgentStep:
        name = event["screenshot"]
        return AgentStep(
            number=event["number"],
            memory=event["memory"],
            evaluation_previous_goal=event["evaluation_previous_goal"],
            next_goal=event["next_goal"],
            url=event["url"],
            actions=tuple(event["actions"]),
            screenshot=self._spec.folder / "screenshots" / Path(name).name if name else None,
            duration=timedelta(seconds=event["seconds"]),
        )

    async def _keep_log(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        async for line in _lines(stderr):
            await asyncio.to_thread(self._log.write, self._cutter.text(line))

    async def _end(self) -> None:
        """Wait for the process to end after its last event, then end it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # asyncio has seen the end of a process only when it has seen its pipes' end, too.
        rest = asyncio.create_task(_discard(self._process.stdout))
        try:
            for seconds in (_EXIT_SECONDS, _KILL_SECONDS):
                try:
                    await asyncio.wait_for(self._process.wait(), seconds)
                    break
                except TimeoutError:
                    self._kill()
            else:
                logger.error("%r cannot be killed", self)
        finally:
            rest.cancel()
            self._process.stdin.close()

    def _clean_up(self) -> tuple[Path, ...]:
        """Cut what it has written, remove the rest; the files of the task."""
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._spec.collect()
        return tuple(written_files(self._spec.folder, self._cutter))

    def _result(self, files: tuple[Path, ...]) -> AgentResult:
        said = self._last_word
        if said is None:
            how, success = ("stopped", None) if self._stopping and self._fault is None else ("died", False)
            output = self._fault or (
                "stopped on request, by force" if self._stopping else self._why_it_died()
            )
            said = {"how": how, "output": output, "success": success, "answered": False}
        return AgentResult(
            said["how"],
            said["output"],
            said["success"],
            files,
            self._log.path,
            self._version,
            answered=said["answered"],
        )

    def _why_it_died(self) -> str:
        status = self._process.returncode
        if status is None:
            return "the agent's process can neither work nor be killed"
        words = "; ".join(self._log.last)
        if status < 0:
            name = signal.Signals(-status).name
            hint = " (the system does that when memory runs out)" if name == "SIGKILL" else ""
            return f"the agent's process was killed by {name}{hint}"
        return f"the agent's process ended with status {status} before it had an answer: {words or 'it said nothing'}"


class _Log:
    """The log file: not longer than 10 MiB, and its last lines at hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self._file = path.open("w", encoding="utf-8", errors="replace", buffering=1)
        self._left = _LOG_BYTES

    def write(self, line: str) -> None:
        if line.strip():
            self.last.append(line.strip()[:500])
        if self._left > 0:
            self._left -= len(line.encode(errors="replace")) + 1
            self._file.write(line + "\n" if self._left > 0 else "the log ends here: it is too long\n")

    def close(self) -> None:
        self._file.close()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines, the last one too; one without an end comes in parts."""
    rest = b""
    while chunk := await stream.read(_READ_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
        if len(rest) > _READ_BYTES:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(_READ_BYTES):
        pass


async def _start_in(
    place: AgentPlace, environment: AgentEnvironment, spec: AgentSpec, scratch: Path
) -> IsolatedProgram:
    variables = {**child_environment(scratch, spec.cdp_url, proxies=False), **environment.variables}
    command = [environment.executable, *_arguments("027")]
    return await place.start(command, variables, spec.shared or spec.folder, limit=_LINE_BYTES)


async def _start_here(environment: AgentEnvironment, spec: AgentSpec, scratch: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        environment.python,
        *_arguments("077" if spec.shared in {None, spec.folder} else "027"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=_LINE_BYTES,
        env=child_environment(scratch, spec.cdp_url),
        cwd=scratch,
        start_new_session=True,
    )


def _arguments(umask: str) -> list[str]:
    """Return those of the interpreter.

    Args:
        umask: The program's, which uvloop cannot set: its folders are closed to others; what is lent to the browser's group must
            be readable for that.
    """
    return ["-P", os.fspath(_PROGRAM), umask]


def _prepare(spec: AgentSpec, scratch: Path) -> None:
    """Make the task's folders, and the one for everything that goes when the agent does."""
    shared = spec.shared or spec.folder
    for folder in (spec.folder / "screenshots", shared / "output", shared / "downloads"):
        folder.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(mode=0o700)
