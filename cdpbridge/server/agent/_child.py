"""The agent's own process. Run by path, in an environment that may not have cdpbridge: so only the standard library at the
top, and all of it in this one file, for a neighbour would have one name there and another in the package.

Standard input: one line with the task, its secrets among it, then one line a command; its end means that the owner is
gone, and ends us. Standard output: one line of JSON an event. Standard error: the log. Whatever leaves is cut first.

    {"event": "started", "version": ..., "hide": {value: name}}     values that only we know: 1Password's
    {"event": "step", "number": ..., ...}                           after each step
    {"event": "result", "how": "finished" | "stopped", "output": ..., "success": ...}
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
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
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
_LLM_SECONDS: Final = 120
_CUT_FILE_BYTES: Final = 50 * 1024 * 1024
_MAX_FILES: Final = 1000
_SLOW_SECONDS: Final = 15.0
_LLM_RETRIES: Final = (
    3  # of the endpoint's client, within one step; browser-use allows six failed steps in a row
)
_STOP_STEP_SECONDS: Final = 3.0
_SCREENSHOT_SECONDS: Final = 5.0
_CONNECT_1PASSWORD_SECONDS: Final = 30.0
# Actions that carry a secret to a page. Others would put it into files, addresses, scripts, or the answer.
_TYPING: Final = frozenset({"input", "send_keys"})
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger("cdpbridge.agent")


class Cutter:
    """Replaces secrets, in every spelling they take in texts and addresses, by their names.

    Longest first, so that a secret within another leaves no rest of it.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        spelled: dict[str, str] = {}
        for value, name in names.items():
            for spelling in _spellings(value):
                spelled.setdefault(spelling, f"<secret>{name}</secret>")
        self._spelled = spelled
        self._bytes = {spelling.encode(errors="replace"): name.encode() for spelling, name in spelled.items()}
        ordered = sorted(spelled, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
        self._bytes_pattern = re.compile(self._pattern.pattern.encode(errors="replace"))

    def text(self, text: str) -> str:
        return self._pattern.sub(lambda found: self._spelled[found[0]], text)

    def value(self, value: Any) -> Any:
        """A JSON value, cut in its strings, its keys among them."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def file(self, path: Path) -> bool:
        """Cut a file in place. Whether there was anything to cut."""
        content = path.read_bytes()
        cut = self._bytes_pattern.sub(lambda found: self._bytes[found[0]], content)
        if cut == content:
            return False
        temporary = path.with_name(f".{path.name}.cut")
        temporary.write_bytes(cut)
        temporary.replace(path)
        return True


def written_files(folder: Path, cutter: Cutter) -> list[Path]:
    """What an agent has written into its task's folder, cut."""
    found = [
        path
        for name in ("output", "downloads")
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
    """The process that started us: it is told what happens, says what to do, and takes us along when it dies."""

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
        line = json.dumps({"event": event, **self.cutter.value(fields)})
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
            written_files(self._folder, self.cutter)
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
        cut = self._owner.cutter.value(actions)  # before they are JSON within JSON
        self._owner.tell(
            "step",
            number=self._number,
            memory=shortened((said and said.memory) or "", _STATE_CHARACTERS),
            # What a failed step has to say for itself is its error.
            evaluation_previous_goal=shortened(
                (said and said.evaluation_previous_goal) or ("" if said else "; ".join(errors)),
                _STATE_CHARACTERS,
            ),
            next_goal=shortened((said and said.next_goal) or "", _STATE_CHARACTERS),
            url=shortened(item.state.url or "", _STATE_CHARACTERS),
            actions=[json.dumps(shortened(action, OUTPUT_CHARACTERS // 10)) for action in cut],
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


def _is_step(item: Any) -> bool:
    """Whether a model was asked for it: not for the start page, and not for the note that the steps are used up."""
    return item.metadata is not None and item.metadata.step_number > 0


def output_model(text: str) -> Any:
    """A pydantic class that shows the model this schema and accepts what it allows, no less and no more."""
    import jsonschema
    from pydantic import RootModel, model_validator

    schema = json.loads(text)
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(
        schema, format_checker=jsonschema.FormatChecker()
    )

    class Output(RootModel[Any]):
        @model_validator(mode="after")
        def _check(self) -> Any:
            wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(self.root)]
            if wrong:
                raise ValueError("the output does not fit the schema: " + "; ".join(wrong[:5]))
            return self

        @classmethod
        def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
            return json.loads(text)

    return Output


def _model(spec: Mapping[str, Any]) -> Any:
    from browser_use import ChatOpenAI

    class Model(ChatOpenAI):  # type: ignore[misc]  # its class is unknown where types are checked
        async def ainvoke(self, *args: Any, **options: Any) -> Any:
            asked_at = time.monotonic()
            waiting = asyncio.create_task(_count_the_wait(asked_at))
            try:
                return await super().ainvoke(*args, **options)
            finally:
                waiting.cancel()
                logger.info("the model took %.1f s", time.monotonic() - asked_at)

    return Model(
        model=spec["model"],
        base_url=spec["llm_base_url"],
        api_key=spec["llm_api_key"] or "none",  # its client insists on one
        max_retries=_LLM_RETRIES,
        # Endpoints differ in what they allow here; each has a default of its own.
        temperature=None,
        frequency_penalty=None,
        max_completion_tokens=None,
    )


async def _count_the_wait(asked_at: float) -> None:
    while True:
        await asyncio.sleep(_SLOW_SECONDS)
        logger.info("the model has not answered for %.0f s", time.monotonic() - asked_at)


def _extension(spec: Mapping[str, Any]) -> str | None:
    """What is added to the system prompt: the caller's words, and what the session has done before."""
    parts = [spec["system_prompt_extension"]] if spec["system_prompt_extension"] else []
    earlier = spec["earlier"][-_EARLIER_TASKS:]
    if earlier:
        parts.append(
            "This browser session has done tasks before. Their outputs, oldest first:\n"
            + "\n".join(f"{i}. {shortened(text, _EARLIER_CHARACTERS)}" for i, text in enumerate(earlier, 1))
        )
    return "\n\n".join(parts) or None


def _make_agent(spec: Mapping[str, Any], secrets: Mapping[str, Any]) -> Any:
    from browser_use import Agent, BrowserProfile, BrowserSession

    folder = Path(spec["folder"])
    model = _model(spec)
    profile = BrowserProfile(
        cdp_url=spec["cdp_url"],
        keep_alive=True,
        is_local=False,
        allowed_domains=spec["allowed_domains"] or None,
        highlight_elements=spec["highlight_elements"],
        enable_default_extensions=False,
        captcha_solver=False,
        downloads_path=folder / "downloads",
    )
    agent = Agent(
        task=spec["task"],
        llm=model,
        browser_session=BrowserSession(browser_profile=profile),
        task_id=spec["task_id"],
        source="cdpbridge",
        sensitive_data=dict(secrets) or None,
        initial_actions=[{"navigate": {"url": spec["start_url"], "new_tab": False}}]
        if spec["start_url"]
        else None,
        output_model_schema=output_model(spec["structured_output"]) if spec["structured_output"] else None,
        use_vision=spec["vision"],
        use_thinking=spec["thinking"],
        flash_mode=spec["flash_mode"],
        use_judge=spec["judge"],
        judge_llm=model,
        extend_system_message=_extension(spec),
        available_file_paths=spec["uploads"],
        file_system_path=str(folder / "output"),
        display_files_in_done_text=False,
        calculate_cost=False,
        generate_gif=False,
        enable_signal_handler=False,
        llm_timeout=_LLM_SECONDS,
    )
    _keep_secrets_in_pages(agent)
    return agent


def _keep_secrets_in_pages(agent: Any) -> None:
    """Let only typing turn a placeholder into its value; as it is, browser-use does so in any action."""
    registry = agent.tools.registry
    execute = registry.execute_action

    async def execute_action(action_name: str, *args: Any, **options: Any) -> Any:
        if action_name not in _TYPING:
            options["sensitive_data"] = None
        return await execute(action_name, *args, **options)

    registry.execute_action = execute_action


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


async def _work(spec: Mapping[str, Any], owner: _Owner) -> None:
    names: dict[str, str] = dict(spec["hide"])
    secrets: dict[str, Any] = dict(spec["secrets"])
    owner.cutter = Cutter(names)
    vault = await _vault(spec) if spec["op_vault_id"] else {}
    for pattern, values in vault.items():
        secrets[pattern] = secrets.get(pattern, {}) | values
    hidden = {value: name for values in vault.values() for name, value in values.items()}
    # Told before the cutter knows them: this one line goes to the owner's memory alone.
    owner.tell("started", version=version("browser-use"), hide=hidden)
    owner.cutter = Cutter(hidden | names)
    _log_through(owner)

    agent = _make_agent(spec, secrets)
    owner.attach(agent)
    steps = _Steps(owner, Path(spec["folder"]) / "screenshots")
    run = asyncio.create_task(agent.run(max_steps=spec["max_steps"], on_step_end=steps.after_step))
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
    owner.tell("result", **_result(agent.history, steps, stopped=owner.stopping.is_set(), error=error))


def _result(history: Any, steps: _Steps, *, stopped: bool, error: BaseException | None) -> dict[str, Any]:
    if history.is_done():
        verdict = history.judgement()
        success = history.is_successful() if verdict is None else verdict["verdict"]
        output = shortened(history.final_result() or "", OUTPUT_CHARACTERS)
        return {"how": "finished", "output": output, "success": success}
    if stopped:
        return {"how": "stopped", "output": "stopped on request, before there was an answer", "success": None}
    if error is not None:
        reason = f"{type(error).__name__}: {error}"
    else:
        errors = [result.error for result in steps.last.result if result.error] if steps.last else []
        reason = "; ".join(errors) or "the browser was closed meanwhile"
    output = shortened(f"no answer after {steps.count} steps: {reason}", OUTPUT_CHARACTERS)
    return {"how": "finished", "output": output, "success": False}


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
    await _work(spec, _Owner(events, commands, Path(spec["folder"]), Path(spec["scratch"])))


if __name__ == "__main__":
    asyncio.run(_main())
    sys.stderr.flush()
    os._exit(0)  # threads of libraries, telemetry's among them, have nothing left to do
