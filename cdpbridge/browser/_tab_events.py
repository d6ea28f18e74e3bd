"""What a page tells: its console, dialogs, downloads, popups, requests and responses, as events of `Tab.on`."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from cdpbridge._concurrency import is_coroutine_function
from cdpbridge.cdp._payload import as_type
from cdpbridge.cdp._session import open_dialog, when_ended
from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.protocol import Network, Page, Runtime, Target
from cdpbridge.protocol._base import decoder_for

from ._response import request_of, response_of

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

    from ._downloads import Downloads
    from ._frames import Frames

__all__ = ["ConsoleMessage", "Dialog", "TabEvents"]

logger = logging.getLogger("cdpbridge")

Remove = Callable[[], None]
_NAMES: Final = ("console", "dialog", "download", "popup", "request", "response")


@dataclass(frozen=True, slots=True)
class ConsoleMessage:
    """A call of `console` in the page, in a frame of it, or in a worker.

    Attributes:
        type: The function: `"log"`, `"error"`, `"warning"`, `"info"`, `"debug"`, `"trace"` and so on.
        text: The arguments, as the console shows them.
        url: Script that called it; `""` when it has none.
        line: Line there, from 1 on; 0 when it is not known.
    """

    type: str
    text: str
    url: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Dialog:
    """An open dialog of the page, which waits for `accept` or `dismiss`.

    Attributes:
        type: `"alert"`, `"confirm"`, `"prompt"` or `"beforeunload"`.
        message: Its text.
        default_prompt: What a prompt suggests.
        url: Address of the frame that opened it.
    """

    type: Literal["alert", "confirm", "prompt", "beforeunload"] | str  # noqa: PYI051  # newer ones may come
    message: str
    default_prompt: str
    url: str
    _session: CDPSession = field(repr=False, compare=False)

    async def accept(self, prompt_text: str | None = None) -> None:
        """Close it with OK.

        Args:
            prompt_text: Answer to a prompt; default: `default_prompt`.

        Raises:
            CommandError: It is closed already.
        """
        text = self.default_prompt if prompt_text is None and self.type == "prompt" else prompt_text
        await self._session.send(Page.handle_java_script_dialog(accept=True, prompt_text=text))

    async def dismiss(self) -> None:
        """Close it with Cancel. Errors as of `accept`."""
        await self._session.send(Page.handle_java_script_dialog(accept=False))


class TabEvents:
    """The listeners of one tab.

    Args:
        attach: Makes a tab of a page's id.
    """

    def __init__(
        self,
        session: CDPSession,
        frames: Frames,
        downloads: Downloads,
        attach: Callable[[str], Coroutine[Any, Any, Any]],
    ) -> None:
        self._session = session
        self._frames = frames
        self._downloads = downloads
        self._attach = attach
        self._beginning: set[asyncio.Task[None]] = set()

    def on(self, name: str, handler: Callable[[Any], object]) -> Remove:
        """See `Tab.on`."""
        match name:
            case "console":
                return self._everywhere(Runtime.ConsoleAPICalled, handler, lambda event, _: _message(event))
            case "request":
                return self._everywhere(
                    Network.RequestWillBeSent,
                    handler,
                    lambda event, _: request_of(event.request, event.type, event.frame_id),
                )
            case "response":
                return self._everywhere(Network.ResponseReceived, handler, response_of)
            case "dialog":
                return self._on_dialog(handler)
            case "download":
                return self._on_download(handler)
            case "popup":
                return self._on_popup(handler)
        near = get_close_matches(str(name), _NAMES, n=1)
        raise ConfigurationError(
            f"a tab has no event {name!r}; it has {', '.join(map(repr, _NAMES))}"
            + (f"; do you mean {near[0]!r}?" if near else "; others by `tab.session.on`")
        )

    async def settled(self) -> None:
        """Return when the listeners that were added before hear everything."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    # --- how ------------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], what: str) -> None:
        async def begin() -> None:
            try:
                await work
            except CDPError as error:
                self._session.connection.report(error, self._session, what)

        task = self._session.connection.create_task(begin())
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _converted(
        self, handler: Callable[[Any], object], convert: Callable[[Any], Any]
    ) -> Callable[[Any], Any]:
        """Return `handler` as one of a session: a coroutine function if it is one, so that it gets a queue of its own."""
        if is_coroutine_function(handler):

            async def later(event: Any) -> None:
                await handler(convert(event))  # type: ignore[misc]

            return later

        def now(event: Any) -> None:
            result = handler(convert(event))
            if inspect.isawaitable(result):  # e.g. of `lambda dialog: dialog.accept()`
                self._session.connection.create_task(self._awaited(result, type(event).__name__))

        return now

    async def _awaited(self, result: Any, what: str) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001  # a handler's failure belongs to its owner
            self._session.connection.report(error, self._session, what)

    def _everywhere(
        self, kind: Any, handler: Callable[[Any], object], convert: Callable[[Any, CDPSession], Any]
    ) -> Remove:
        """Listen on the page and on the frames and workers in it."""
        removes: dict[CDPSession, tuple[Remove, Remove]] = {}
        removed = False

        def listen(session: CDPSession) -> None:
            def ended(_error: CDPError) -> None:
                removes.pop(session, None)

            removes[session] = (
                session.on(kind, self._converted(handler, lambda event: convert(event, session))),
                when_ended(session, ended),
            )

        async def setup(session: CDPSession) -> None:
            if session is not self._session and not removed:
                listen(session)

        def remove() -> None:
            nonlocal removed
            removed = True
            self._frames.forget(setup)
            while removes:
                for each in removes.popitem()[1]:
                    each()

        listen(self._session)
        self._begin(self._frames.set_up(setup), kind.METHOD)
        return remove

    def _on_dialog(self, handler: Callable[[Any], object]) -> Remove:
        session = self._session
        deliver = self._converted(handler, lambda event: _dialog(event, session))
        remove = session.on(Page.JavascriptDialogOpening, deliver)
        now_open = open_dialog(session)
        if now_open is None:
            return remove
        removed = False

        async def begin() -> None:
            if not removed and open_dialog(session) is now_open:
                result = deliver(as_type(now_open, decoder_for(Page.JavascriptDialogOpening)))
                if inspect.isawaitable(result):
                    await result

        method = Page.JavascriptDialogOpening.METHOD
        session.connection.create_task(self._awaited(begin(), method))

        def stop() -> None:
            nonlocal removed
            removed = True
            remove()

        return stop

    # --- downloads and popups -------------------------------------------------------------------------------------

    def _on_download(self, handler: Callable[[Any], object]) -> Remove:
        deliver = self._converted(handler, lambda download: download)

        def found(download: Any) -> None:
            result = deliver(download)
            if inspect.isawaitable(result):
                self._session.connection.create_task(self._awaited(result, "download"))

        removes = [self._downloads.listen(found)]
        stopped = False

        async def begin() -> None:
            release = await self._downloads.open()
            if stopped:
                release()
            else:
                removes.append(release)

        def stop() -> None:
            nonlocal stopped
            stopped = True
            while removes:
                removes.pop()()

        remove = self._until_end(stop)
        self._begin(begin(), "download")
        return remove

    def _until_end(self, stop: Remove) -> Remove:
        """Return what does `stop`, which listens on the whole browser; it is done when the page closes, too."""
        keep = when_ended(self._session, lambda _error: stop())

        def remove() -> None:
            keep()
            stop()

        return remove

    def _on_popup(self, handler: Callable[[Any], object]) -> Remove:
        root, mine = self._session.connection.root, self._session.target_id
        known: set[str] = set()
        begun = False

        async def show(target_id: str) -> None:
            try:
                tab = await self._attach(target_id)
            except CDPError as error:  # closed already
                logger.debug("a popup cannot be attached to: %s", error)
                return
            result = handler(tab)
            if inspect.isawaitable(result):
                await result

        def created(event: Target.TargetCreated) -> None:
            info = event.target_info
            if info.type != "page" or info.opener_id != mine or info.target_id in known:
                return
            known.add(info.target_id)
            if begun:  # what is there already is announced first
                self._session.connection.create_task(self._awaited(show(info.target_id), "popup"))

        async def begin() -> None:
            nonlocal begun
            await root.send(Target.set_discover_targets(discover=True))
            begun = True

        remove = self._until_end(root.on(Target.TargetCreated, created))
        self._begin(begin(), "popup")
        return remove


def _message(event: Runtime.ConsoleAPICalled) -> ConsoleMessage:
    frames = event.stack_trace.call_frames if event.stack_trace is not None else []
    return ConsoleMessage(
        type=event.type,
        text=" ".join(_shown(each) for each in event.args),
        url=frames[0].url if frames else "",
        line=frames[0].line_number + 1 if frames else 0,
    )


def _shown(value: Runtime.RemoteObject) -> str:
    if value.unserializable_value is not None:
        return str(value.unserializable_value)
    if value.type == "string":
        return str(value.value)
    if value.type == "undefined":
        return "undefined"
    if value.preview is not None and value.subtype != "error":
        return _preview(value.preview)
    if value.description is not None:
        return value.description
    return {True: "true", False: "false", None: "null"}.get(value.value, str(value.value))


def _preview(preview: Runtime.ObjectPreview) -> str:
    shown = [
        (each.value or each.type) if preview.subtype == "array" else f"{each.name}: {each.value or each.type}"
        for each in preview.properties
    ]
    more = ["..."] if preview.overflow else []
    inner = ", ".join([*shown, *more])
    return f"[{inner}]" if preview.subtype == "array" else f"{{{inner}}}"


def _dialog(event: Page.JavascriptDialogOpening, session: CDPSession) -> Dialog:
    return Dialog(event.type, event.message, event.default_prompt or "", event.url, session)
