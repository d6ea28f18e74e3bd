"""What a user does with a page: wait for an element, click it, fill it, press a key. Real input events, after checks in the page.

The checks wait in the page, at its own frames (`_page.js`): one message for as long as it takes, however long that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
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

from ._evaluate import NO_VALUE, is_function, number_of, thrown
from ._input import InputWatch
from ._keys import key_commands
from ._navigation import moved_on
from ._selectors import check_selector, selector_hint
from ._wait import AGAIN_SECONDS, LOOK_MS, SHORT_MS, Wait, countdown

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
_LAST_SECONDS: Final = 0.25
"""So much later again, what else an action does ends, e.g. to wait for the listeners of the tab."""
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

    def __init__(self, session: CDPSession, frames: Frames, settled: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frames = frames
        self._settled = settled
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
        check_selector(selector)

        async def send(watch: InputWatch, _frame: Frame, point: Any) -> None:
            await watch.send(_clicks(point["x"], point["y"], button, count))

        async with self._in_time("click", selector, timeout) as action:
            await self._act(action, "point", send)
            await action.follow()

    async def fill(self, selector: str, value: str, timeout: float | timedelta) -> None:
        """See `Tab.fill`."""
        _check_value(value)
        check_selector(selector)

        async def finish(watch: InputWatch, frame: Frame, done: str) -> None:
            if done == "type":
                await watch.send([Input.insert_text(value)] if value else key_commands("Delete"))
            await watch.until_dialog(self._finish_filling(frame, done, selector))

        async with self._in_time("fill", selector, timeout) as action:
            await self._act(action, "fill", finish, value)

    async def press(self, selector: str | None, key: str, timeout: float | timedelta) -> None:
        """See `Tab.press`."""
        commands = key_commands(key)

        async def send(watch: InputWatch, _frame: Frame, _done: object) -> None:
            await watch.send(commands)

        if selector is not None:
            check_selector(selector)
        async with self._in_time("press", key if selector is None else selector, timeout) as action:
            if selector is not None:
                await self._act(action, "focus", send)
            else:
                async with self._turn:
                    await send(action.begin(), self._frames.main, None)
            await action.follow()

    async def wait_for_selector(
        self, selector: str, state: SelectorState, timeout: float | timedelta
    ) -> None:
        """See `Tab.wait_for_selector`."""
        if state not in _STATES:
            raise ConfigurationError(f"state must be one of {', '.join(map(repr, _STATES))}, not {state!r}")
        check_selector(selector)
        async with self._in_time("wait_for_selector", selector, timeout) as action:
            wait = Wait(self._frames, "wait", selector, action.left, (state,))
            result = await self._within(wait, selector, wait.run())
            if "ok" not in result:
                raise self._failed(action, result)

    async def wait_for_expression(self, expression: str, timeout: float | timedelta) -> Any:
        """See `Tab.wait_for_expression`."""
        limit = waiting_time("timeout", timeout)
        if not isinstance(expression, str):
            raise ConfigurationError(f"expression must be a text like 'window.ready', not {expression!r}")
        if is_function(expression):
            raise ConfigurationError(
                "the expression is a function, which is true at once: call it, `(() => ...)()`, or write what it returns"
            )
        script = _EXPRESSION % expression.rstrip().removesuffix(";")
        loop = asyncio.get_running_loop()
        end = loop.time() + limit.total_seconds()
        try:
            async with asyncio.timeout_at(end + _GRACE_SECONDS):
                await self._settled()
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
                        await asyncio.sleep(AGAIN_SECONDS)
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

    @asynccontextmanager
    async def _in_time(
        self, doing: str, selector: str, timeout: float | timedelta
    ) -> AsyncGenerator[_Action, None]:
        """Do an action in a block, and end it when the page does not answer in time, whatever it waits for then.

        Raises:
            ActionTimeout: Before its input was sent.
            CommandTimeout: After that.
        """
        limit = waiting_time("timeout", timeout)
        action = _Action(self._session, doing, selector, limit)
        later = _GRACE_SECONDS + _LAST_SECONDS
        try:
            async with asyncio.timeout(limit.total_seconds() + later) as deadline:
                with action:
                    await self._settled()
                    await self._focus()
                    yield action
        except CommandTimeout:
            raise
        except TimeoutError:
            if not deadline.expired():
                raise
            if not action.begun:
                raise self._failed(
                    action, {"failed": "answers", "detail": "the page did not answer"}
                ) from None
            seen = "the page got the input and has not answered since"
            hint = "; ".join(each for each in (seen, self._session.hint()) if each)
            raise CommandTimeout(doing, target=self._session.describe(), waited=limit, hint=hint) from None

    async def _act(
        self,
        action: _Action,
        method: str,
        then: Callable[[InputWatch, Frame, Any], Awaitable[None]],
        *more: object,
    ) -> None:
        """Do something with an element once that can be done, then `then` with what came of it, before any other action.

        Waits change nothing in the page and keep no other action waiting.
        """
        selector = action.selector
        wait = Wait(self._frames, "look", selector, action.left, (method, *more))
        frame = self._frames.main
        while True:
            async with AsyncExitStack() as turn:
                result = await self._within(wait, selector, self._try(turn, wait, frame, method, more))
                if "ok" in result:
                    await then(action.begin(), frame, result["ok"])
                    return
            if not action.left() or (
                # Too short for another look at all frames to see more.
                wait.left() < SHORT_MS and result["failed"] != "attached" and frame is not self._frames.main
            ):
                raise self._failed(action, result)
            if result["failed"] not in _AT_ONCE:
                await asyncio.sleep(AGAIN_SECONDS)
            tried, short = result, wait.left() < LOOK_MS
            result = await self._within(wait, selector, wait.run())
            if "ok" not in result:
                raise self._failed(action, tried if short and result["failed"] == "attached" else result)
            frame = wait.frame

    async def _try(
        self, turn: AsyncExitStack, wait: Wait, frame: Frame, method: str, more: tuple[object, ...]
    ) -> None:
        await turn.enter_async_context(self._turn)
        await wait.act(frame, method, *((wait.turn,) if method == "point" else more))

    async def _within(self, wait: Wait, selector: str, work: Coroutine[Any, Any, None]) -> dict[str, Any]:
        """Do a part of a wait; return what it saw last, when its time is over, too."""
        try:
            async with asyncio.timeout(wait.left() / 1000 + _GRACE_SECONDS) as deadline:
                await work
        except EvaluationError as error:
            text = error.args[0].partition("\n")[0]
            reason = f"is no selector: {selector_hint(selector)}" if "SyntaxError" in text else text
            raise ElementError(selector, reason) from None
        except TimeoutError:
            if not deadline.expired():
                raise
        if "wrong" in wait.last:
            raise ElementError(selector, wait.last["wrong"])
        return wait.last

    def _failed(self, action: _Action, result: dict[str, Any]) -> ActionTimeout:
        hint = "; ".join(each for each in (result.get("detail"), self._session.hint()) if each)
        return ActionTimeout(
            action.doing,
            selector=action.selector,
            check=result["failed"],
            target=self._session.describe(),
            waited=action.limit,
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


class _Action:
    """One action, and its input once that begins; a context manager.

    Attributes:
        doing: Its verb.
        left: How many seconds of its timeout are left, as a function.
        begun: True once its input is on the way.
    """

    def __init__(self, session: CDPSession, doing: str, selector: str, limit: timedelta) -> None:
        self.doing = doing
        self.selector = selector
        self.limit = limit
        self.left = countdown(limit)
        self.begun = False
        self._watch = InputWatch(session)
        self._stack = ExitStack()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self) -> InputWatch:
        """Hear what the input brings about, from now on."""
        self.begun = True
        return self._stack.enter_context(self._watch)

    async def follow(self) -> None:
        """Wait for the page that the input leads to."""
        await self._watch.follow(self.left())


async def _stop(session: CDPSession, object_id: str) -> None:
    """End the waiting script of an expression, and release it."""
    with suppress(CDPError):  # it has ended with its document
        await session.send(Runtime.call_function_on("function() { this.stop() }", object_id=object_id))
        await session.send(Runtime.release_object(object_id))


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
