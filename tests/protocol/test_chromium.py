"""The generated classes against a real Chromium, over a plain WebSocket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from cdpbridge._tools import pin_protocol
from cdpbridge.protocol import (
    CSS,
    DOM,
    Browser,
    Command,
    DOMSnapshot,
    Emulation,
    Event,
    Input,
    Network,
    Page,
    Runtime,
    Target,
    event_class,
)
from cdpbridge.protocol._base import decoder_for

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the definition is pinned from one build")]

T = TypeVar("T")
PNG = b"\x89PNG\r\n\x1a\n"
REPLY_TIMEOUT_SECONDS = 60


class Reply(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: Any = None


class Wire:
    """Sends one command at a time; keeps the raw messages of everything else that arrives."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.session_id: str | None = None
        self.events: list[tuple[str, bytes]] = []
        self.last_reply = b""
        self._ids = iter(range(1, 1_000_000))

    async def send(self, command: Command[T]) -> T:
        number = next(self._ids)
        message = {"id": number, "method": command.method, "params": command.params}
        if self.session_id:
            message["sessionId"] = self.session_id
        await self.socket.send(msgspec.json.encode(message).decode())
        while (raw := await self.receive())[0] != number:
            pass
        reply = msgspec.json.decode(raw[1], type=Reply)
        assert reply.error is None, (command.method, reply.error)
        self.last_reply = bytes(reply.result)
        if command.result_type is None:
            assert msgspec.json.decode(reply.result) == {}
            return None  # type: ignore[return-value]  # T is None here
        return decoder_for(command.result_type).decode(reply.result)

    async def receive(self) -> tuple[int | None, bytes]:
        text = await asyncio.wait_for(self.socket.recv(decode=False), REPLY_TIMEOUT_SECONDS)
        data = bytes(text)
        head = msgspec.json.decode(data)
        if "method" in head:
            self.events.append((head["method"], msgspec.json.encode(head["params"])))
        return head.get("id"), data

    async def until(self, kind: type[Event], text: bytes = b"") -> None:
        """Receive until an event of this class, with `text` in it, has come."""
        while not any(method == kind.METHOD and text in params for method, params in self.events):
            await self.receive()

    async def load(self, url: str) -> None:
        """Navigate, and wait for the page's load event."""
        await self.send(Page.enable())
        self.events.clear()
        assert (await self.send(Page.navigate(url))).error_text is None
        await self.until(Page.LoadEventFired)

    def of(self, kind: type[T]) -> list[T]:
        return [decoder_for(kind).decode(params) for method, params in self.events if method == kind.METHOD]


@pytest.fixture
async def wire(browser_address: str) -> AsyncIterator[Wire]:
    """A new tab, attached in flat mode, closed at the end."""
    async with connect(browser_address, max_size=None, compression=None) as socket:
        wire = Wire(socket)
        target = await wire.send(Target.create_target("about:blank"))
        attached = await wire.send(Target.attach_to_target(target.target_id, flatten=True))
        wire.session_id = attached.session_id
        yield wire
        wire.session_id = None
        await wire.send(Target.close_target(target.target_id))


async def test_version(wire: Wire) -> None:
    wire.session_id = None
    version = await wire.send(Browser.get_version())
    assert version.protocol_version == "1.3"
    assert "Chrome/" in version.product


async def test_navigate_and_its_events(wire: Wire, site: str) -> None:
    await wire.send(Page.enable())
    await wire.send(Network.enable())
    result = await wire.send(Page.navigate(f"{site}/frame"))
    assert result.error_text is None
    assert result.loader_id
    await wire.until(Page.LoadEventFired)
    (request,) = (
        event for event in wire.of(Network.RequestWillBeSent) if event.loader_id == result.loader_id
    )
    assert request.request.url == f"{site}/frame"
    assert request.type == Network.ResourceType.DOCUMENT
    (response,) = (
        event for event in wire.of(Network.ResponseReceived) if event.request_id == request.request_id
    )
    assert response.response.status == 200
    assert response.response.headers["Content-Type"] == "text/html"
    assert response.frame_id == result.frame_id


async def test_a_failed_navigation_says_why(wire: Wire) -> None:
    result = await wire.send(Page.navigate("http://127.0.0.1:9/"))
    assert result.error_text == "net::ERR_UNSAFE_PORT"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6 * 7", 42),
        ("6.5", 6.5),
        ("null", None),
        ("({a: [1, null]})", {"a": [1, None]}),
        ("'ü𝒳'", "ü𝒳"),
        ("1e21", 1e21),
    ],
)
async def test_evaluate_by_value(wire: Wire, expression: str, value: object) -> None:
    result = await wire.send(Runtime.evaluate(expression, return_by_value=True))
    assert result.result.value == value
    assert result.exception_details is None


async def test_evaluate_values_that_json_has_no_form_for(wire: Wire) -> None:
    for expression in ("-0", "NaN", "Infinity", "10n"):
        assert (await wire.send(Runtime.evaluate(expression))).result.unserializable_value == expression


async def test_evaluate_that_throws(wire: Wire) -> None:
    details = (await wire.send(Runtime.evaluate("throw new TypeError('no')"))).exception_details
    assert details is not None
    assert details.exception is not None
    assert details.exception.class_name == "TypeError"


async def test_null_and_undefined_arguments_arrive_as_such(wire: Wire) -> None:
    scope = (await wire.send(Runtime.evaluate("globalThis"))).result.object_id
    arguments = [Runtime.CallArgument(value=None), Runtime.CallArgument(), Runtime.CallArgument(value=[1])]
    call = Runtime.call_function_on(
        "(...all) => all.map(one => one === null ? 'null' : typeof one).join()",
        object_id=scope,
        arguments=arguments,
    )
    assert (await wire.send(call)).result.value == "null,undefined,object"


async def test_screenshot_is_bytes_and_its_base64_round_trips(wire: Wire) -> None:
    await wire.load("data:text/html,<h1>Hello")
    shot = await wire.send(Page.capture_screenshot(format=Page.CaptureScreenshotFormat.PNG))
    assert shot.data.startswith(PNG)
    text = msgspec.json.decode(wire.last_reply)["data"]
    assert base64.b64decode(text, validate=True) == shot.data
    assert msgspec.json.decode(msgspec.json.encode(shot)) == {"data": text}


async def test_pdf_is_bytes_or_a_stream(wire: Wire) -> None:
    assert (await wire.send(Page.print_to_pdf())).data.startswith(b"%PDF-")
    streamed = await wire.send(Page.print_to_pdf(transfer_mode=Page.PrintToPDFTransferMode.RETURN_AS_STREAM))
    assert streamed.data == b""
    assert streamed.stream


async def test_classes_as_parameters_are_understood(wire: Wire) -> None:
    await wire.send(Emulation.set_touch_emulation_enabled(True))
    await wire.load("data:text/html,<body style='height:999px'>")
    await wire.send(
        Runtime.evaluate(
            "addEventListener('touchstart', e => { t = e.touches[0]; seen = [t.clientX, t.radiusX] })"
        )
    )
    point = Input.TouchPoint(x=10, y=20, radius_x=3)
    await wire.send(Input.dispatch_touch_event(Input.DispatchTouchEventType.TOUCH_START, [point]))
    await wire.send(Input.dispatch_touch_event(Input.DispatchTouchEventType.TOUCH_END, []))
    assert (await wire.send(Runtime.evaluate("seen", return_by_value=True))).result.value == [10, 3]


async def test_cookies_go_in_and_come_back(wire: Wire, site: str) -> None:
    await wire.send(Network.set_cookies([Network.CookieParam(name="a", value="b", url=site, http_only=True)]))
    cookies = (await wire.send(Network.get_cookies(urls=[site]))).cookies
    assert [(cookie.value, cookie.http_only, cookie.session) for cookie in cookies if cookie.name == "a"] == [
        ("b", True, True)
    ]
    assert (await wire.send(Network.set_cookie("c", "d", url=site))).success


async def test_trees_of_a_page(wire: Wire, site: str) -> None:
    await wire.load(f"{site}/")
    await wire.send(DOM.enable())
    await wire.send(CSS.enable())
    root = (await wire.send(DOM.get_document(depth=-1, pierce=True))).root
    assert root.node_name == "#document"
    assert root.document_url == f"{site}/"
    heading = (await wire.send(DOM.query_selector(root.node_id, "h1"))).node_id
    styles = await wire.send(CSS.get_matched_styles_for_node(heading))
    assert styles.matched_css_rules
    snapshot = await wire.send(DOMSnapshot.capture_snapshot(["color"]))
    assert "H1" in snapshot.strings
    assert (await wire.send(Page.get_frame_tree())).frame_tree.frame.url == f"{site}/"
    assert (await wire.send(Page.get_layout_metrics())).css_layout_viewport.client_width > 0


ENABLED = (
    "Accessibility", "Animation", "Audits", "CSS", "Console", "DOM", "DOMStorage", "Debugger", "FedCm",
    "IndexedDB", "Inspector", "LayerTree", "Log", "Media", "Network", "Overlay", "Page", "Performance", "Preload",
    "Profiler", "Runtime", "Security", "ServiceWorker", "WebAudio",
)  # fmt: skip


async def test_every_event_of_a_busy_page_fits_its_class(wire: Wire, site: str) -> None:
    """All domains on: each event is known, decodes, and gives back what came, field for field."""
    await wire.send(Page.enable())
    await wire.send(DOM.enable())
    for domain in ENABLED:
        await wire.send(Command(f"{domain}.enable", {}, dict[str, Any]))
    await wire.send(Page.set_lifecycle_events_enabled(True))
    await wire.send(Target.set_discover_targets(True))
    await wire.send(Target.set_auto_attach(True, False, flatten=True))
    await wire.send(Page.start_screencast(format="jpeg", quality=20))
    await wire.send(DOM.get_document(depth=-1))
    await wire.send(Page.navigate(f"{site}/"))
    await wire.until(Runtime.ConsoleAPICalled, b"all done")
    await wire.until(Runtime.ExceptionThrown, b"on purpose")
    await wire.until(Page.LoadEventFired)
    await wire.send(Page.stop_screencast())

    assert len({method for method, _ in wire.events}) > 30
    same_version = (
        pin_protocol.load()["browser"].split("/")[1] in (await wire.send(Browser.get_version())).product
    )
    for method, params in wire.events:
        kind = event_class(method)
        assert kind is not None, method
        again = msgspec.json.decode(msgspec.json.encode(decoder_for(kind).decode(params)))
        if same_version:  # another version may send fields that the pinned definition does not have
            assert again == without_null(msgspec.json.decode(params)), method


def without_null(value: Any) -> Any:
    """Null is what an optional field reads as when it is absent, so it is not written again."""
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return [without_null(item) for item in value] if isinstance(value, list) else value
