"""The agent's own process. Run by path, in an environment that may not have cdpbridge: so only the standard library at the
top, and its neighbours are loaded by their paths, for they have one name there and another in the package.

Standard input: one line with the task, its secrets among it, then one line a command; its end means that the owner has
exited, and ends us. Standard output: one line of JSON an event. Standard error: the log. Whatever leaves is cut first.

    {"event": "started", "version": ..., "hide": {value: name}}     values that only we know: 1Password's
    {"event": "step", "number": ..., ...}                           after each step
    {"event": "result", "how": "finished" | "stopped", "output": ..., "success": ..., "answered": ...}
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

__all__ = ["Cutter", "logins", "shortened", "written_files"]

OUTPUT_CHARACTERS: Final = 1_000_000
"""Longest answer of a task, longest action in a step ten times less; the rest is cut off, and says so."""

_STATE_CHARACTERS: Final = 20_000
_LOG_CHARACTERS: Final = 8_000
_EARLIER_TASKS: Final = 20
_EARLIER_CHARACTERS: Final = 4_000
_CUT_FILE_BYTES: Final = 50 * 1024 * 1024
_MAX_FILES: Final = 1000
_STOP_STEP_SECONDS: Final = 3.0
_SCREENSHOT_SECONDS: Final = 5.0
_CONNECT_1PASSWORD_SECONDS: Final = 30.0
_SHORT: Final = 4
"""Characters from which on a secret is cut within words, too."""

_NO_WORD: Final = 8
"""Characters from which on a secret is no name of a field, and no chance in a binary file."""

# Not within a word; what is before it may be the end of an escape: %3D, \\n, \\u0020.
_ALONE_BEFORE: Final = r"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
_ALONE_AFTER: Final = r"(?![^\W_])"
_NAME: Final = re.compile(r"[A-Za-z_]+")
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger("cdpbridge.agent")


class Cutter:
    """Replaces secrets, in every spelling they take in texts and addresses, by their names.

    Longest first, so that a secret within another leaves no rest of it. A short one is replaced only where it stands alone:
    anywhere else it is a part of a word, and an answer without its letters could not be read. What it has put in is left as it
    is when the text comes by a second time.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        spelled: dict[str, str] = {}
        for value, name in names.items():
            # Without a letter or a digit in it, a short one is punctuation.
            for spelling in _spellings(value) if len(value) >= _SHORT or any(map(str.isalnum, value)) else ():
                spelled.setdefault(spelling, f"<secret>{name}</secret>")
        self._spelled = {put_in: put_in for put_in in spelled.values()} | spelled
        self._numbers = {
            value: f"<secret>{name}</secret>" for value, name in names.items() if len(value) >= _SHORT
        }
        self._pattern = re.compile(_alternatives(self._spelled, {*spelled.values()}) or r"(?!)")
        self._bytes = {text.encode(errors="replace"): self._spelled[text].encode() for text in self._spelled}
        kept = [spelling for spelling in self._bytes if len(spelling) >= _NO_WORD]
        self._bytes_pattern = re.compile(
            b"|".join(map(re.escape, sorted(kept, key=len, reverse=True))) or rb"(?!)"
        )

    def text(self, text: str) -> str:
        return self._pattern.sub(lambda found: self._spelled[found[0]], text)

    def value(self, value: Any) -> Any:
        """A JSON value, cut in its strings, and in numbers that are a secret.

        Keys are names, and stay; except one that holds a secret which is no name: long, and not of letters alone.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._key(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._numbers.get(str(value), value)
        return value

    def _key(self, key: str) -> str:
        def cut(found: re.Match[str]) -> str:
            is_name = len(found[0]) < _NO_WORD or _NAME.fullmatch(found[0])
            return found[0] if is_name else self._spelled[found[0]]

        return self._pattern.sub(cut, key)

    def document(self, text: str) -> str:
        """A text that may be JSON: then it stays JSON, with the same names in it."""
        try:
            parsed = json.loads(text) if text.lstrip()[:1] in {"{", "["} else None
        except (ValueError, RecursionError):
            parsed = None
        if parsed is None:
            return self.text(text)
        cut = self.value(parsed)
        if cut == parsed:
            return text
        return json.dumps(cut, ensure_ascii=False, indent=2 if "\n" in text.strip() else None)

    def file(self, path: Path) -> bool:
        """Cut a file in place. Whether there was anything to cut.

        In what is no text, short secrets are chance: replacing them would break the file.
        """
        content = path.read_bytes()
        try:
            text = content.decode() if b"\0" not in content else None
        except UnicodeDecodeError:
            text = None
        if text is not None:
            cut = (self.document(text) if path.suffix.lower() == ".json" else self.text(text)).encode()
        else:
            cut = self._bytes_pattern.sub(lambda found: self._bytes[found[0]], content)
        if cut == content:
            return False
        temporary = path.with_name(f".{path.name}.cut")
        temporary.write_bytes(cut)
        temporary.replace(path)
        return True


def _alternatives(spellings: Iterable[str], first: set[str]) -> str:
    """What a cutter looks for, as a regular expression: what it has put in itself, then the longest first."""
    ordered = sorted(spellings, key=lambda spelling: (spelling not in first, -len(spelling)))
    long = [re.escape(spelling) for spelling in ordered if len(spelling) >= _SHORT]
    short = [re.escape(spelling) for spelling in ordered if len(spelling) < _SHORT]
    if short:
        long.append(f"{_ALONE_BEFORE}(?:{'|'.join(short)}){_ALONE_AFTER}")
    return "|".join(long)


def written_files(folder: Path, cutter: Cutter, names: Iterable[str] = ("output", "downloads")) -> list[Path]:
    """What an agent has written into its task's folder, cut."""
    found = [
        path
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not path.name.startswith(".")
        # browser-use's own list of what is left to do
        and not (path.name == "todo.md" and path.stat().st_size == 0)
    ][:_MAX_FILES]
    for path in found:
        if path.stat().st_size <= _CUT_FILE_BYTES:
            cutter.file(path)
    return found


def _spellings(value: str) -> Iterable[str]:
    lines = [line for line in value.splitlines() if len(line) >= 8] if "\n" in value else []
    for text in (value, value.strip(), *lines):
        if text:
            yield from (
                text,
                quote(text, safe=""),
                quote(text),
                quote_plus(text),
                html.escape(text),
                json.dumps(text)[1:-1],
                json.dumps(text, ensure_ascii=False)[1:-1],
                repr(text)[1:-1],
            )
        if len(text) >= 6:  # shorter ones would be found everywhere
            yield base64.b64encode(text.encode(errors="replace")).decode().rstrip("=")


def shortened(value: Any, characters: int) -> Any:
    """A JSON value whose strings are not longer than this."""
    if isinstance(value, str):
        left_out = len(value) - characters
        return value if left_out <= 0 else f"{value[:characters]}... ({left_out} more characters)"
    if isinstance(value, dict):
        return {key: shortened(inner, characters) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner, characters) for inner in value]
    return value


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
        """What was said before there was an agent counts too."""
        self._agent = agent
        if self._paused:
            agent.pause()
        if self.stopping.is_set():
            agent.stop()

    def _listen(self) -> None:  # in a thread: it must hear the owner's end even when the loop is busy
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
    """Whether a model was asked for it: not for the start page, and not for the note that the steps are used up."""
    return item.metadata is not None and item.metadata.step_number > 0


def _neighbour(name: str) -> Any:
    """A file beside this one, as a module."""
    found = spec_from_file_location(f"cdpbridge_agent{name}", Path(__file__).with_name(f"{name}.py"))
    assert found is not None
    assert found.loader is not None
    module = sys.modules[found.name] = module_from_spec(found)
    found.loader.exec_module(module)
    return module


async def _vault(spec: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The logins of a 1Password vault."""
    from onepassword.client import Client

    async with asyncio.timeout(_CONNECT_1PASSWORD_SECONDS):
        client = await Client.authenticate(
            auth=spec["op_service_account_token"], integration_name="cdpbridge", integration_version="1"
        )
        overviews = await client.items.list(spec["op_vault_id"])
        items = [await client.items.get(spec["op_vault_id"], item.id) for item in overviews if item.websites]
    return logins(items)


def _tables(secrets: Mapping[str, Any]) -> list[dict[str, str]]:
    """Placeholder to value, for each pattern of addresses and for those without one."""
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
    """Everything from INFO on to standard error, cut as a whole and not line by line."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            text = _COLOURS.sub("", super().format(record))
            return str(shortened(owner.cutter.text(text), _LOG_CHARACTERS))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "openai", "websockets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def _main() -> None:
    # What libraries print is no event.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    commands = sys.stdin.buffer
    first = commands.readline()
    if not first:
        return
    spec = json.loads(first)
    await _work(spec, _Owner(events, commands, Path(spec["shared"]), Path(spec["scratch"])))


if __name__ == "__main__":
    os.umask(int(sys.argv[1], 8))
    asyncio.run(_main())
    sys.stderr.flush()
    os._exit(0)  # threads of libraries, telemetry's among them, have nothing left to do
