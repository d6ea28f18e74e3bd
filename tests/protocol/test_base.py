from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import types

import msgspec
import pytest

from cdpbridge.protocol import Command, Event, Input, Network, Page, Runtime, event_class
from cdpbridge.protocol._base import LazyDomain, decoder_for, result_type_name
from tests.cases import cases


def test_command_holds_wire_names_and_leaves_out_what_is_none() -> None:
    command = Page.navigate("https://example.com", referrer="r")
    assert command.method == "Page.navigate"
    assert command.params == {"url": "https://example.com", "referrer": "r"}
    assert command.result_type is Page.NavigateResult


def test_command_without_a_reply_has_no_result_type() -> None:
    assert Page.enable().result_type is None
    assert result_type_name(Page.enable()) == "nothing"
    assert result_type_name(Page.navigate("x")) == "NavigateResult"


def test_commands_compare_by_content() -> None:
    assert Page.navigate("a") == Page.navigate("a")
    assert Page.navigate("a") != Page.navigate("b")
    assert Page.navigate("a") != "Page.navigate"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Page.navigate("a"))


def test_command_repr_keeps_values_to_itself() -> None:
    assert repr(Network.set_cookie("sid", "secret")) == "Command(Network.setCookie, name, value)"
    assert repr(Page.enable()) == "Command(Page.enable, no parameters)"


def test_a_command_keeps_false_zero_and_empty() -> None:
    assert Runtime.evaluate("", silent=False, context_id=0, object_group="").params == {
        "expression": "",
        "objectGroup": "",
        "silent": False,
        "contextId": 0,
    }


def test_a_command_is_built_by_one_call() -> None:
    """Its cost is most of what a typed command takes more than a method name and a dict."""
    calls = []

    def note(frame: types.FrameType, kind: str, _argument: object) -> None:
        if kind == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        Runtime.evaluate("1", return_by_value=True)
    finally:
        sys.setprofile(None)
    assert calls == ["evaluate"]


def test_each_command_has_parameters_of_its_own() -> None:
    first, second = Page.enable(), Page.enable()
    first.params["enableFileChooserOpenedEvent"] = True
    assert second.params == {}
    assert copy.deepcopy(first) == pickle.loads(pickle.dumps(first)) == first


@pytest.mark.parametrize("text", ["7", "7.0", "0.7e1", "70e-1", '"7"'])
def test_an_integer_may_be_written_like_a_float(text: str) -> None:
    event = decoder_for(Runtime.ExecutionContextDestroyed).decode(
        f'{{"executionContextId":{text},"executionContextUniqueId":"u"}}'
    )
    assert event.execution_context_id == 7
    assert type(event.execution_context_id) is int


def test_an_integer_may_be_written_as_1e3() -> None:
    event = decoder_for(Page.ScreencastFrame).decode(
        '{"data":"","metadata":{"offsetTop":0,"pageScaleFactor":1,"deviceWidth":1e3,"deviceHeight":1,'
        '"scrollOffsetX":0,"scrollOffsetY":0},"sessionId":1e3}'
    )
    assert event.session_id == 1000
    assert event.metadata.device_width == 1000.0


def test_the_text_null_is_not_null() -> None:
    error = decoder_for(Page.NavigateResult).decode('{"frameId":"null","errorText":"null"}')
    assert error.error_text == "null"


def test_fault_a59_unknown_event_enum_value_and_extra_field() -> None:
    assert event_class("Page.somethingNew") is None
    event = decoder_for(Runtime.ConsoleAPICalled).decode(
        '{"type":"shout","args":[{"type":"tuple","novel":{"a":[1]}}],"executionContextId":1,"timestamp":1,"more":1}'
    )
    assert event.type == "shout"
    assert event.args[0].type == "tuple"


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xfe\xfd", b">>>???", bytes(range(256))])
def test_binary_fields_are_bytes_both_ways(data: bytes) -> None:
    text = msgspec.json.encode(data)
    assert decoder_for(Page.CaptureScreenshotResult).decode(b'{"data":%s}' % text).data == data
    assert (
        msgspec.json.encode(Page.add_compilation_cache("u", data).params) == b'{"url":"u","data":%s}' % text
    )


def test_parameters_of_a_class_encode_with_wire_names_and_without_none() -> None:
    command = Input.dispatch_touch_event(
        Input.DispatchTouchEventType.TOUCH_START,
        [Input.TouchPoint(x=1, y=2.5, radius_x=3, id=0)],
        modifiers=8,
    )
    assert msgspec.json.decode(msgspec.json.encode(command.params)) == {
        "type": "touchStart",
        "touchPoints": [{"x": 1, "y": 2.5, "radiusX": 3, "id": 0}],
        "modifiers": 8,
    }


def test_null_is_told_from_undefined_in_call_arguments() -> None:
    assert msgspec.json.encode(Runtime.CallArgument(value=None)) == b'{"value":null}'
    assert msgspec.json.encode(Runtime.CallArgument()) == b"{}"
    assert msgspec.json.encode(Runtime.CallArgument(object_id="1")) == b'{"objectId":"1"}'


@cases(
    ("method", "expected"),
    [
        ("Page.loadEventFired", Page.LoadEventFired),
        ("Network.responseReceived", Network.ResponseReceived),
        ("Page.LoadEventFired", None),  # the wire's spelling only
        ("Page.navigate", None),
        ("Page.Frame", None),
        ("Page.", None),
        ("Page", None),
        ("", None),
        ("Nowhere.loadEventFired", None),
        ("__doc__.x", None),
    ],
)
def test_event_class_by_wire_name(method: str, expected: type[Event] | None) -> None:
    assert event_class(method) is expected


def test_lazy_domain_loads_on_a_name_and_not_on_inspection() -> None:
    domain = LazyDomain("cdpbridge.protocol.page")
    assert domain.Frame is Page.Frame
    absent = LazyDomain("cdpbridge.protocol.no_such_domain")
    assert not hasattr(absent, "__wrapped__")
    with pytest.raises(ModuleNotFoundError):
        _ = absent.Frame


def test_command_is_usable_with_any_method() -> None:
    command: Command[Page.NavigateResult] = Command("Custom.do", {"a": 1}, Page.NavigateResult)
    assert (command.method, command.params) == ("Custom.do", {"a": 1})


def loaded_domains(code: str) -> set[str]:
    report = "import sys; print(*sorted(m.removeprefix('cdpbridge.protocol.') for m in sys.modules if m.startswith('cdpbridge.protocol.')))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) - {"_base"}


@pytest.mark.parametrize(
    ("code", "domains"),
    [
        ("import cdpbridge.protocol", set()),
        ("from cdpbridge.protocol import Page", {"page"}),
        ("from cdpbridge.protocol import Network; Network.enable()", {"network"}),
        ("import cdpbridge.protocol as p; dir(p); hasattr(p, 'Nowhere')", set()),
    ],
)
def test_a_domain_is_loaded_when_it_is_used(code: str, domains: set[str]) -> None:
    assert loaded_domains(code) == domains
