"""What a user does with a page: wait for an element, click it, fill it, press a key. Real input events, after checks in the page.

The checks wait in the page, at its own frames (`_page.js`): one message for as long as it takes, however long that is.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from cdpbridge._durations import waiting_time
from cdpbridge.errors import (
    ActionTimeout,
    CDPError,
    CommandError,
    CommandTimeout,
    ConfigurationError,
    ConnectionClosed,
    ElementError,
    EvaluationError,
    TargetClosed,
)
from cdpbridge.protocol import Command, Emulation, Input

from ._evaluate import evaluate
from ._input import send_input
from ._keys import key_commands
from ._navigation import moved_on

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

    from ._frames import Frame, Frames

__all__ = ["ACTION_TIMEOUT", "Actions", "Button", "SelectorState"]

Button = Literal["left", "middle", "right"]
SelectorState = Literal["attached", "visible", "hidden", "detached"]

ACTION_TIMEOUT: Final = timedelta(seconds=30)
"""Playwright's default, which its users expect."""

_BUTTONS: Final = {"left": 1, "right": 2, "middle": 4}
"""Bits of `buttons` in `Input.dispatchMouseEvent`."""
_STATES: Final = ("attached", "visible", "hidden", "detached")
_GRACE_SECONDS: Final = 1.0
"""The page itself ends the wait, and says what it saw. A page that computes does not: then this much later, the wait ends here."""
_LOOK_MS: Final = 300
"""How long all frames are looked at before they are listed again."""
_TRY_MS: Final = 1000
"""How long an element in a frame is waited for before all frames are looked at again."""
_SHORT_MS: Final = 100
_FOLLOW_SECONDS: Final = 30.0
"""How long a click or key waits for the document of the page it leads to: Playwright's default for navigations. No failure then."""
_AGAIN_SECONDS: Final = 0.02

_EXPRESSION: Final = """(async (end) => {
    for (;;) {
        const value = await (%s
        );
        if (value) {
            const kind = value === Object(value) && Object.getPrototypeOf(value);
            return {value: kind === false || kind === Object.prototype || kind === Array.prototype ? value : true};
        }
        if (performance.now() >= end) return {};
        await new Promise(done => {
            const timer = setTimeout(done, 100);
            requestAnimationFrame(() => { clearTimeout(timer); done() });
        });
    }
})(performance.now() + %d)"""


class Actions:
    """The actions on one page."""

    def __init__(self, session: CDPSession, frames: Frames) -> None:
        self._session = session
        self._frames = frames
        self._focused = False

    async def click(self, selector: str, button: Button, count: int, timeout: float | timedelta) -> None:
        """See `Tab.click`."""
        if button not in _BUTTONS:
            raise ConfigurationError(
                f"button must be one of {', '.join(map(repr, _BUTTONS))}, not {button!r}"
            )
        if count not in {1, 2, 3}:
            raise ConfigurationError(f"count must be 1, 2 or 3, not {count!r}")
        _wait, point = await self._do("click", "point", selector, timeout)
        commands = _clicks(point["x"], point["y"], button, count)
        await send_input(self._session, commands, follow_seconds=_FOLLOW_SECONDS)

    async def fill(self, selector: str, value: str, timeout: float | timedelta) -> None:
        """See `Tab.fill`."""
        _check_value(value)
        _frame, done = await self._do("fill", "fill", selector, timeout, value)
        if done == "type":
            await send_input(self._session, [Input.insert_text(value)] if value else key_commands("Delete"))

    async def press(self, selector: str | None, key: str, timeout: float | timedelta) -> None:
        """See `Tab.press`."""
        commands = key_commands(key)
        if selector is None:
            await self._focus()
        else:
            await self._do("press", "focus", selector, timeout)
        await send_input(self._session, commands, follow_seconds=_FOLLOW_SECONDS)

    async def wait_for_selector(
        self, selector: str, state: SelectorState, timeout: float | timedelta
    ) -> None:
        """See `Tab.wait_for_selector`."""
        if state not in _STATES:
            raise ConfigurationError(f"state must be one of {', '.join(map(repr, _STATES))}, not {state!r}")
        await self._do("wait_for_selector", "wait", selector, timeout, state)

    async def wait_for_expression(self, expression: str, timeout: float | timedelta) -> Any:
        """See `Tab.wait_for_expression`."""
        limit = waiting_time("timeout", timeout)
        loop = asyncio.get_running_loop()
        end = loop.time() + limit.total_seconds()
        try:
            async with asyncio.timeout_at(end + _GRACE_SECONDS):
                while (left := end - loop.time()) > 0:
                    script = _EXPRESSION % (expression, left * 1000)
                    try:
                        found = await evaluate(self._session, script, timeout=limit + timedelta(minutes=1))
                    except ConnectionClosed:
                        if self._session.connection.closed:
                            raise
                        continue  # it is being re-established
                    except CommandError as error:
                        if not moved_on(error):
                            raise
                        await asyncio.sleep(_AGAIN_SECONDS)
                        continue
                    if "value" in found:
                        return found["value"]
        except CommandTimeout:
            raise
        except TimeoutError:
            pass
        raise ActionTimeout(
            "wait_for_expression",
            selector=expression,
            check="true",
            target=self._session.describe(),
            waited=limit,
            hint=self._session.hint(),
        )

    # --- in the page ----------------------------------------------------------------------------------------------

    async def _do(
        self, doing: str, method: str, selector: str, timeout: float | timedelta, *more: object
    ) -> tuple[Frame, Any]:
        """Call a method of the page's script that waits for an element, in the frame that has it.

        Returns:
            The frame, and what the method has returned as `ok`; a point is one in the page's window.
        """
        limit = waiting_time("timeout", timeout)
        _check_selector(selector)
        await self._focus()
        wait = _Wait(self._frames, method, selector, limit, more)
        try:
            async with asyncio.timeout(limit.total_seconds() + _GRACE_SECONDS) as deadline:
                frame, result = await wait.run()
        except EvaluationError as error:
            text = error.args[0].partition("\n")[0]
            raise ElementError(selector, "is no selector" if "SyntaxError" in text else text) from None
        except TimeoutError:
            if not deadline.expired():
                raise
            result = wait.last
        if "ok" in result:
            return frame, result["ok"]
        if "wrong" in result:
            raise ElementError(selector, result["wrong"])
        hint = "; ".join(each for each in (result.get("detail"), self._session.hint()) if each)
        raise ActionTimeout(
            doing,
            selector=selector,
            check=result["failed"],
            target=self._session.describe(),
            waited=limit,
            hint=hint or None,
        )

    # --- input ----------------------------------------------------------------------------------------------------

    async def _focus(self) -> None:
        """Let the page believe that its window has the focus, as one page of a browser at most has it."""
        if not self._focused:
            await self._session.send(Emulation.set_focus_emulation_enabled(enabled=True))
            self._focused = True


class _Wait:
    """A wait for an element, in the main frame first, and in all of them when that has frames and no such element.

    Attributes:
        last: What the last try saw.
    """

    def __init__(
        self, frames: Frames, method: str, selector: str, limit: timedelta, more: tuple[object, ...]
    ) -> None:
        self.last: dict[str, Any] = {"failed": "attached", "detail": "the page did not answer"}
        self._frames = frames
        self._method = method
        self._selector = selector
        self._more = more
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + limit.total_seconds()

    def _left(self) -> float:
        """Milliseconds until the end."""
        return max((self._end - self._loop.time()) * 1000, 0)

    async def run(self) -> tuple[Frame, dict[str, Any]]:
        """Return the frame and the result there."""
        main = self._frames.main
        self.last = await self._call(main, self._left, alone=False)
        if not self.last.get("away"):
            return main, self.last
        while True:
            frames = await self._frames.all()
            if self._method == "wait" and self._more[0] in {"hidden", "detached"}:
                frame, self.last = await self._in_none(frames)
            elif self._left() < _SHORT_MS and self.last["failed"] != "attached":
                return frames[0], self.last  # too short for another try to see more
            else:
                frame, self.last = await self._in_one(frames)
            if "ok" in self.last or "wrong" in self.last or not self._left():
                return frame, self.last
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _in_one(self, frames: list[Frame]) -> tuple[Frame, dict[str, Any]]:
        main = frames[0]
        frame = await self._first_with(frames)
        if frame is None:
            return main, {"failed": "attached", "detail": f"no element matches in {len(frames)} frames"}
        try:
            result = await self._call(frame, lambda: min(self._left(), _TRY_MS), alone=True)
            if self._method == "point" and "ok" in result:
                result = await self._frames.point_in_window(frame, frames, result["ok"])
        except CommandError as error:  # the frame was removed, or one around it
            return main, {"failed": "attached", "detail": f"its frame was removed ({error.message})"}
        except TargetClosed:
            if frame.session is main.session:
                raise
            return main, {"failed": "attached", "detail": "its frame was removed"}
        return frame, result

    async def _in_none(self, frames: list[Frame]) -> tuple[Frame, dict[str, Any]]:
        result: dict[str, Any] = {"ok": True}
        for frame in frames:
            try:
                result = await self._call(frame, lambda: min(self._left(), _LOOK_MS), alone=True)
            except (CommandError, TargetClosed):
                if frame is frames[0]:
                    raise
                continue  # removed: nothing is in it
            if "ok" not in result:
                break
        return frames[0], result

    async def _first_with(self, frames: list[Frame]) -> Frame | None:
        """Return the first of the frames that has the element, as soon as one has it; None when none has, after a while."""

        def time() -> float:
            return min(self._left(), _LOOK_MS)

        tasks = {
            asyncio.create_task(self._frames.call(each, "wait", self._selector, time, True, "attached")): each
            for each in frames
        }
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                with_it = [task for task in tasks if task in done and self._has(task, tasks[task])]
                if with_it:
                    return tasks[with_it[0]]
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return None

    def _has(self, task: asyncio.Task[Any], frame: Frame) -> bool:
        error = task.exception()
        if error is None:
            return "ok" in task.result()
        if frame.parent_id is None or isinstance(error, EvaluationError) or not isinstance(error, CDPError):
            raise error
        return False  # it was removed

    async def _call(self, frame: Frame, time: Any, *, alone: bool) -> dict[str, Any]:
        result = await self._frames.call(frame, self._method, self._selector, time, alone, *self._more)
        return dict(result)


def _check_selector(selector: object) -> None:
    if not isinstance(selector, str) or not selector.strip():
        raise ConfigurationError(
            f"selector must be a text like 'button.save' or 'text=Save', not {selector!r}"
        )


def _check_value(value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"value must be a text, not {value!r}")


def _clicks(x: float, y: float, button: Button, count: int) -> list[Command[None]]:
    commands = [Input.dispatch_mouse_event("mouseMoved", x, y)]
    for number in range(1, count + 1):
        commands += [
            Input.dispatch_mouse_event(kind, x, y, button=button, buttons=buttons, click_count=number)
            for kind, buttons in (("mousePressed", _BUTTONS[button]), ("mouseReleased", 0))
        ]
    return commands
