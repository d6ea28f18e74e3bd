"""What a user does with a page: wait for an element, click it, fill it, press a key. Real input events, after checks in the page.

The checks wait in the page, at its own frames (`_page.js`): one message for as long as it takes, however long that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
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
from cdpbridge.protocol import Command, Emulation, Input, Runtime

from ._evaluate import NO_VALUE, number_of, thrown
from ._input import InputWatch
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
_ANSWER_SECONDS: Final = 1.0
"""How long a frame may take for that; one that hangs is left out."""
_TRY_MS: Final = 1000
"""How long an element in a frame is waited for before all frames are looked at again."""
_SHORT_MS: Final = 100
_TURN_MS: Final = 500
"""How long one action keeps the others waiting until its element is still and not covered."""
_AGAIN_SECONDS: Final = 0.02
_AT_ONCE: Final = frozenset({"attached", "visible", "enabled"})
"""Checks that the next wait repeats; the others need a pause, in which another action gets its turn."""

# Users' expressions see none of our names.
_EXPRESSION: Final = """(expression => {
    let over = false;
    return {
        stop: () => { over = true },
        run: async (time) => {
            const end = performance.now() + time;
            for (;;) {
                const value = await expression();
                if (value) {
                    if (typeof value === "bigint") return {number: `${value}n`};
                    if (typeof value === "number" && !Number.isFinite(value)) return {number: String(value)};
                    const kind = value === Object(value) && Object.getPrototypeOf(value);
                    const plain = kind === false || kind === Object.prototype || kind === Array.prototype;
                    return {value: plain && typeof value !== "symbol" ? value : true};
                }
                if (over || performance.now() >= end) return {};
                await new Promise(done => {
                    const timer = setTimeout(done, 100);
                    requestAnimationFrame(() => { clearTimeout(timer); done() });
                });
                if (over) return {};
            }
        },
    };
})(async () => (%s
))"""


class Actions:
    """The actions on one page."""

    def __init__(self, session: CDPSession, frames: Frames) -> None:
        self._session = session
        self._frames = frames
        self._focused = False
        # Input goes to the element that has the focus, so one action at a time moves that.
        self._turn = asyncio.Lock()

    async def click(self, selector: str, button: Button, count: int, timeout: float | timedelta) -> None:
        """See `Tab.click`."""
        if button not in _BUTTONS:
            raise ConfigurationError(
                f"button must be one of {', '.join(map(repr, _BUTTONS))}, not {button!r}"
            )
        if count not in {1, 2, 3}:
            raise ConfigurationError(f"count must be 1, 2 or 3, not {count!r}")

        with ExitStack() as stack:
            watch = InputWatch(self._session)

            async def send(_frame: Frame, point: Any) -> None:
                stack.enter_context(watch)
                await watch.send(_clicks(point["x"], point["y"], button, count))

            left = await self._act("click", "point", selector, timeout, send)
            await watch.follow(left())

    async def fill(self, selector: str, value: str, timeout: float | timedelta) -> None:
        """See `Tab.fill`."""
        _check_value(value)

        async def finish(frame: Frame, done: str) -> None:
            with InputWatch(self._session) as watch:
                if done == "type":
                    await watch.send([Input.insert_text(value)] if value else key_commands("Delete"))
                await watch.until_dialog(self._finish_filling(frame, done, selector))

        await self._act("fill", "fill", selector, timeout, finish, value)

    async def press(self, selector: str | None, key: str, timeout: float | timedelta) -> None:
        """See `Tab.press`."""
        commands = key_commands(key)
        with ExitStack() as stack:
            watch = InputWatch(self._session)

            async def send(_frame: Frame | None = None, _done: object = None) -> None:
                stack.enter_context(watch)
                await watch.send(commands)

            if selector is not None:
                left = await self._act("press", "focus", selector, timeout, send)
            else:
                left = _countdown(waiting_time("timeout", timeout))
                await self._focus()
                async with self._turn:
                    await send()
            await watch.follow(left())

    async def wait_for_selector(
        self, selector: str, state: SelectorState, timeout: float | timedelta
    ) -> None:
        """See `Tab.wait_for_selector`."""
        if state not in _STATES:
            raise ConfigurationError(f"state must be one of {', '.join(map(repr, _STATES))}, not {state!r}")
        limit = waiting_time("timeout", timeout)
        _check_selector(selector)
        await self._focus()
        wait = _Wait(self._frames, "wait", selector, limit, (state,))
        result = await self._within(wait, selector, wait.run())
        if "ok" not in result:
            raise self._failed("wait_for_selector", selector, limit, result)

    async def wait_for_expression(self, expression: str, timeout: float | timedelta) -> Any:
        """See `Tab.wait_for_expression`."""
        limit = waiting_time("timeout", timeout)
        script = _EXPRESSION % expression
        loop = asyncio.get_running_loop()
        end = loop.time() + limit.total_seconds()
        try:
            async with asyncio.timeout_at(end + _GRACE_SECONDS):
                while (left := end - loop.time()) > 0:
                    try:
                        found = await self._run(script, left)
                    except ConnectionClosed:
                        if self._session.connection.closed:
                            raise
                        continue  # it is being re-established
                    except CommandError as error:
                        if not moved_on(error):
                            raise
                        await asyncio.sleep(_AGAIN_SECONDS)
                        continue
                    if "number" in found:
                        return number_of(found["number"])
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

    async def _run(self, script: str, seconds: float) -> dict[str, Any]:
        """Run the waiting script of an expression; when the caller is cancelled, let it stop."""
        session = self._session
        made = await session.send(Runtime.evaluate(script))
        if made.exception_details is not None:
            raise thrown(made.exception_details)
        run = Runtime.call_function_on(
            "function(time) { return this.run(time) }",
            object_id=made.result.object_id,
            arguments=[Runtime.CallArgument(value=seconds * 1000)],
            await_promise=True,
            return_by_value=True,
            user_gesture=True,
        )
        try:
            answer = await session.send(run, timeout=timedelta(seconds=seconds, minutes=1))
        except CommandError as error:
            if error.message.startswith(NO_VALUE):
                return {"value": True}
            raise
        finally:
            if made.result.object_id is not None and session.closed is None:
                session.connection.create_task(_stop(session, made.result.object_id))
        if answer.exception_details is not None:
            raise thrown(answer.exception_details)
        return dict(answer.result.value)

    # --- in the page ----------------------------------------------------------------------------------------------

    async def _act(
        self,
        doing: str,
        method: str,
        selector: str,
        timeout: float | timedelta,
        then: Callable[[Frame, Any], Awaitable[None]],
        *more: object,
    ) -> Callable[[], float]:
        """Do something with an element once that can be done, then `then` with what came of it, before any other action.

        Waits change nothing in the page and keep no other action waiting.

        Returns:
            How many seconds of the timeout are left, as a function.
        """
        limit = waiting_time("timeout", timeout)
        left = _countdown(limit)
        _check_selector(selector)
        await self._focus()
        wait = _Wait(self._frames, "look", selector, limit, (method, *more))
        frame = self._frames.main
        while True:
            async with AsyncExitStack() as turn:
                result = await self._within(wait, selector, self._try(turn, wait, frame, method, more))
                if "ok" in result:
                    await then(frame, result["ok"])
                    return left
            if not left() or (
                # Too short for another look at all frames to see more.
                wait.left() < _SHORT_MS and result["failed"] != "attached" and frame is not self._frames.main
            ):
                raise self._failed(doing, selector, limit, result)
            if result["failed"] not in _AT_ONCE:
                await asyncio.sleep(_AGAIN_SECONDS)
            tried, short = result, wait.left() < _LOOK_MS
            result = await self._within(wait, selector, wait.run())
            if "ok" not in result:
                seen = tried if short and result["failed"] == "attached" else result
                raise self._failed(doing, selector, limit, seen)
            frame = wait.frame

    async def _try(
        self, turn: AsyncExitStack, wait: _Wait, frame: Frame, method: str, more: tuple[object, ...]
    ) -> None:
        await turn.enter_async_context(self._turn)
        await wait.act(frame, method, *((wait.turn,) if method == "point" else more))

    async def _within(self, wait: _Wait, selector: str, work: Coroutine[Any, Any, None]) -> dict[str, Any]:
        """Do a part of a wait; return what it saw last, when its time is over, too."""
        try:
            async with asyncio.timeout(wait.left() / 1000 + _GRACE_SECONDS) as deadline:
                await work
        except EvaluationError as error:
            text = error.args[0].partition("\n")[0]
            raise ElementError(selector, "is no selector" if "SyntaxError" in text else text) from None
        except TimeoutError:
            if not deadline.expired():
                raise
        if "wrong" in wait.last:
            raise ElementError(selector, wait.last["wrong"])
        return wait.last

    def _failed(self, doing: str, selector: str, limit: timedelta, result: dict[str, Any]) -> ActionTimeout:
        hint = "; ".join(each for each in (result.get("detail"), self._session.hint()) if each)
        return ActionTimeout(
            doing,
            selector=selector,
            check=result["failed"],
            target=self._session.describe(),
            waited=limit,
            hint=hint or None,
        )

    async def _finish_filling(self, frame: Frame, done: str, selector: str) -> None:
        """Tell the page of a value that was set; raise ElementError when a text landed elsewhere."""
        try:
            result = await self._frames.call(frame, done, once=True)
        except (CommandError, TargetClosed):  # the page has moved on, or has removed the frame, because of it
            return
        if "wrong" in result:
            raise ElementError(selector, result["wrong"])

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
        frame: Where.
    """

    def __init__(
        self, frames: Frames, method: str, selector: str, limit: timedelta, more: tuple[object, ...]
    ) -> None:
        self.last: dict[str, Any] = {"failed": "attached", "detail": "the page did not answer"}
        self.frame = frames.main
        self._frames = frames
        self._method = method
        self._selector = selector
        self._more = more
        self._left = _countdown(limit)
        self._covered: dict[str, Any] | None = None

    def left(self) -> float:
        """Milliseconds until the end."""
        return self._left() * 1000

    async def run(self) -> None:
        """Wait; `last` and `frame` have the result."""
        self.frame = self._frames.main
        self.last = await self._call(self.frame, self.left, alone=False)
        if not self.last.get("away"):
            return
        while True:
            frames = await self._frames.all()
            if self._method == "wait" and self._more[0] in {"hidden", "detached"}:
                self.frame, self.last = await self._in_none(frames)
            elif self.left() < _SHORT_MS and self.last["failed"] != "attached":
                return  # too short for another try to see more
            else:
                self.frame, self.last = await self._in_one(frames)
            if "ok" in self.last or "wrong" in self.last or not self.left():
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    def turn(self) -> float:
        """Milliseconds of one try."""
        return min(self.left(), _TURN_MS)

    async def act(self, frame: Frame, method: str, *given: object) -> None:
        """Call a method that acts, in the frame that was found; `last` has its result."""
        short = self.left() < _SHORT_MS
        try:
            result = dict(await self._frames.call(frame, method, self._selector, *given, once=True))
            if method == "point" and "ok" in result and frame is not self._frames.main:
                frames = await self._frames.all()
                result = await self._frames.point_in_window(frame, frames, result["ok"])
        except ConnectionClosed:
            if frame.session.connection.closed:
                raise
            result = {"failed": "attached", "detail": "the connection was re-established"}
        except CommandError as error:
            result = {"failed": "attached", "detail": f"its frame was removed ({error.message})"}
        except TargetClosed:
            if frame.session is self._frames.main.session:
                raise
            result = {"failed": "attached", "detail": "its frame was removed"}
        if result.get("failed") == "receives the click":
            self._covered = result
        elif short and result.get("failed") == "stable" and self._covered is not None:
            result = self._covered  # too short for this try to see more
        self.last = result

    async def _in_one(self, frames: list[Frame]) -> tuple[Frame, dict[str, Any]]:
        main = frames[0]
        frame = await self._first_with(frames)
        if frame is None:
            return main, {"failed": "attached", "detail": f"no element matches in {len(frames)} frames"}
        try:
            result = await self._call(frame, lambda: min(self.left(), _TRY_MS), alone=True)
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
                async with asyncio.timeout(None if frame is frames[0] else _ANSWER_SECONDS):
                    result = await self._call(frame, lambda: min(self.left(), _LOOK_MS), alone=True)
            except (CommandError, TargetClosed, TimeoutError):
                if frame is frames[0]:
                    raise
                continue  # removed: nothing is in it; or it hangs
            if "ok" not in result:
                break
        return frames[0], result

    async def _first_with(self, frames: list[Frame]) -> Frame | None:
        """Return the first of the frames that has the element, as soon as one has it; None when none has, after a while."""

        def time() -> float:
            return min(self.left(), _LOOK_MS)

        tasks = {
            asyncio.create_task(self._frames.call(each, "wait", self._selector, time, True, "attached")): each
            for each in frames
        }
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break  # the others hang
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


def _countdown(limit: timedelta) -> Callable[[], float]:
    """Return a function that tells how many seconds of `limit` are left, 0 at least."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit.total_seconds()
    return lambda: max(end - loop.time(), 0.0)


async def _stop(session: CDPSession, object_id: str) -> None:
    """End the waiting script of an expression, and release it."""
    with suppress(CDPError):  # it has ended with its document
        await session.send(Runtime.call_function_on("function() { this.stop() }", object_id=object_id))
        await session.send(Runtime.release_object(object_id))


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
