"""The agent's own process.

Run by path, in an environment that may not have cdpbridge: so only the standard library at the top, and its neighbours are loaded by
their paths, for they have one name there and another in the package.

Standard input: one line with the task, its secrets among it, then one line a command; its end means that the owner has
exited, and ends us. Standard output: one line of JSON an event. Standard error: the log. Whatever leaves is cut first.

    {"event": "started", "version": ..., "hide": {value: name}}     values that only we know: 1Password's
    {"event": "step", "number": ..., ...}                           after each step
    {"event": "result", "how": "finished" | "stopped", "output": ..., "success": ..., "answered": ...}
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import parse_qs, urlsplit

__all__ = ["logins"]

OUTPUT_CHARACTERS: Final = 1_000_000
"""Longest answer of a task, longest action in a step ten times less; the rest is cut off, and says so."""

_STATE_CHARACTERS: Final = 20_000
_LOG_CHARACTERS: Final = 8_000
_EARLIER_TASKS: Final = 20
_EARLIER_CHARACTERS: Final = 4_000
_STOP_STEP_SECONDS: Final = 3.0
_SCREENSHOT_SECONDS: Final = 5.0
_CONNECT_1PASSWORD_SECONDS: Final = 30.0
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger("cdpbridge.agent")


def _neighbour(name: str, folder: Path = Path(__file__).parent) -> Any:
    """Return a file beside this one, as a module."""
    found = spec_from_file_location(f"cdpbridge_agent{name}", folder / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules[found.name] = module_from_spec(found)
    found.loader.exec_module(module)
    return module


if TYPE_CHECKING or __package__:
    from ._cutter import Cutter, shortened, written_files
else:
    _loaded = _neighbour("_cutter")
    Cutter, shortened, written_files = _loaded.Cutter, _loaded.shortened, _loaded.written_files


def logins(items: Iterable[Any]) -> dict[str, dict[str, str]]:
    """1Password's items as browser-use takes them: {pattern of addresses: {placeholder: value}}.

    A one-time password's secret gets the suffix with which browser-use makes a code of it.
    """
    found: dict[str, dict[str, str]] = {}
    for item in items:
        values: dict[str, str] = {}
        for field in item.fields:
            name = re.sub(r"\W+", "_", f"{item.title}_{field.title or field.id}").strip("_").lower()
            kind = getattr(field.field_type, "value", field.field_type)
            if kind == "Totp":
                values[f"{name}_bu_2fa_code"] = _totp_secret(field.value)
            elif kind in {"Text", "Concealed", "Email"} and field.value:
                values[name] = field.value
        for website in item.websites:
            parts = urlsplit(website.url if "://" in website.url else f"https://{website.url}")
            if parts.hostname and values:
                found.setdefault(f"{parts.scheme}://{parts.hostname}", {}).update(values)
    return found


def _totp_secret(value: str) -> str:
    if value.startswith("otpauth://"):
        value = parse_qs(urlsplit(value).query).get("secret", [""])[0]
    return value.replace(" ", "")


class _Owner:
    """The process that started us: it gets our events, sends commands, and ends us when it dies."""

    def __init__(self, events: BinaryIO, commands: BinaryIO, folder: Path, scratch: Path) -> None:
        self.cutter = Cutter({})
        self.stopping = asyncio.Event()
        self._events = events
        self._commands = commands
        self._folder = folder
        self._scratch = scratch
        self._loop = asyncio.get_running_loop()
        self._agent: Any = None
        self._paused = False
        threading.Thread(target=self._listen, name="owner", daemon=True).start()

    def tell(self, event: str, **fields: Any) -> None:
        """Write an event. Texts among its fields are cut before: what else is there are words and numbers of our own."""
        line = json.dumps({"event": event, **fields})
        self._events.write(line.encode() + b"\n")
        self._events.flush()

    def attach(self, agent: Any) -> None:
        """Attach the agent, and apply the commands that came before it."""
        self._agent = agent
        if self._paused:
            agent.pause()
        if self.stopping.is_set():
            agent.stop()

    # In a thread: it must hear the owner's end even when the loop is busy.
    def _listen(self) -> None:
        for line in self._commands:
            self._loop.call_soon_threadsafe(self._do, json.loads(line)["do"])
        try:
            # Not in a folder of another user, here the browser's: it could put links in our way.
            folders = [self._folder / name for name in ("output", "downloads")]
            names = [each.name for each in folders if each.is_dir() and each.stat().st_uid == os.geteuid()]
            written_files(self._folder, self.cutter, names)
            shutil.rmtree(self._scratch, ignore_errors=True)
        finally:
            self._end()

    def _end(self) -> None:
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    def _do(self, command: str) -> None:
        logger.info("asked to %s", command)
        if command == "stop":
            self.stopping.set()
        else:
            self._paused = command == "pause"
        if self._agent is not None:
            {"stop": self._agent.stop, "pause": self._agent.pause, "resume": self._agent.resume}[command]()


class _Steps:
    """Tells of each step once it is over."""

    def __init__(self, owner: _Owner, screenshots: Path) -> None:
        self._owner = owner
        self._screenshots = screenshots
        self.last: Any = None
        self._seen = 0
        self._number = 0

    @property
    def count(self) -> int:
        return self._number

    async def after_step(self, agent: Any) -> None:
        """browser-use's hook. A step that was interrupted is done again, and is not in the history."""
        items = agent.history.history[self._seen :]
        self._seen += len(items)
        for item in items:
            if _is_step(item):
                await self._tell(agent, item)

    async def _tell(self, agent: Any, item: Any) -> None:
        self._number += 1
        self.last = item
        said = item.model_output
        errors = [result.error for result in item.result if result.error]
        actions = (
            [action.model_dump(mode="json", exclude_unset=True) for action in said.action] if said else []
        )
        cutter = self._owner.cutter

        def text(given: str | None) -> str:
            return str(shortened(cutter.text(given or ""), _STATE_CHARACTERS))

        self._owner.tell(
            "step",
            number=self._number,
            memory=text(said and said.memory),
            # What a failed step has to say for itself is its error.
            evaluation_previous_goal=text(
                (said and said.evaluation_previous_goal) or ("" if said else "; ".join(errors))
            ),
            next_goal=text(said and said.next_goal),
            url=text(item.state.url),
            # Cut before they are JSON within JSON; an action's name and its parameters' are browser-use's.
            actions=[
                json.dumps(shortened(_cut_action(cutter, action), OUTPUT_CHARACTERS // 10))
                for action in actions
            ],
            screenshot=await self._screenshot(agent, item.state.screenshot_path),
            seconds=item.metadata.duration_seconds,
        )

    async def _screenshot(self, agent: Any, source: str | None) -> str | None:
        target = self._screenshots / f"step-{self._number:04}.png"
        if source is not None:
            shutil.copyfile(source, target)  # browser-use's own is for its judge
            return target.name
        # It makes none of a page that was empty when the step began: so this shows where the step has led.
        try:
            async with asyncio.timeout(_SCREENSHOT_SECONDS):
                await agent.browser_session.take_screenshot(path=str(target))
        except Exception as error:  # noqa: BLE001  # of any layer; the step counts without it
            logger.warning("no screenshot of step %d: %s", self._number, error)
        return target.name if target.is_file() else None


def _cut_action(cutter: Cutter, action: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {parameter: cutter.value(value) for parameter, value in parameters.items()}
        if isinstance(parameters, dict)
        else cutter.value(parameters)
        for name, parameters in action.items()
    }


def _is_step(item: Any) -> bool:
    """Return True if a model was asked for it: not for the start page, and not for the note that the steps are used up."""
    return item.metadata is not None and item.metadata.step_number > 0


async def _vault(spec: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the logins of a 1Password vault."""
    from onepassword.client import Client

    async with asyncio.timeout(_CONNECT_1PASSWORD_SECONDS):
        client = await Client.authenticate(
            auth=spec["op_service_account_token"], integration_name="cdpbridge", integration_version="1"
        )
        overviews = await client.items.list(spec["op_vault_id"])
        items = [await client.items.get(spec["op_vault_id"], item.id) for item in overviews if item.websites]
    return logins(items)


def _tables(secrets: Mapping[str, Any]) -> list[dict[str, str]]:
    """Map placeholder to value, for each pattern of addresses and for those without one."""
    return [
        values if isinstance(values, dict) else {placeholder: values}
        for placeholder, values in secrets.items()
    ]


async def _work(spec: dict[str, Any], owner: _Owner) -> None:
    names: dict[str, str] = dict(spec["hide"])
    secrets: dict[str, Any] = dict(spec["secrets"])
    owner.cutter = Cutter(names)
    vault = await _vault(spec) if spec["op_vault_id"] else {}
    for pattern, values in vault.items():
        secrets[pattern] = secrets.get(pattern, {}) | values
    hidden = {value: name for values in vault.values() for name, value in values.items()}
    # Sent before the cutter knows them: this one line goes to the owner's memory alone.
    owner.tell("started", version=version("browser-use"), hide=hidden)
    owner.cutter = Cutter(hidden | names)
    _log_through(owner)

    spec |= {"earlier": [shortened(text, _EARLIER_CHARACTERS) for text in spec["earlier"][-_EARLIER_TASKS:]]}
    typed = Cutter({value: name for values in _tables(secrets) for name, value in values.items()})
    agent, first = await _neighbour("_child_agent").make(spec, secrets, _neighbour, typed)
    owner.attach(agent)
    steps = _Steps(owner, Path(spec["folder"]) / "screenshots")
    run = asyncio.create_task(
        agent.run(max_steps=spec["max_steps"], on_step_start=first.before_step, on_step_end=steps.after_step)
    )
    stop = asyncio.create_task(owner.stopping.wait())
    await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not run.done():
        await asyncio.wait({run}, timeout=_STOP_STEP_SECONDS)
    stop.cancel()
    if not run.done():
        run.cancel()
        await asyncio.wait({run})
    await steps.after_step(agent)
    error = None if run.cancelled() else run.exception()
    if error is not None:
        logger.error("the agent failed", exc_info=error)
    result = _result(agent.history, steps, stopped=owner.stopping.is_set(), error=error)
    cut = owner.cutter.document if spec["structured_output"] else owner.cutter.text
    result["output"] = shortened(cut(result["output"]), OUTPUT_CHARACTERS)
    owner.tell("result", **result)


def _result(history: Any, steps: _Steps, *, stopped: bool, error: BaseException | None) -> dict[str, Any]:
    if history.is_done():
        output = history.final_result() or ""
        return {
            "how": "finished",
            "output": output,
            "success": history.is_successful(),
            "answered": True,
        }
    if stopped:
        output = "stopped on request, before there was an answer"
        return {"how": "stopped", "output": output, "success": None, "answered": False}
    if error is not None:
        reason = f"{type(error).__name__}: {error}"
    else:
        errors = [result.error for result in steps.last.result if result.error] if steps.last else []
        reason = "; ".join(errors) or "the browser was closed meanwhile"
    output = f"no answer after {steps.count} steps: {reason}"
    return {"how": "finished", "output": output, "success": False, "answered": False}


def _log_through(owner: _Owner) -> None:
    """Log from INFO on to standard error, each record cut as a whole and not line by line."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = _COLOURS.sub("", super().format(record))
            return str(shortened(owner.cutter.text(text), _LOG_CHARACTERS))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "openai", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _confine(spec: Mapping[str, Any]) -> None:
    """Restrict this process, while it has one thread."""
    if sys.platform != "linux":
        return
    rules = _neighbour("_child_confinement")
    state = rules.confine(_neighbour("_kernel", Path(__file__).parents[3] / "isolation"), spec)
    sys.stderr.write(f"confinement of the agent: {state}; place: {spec['place']}\n")


async def _main() -> None:
    # What libraries print is no event.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    commands = sys.stdin.buffer
    first = commands.readline()
    if not first:
        return
    spec = json.loads(first)
    os.chdir(spec["scratch"])
    _confine(spec)
    await _work(spec, _Owner(events, commands, Path(spec["shared"]), Path(spec["scratch"])))


if __name__ == "__main__":
    os.umask(int(sys.argv[1], 8))
    status = 1
    try:
        asyncio.run(_main())
        status = 0
    except BaseException:  # noqa: BLE001  # its last words, which the owner shows
        traceback.print_exc()
    sys.stderr.flush()
    # Threads of libraries, telemetry's among them, have nothing left to do; that of the owner reads for ever, and Python's own end
    # would be an abort for that.
    os._exit(status)
