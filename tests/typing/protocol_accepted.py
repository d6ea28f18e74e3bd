"""What a type checker knows about the generated protocol. Checked, never run: see tests/test_typing.py."""

from typing import Any, Literal, assert_type

from cdpbridge.protocol import DOM, Command, Event, Input, Network, Page, Runtime, Target, Type, event_class
from cdpbridge.protocol._base import decoder_for

assert_type(Page.navigate("https://example.com"), Command[Page.NavigateResult])
assert_type(Page.navigate(url="https://example.com", referrer=None), Command[Page.NavigateResult])
assert_type(Page.enable(), Command[None])
assert_type(Runtime.evaluate("1 + 1", return_by_value=True), Command[Runtime.EvaluateResult])
assert_type(Target.attach_to_target("id", flatten=True), Command[Target.AttachToTargetResult])

# Enumerations are open: the constants and any other string will do.
Page.navigate("u", transition_type=Page.TransitionType.LINK)
Page.navigate("u", transition_type="a type of tomorrow")
assert_type(Page.CaptureScreenshotFormat.PNG, Literal["png"])

# Parameters that are classes, with wire names hidden.
Input.dispatch_touch_event("touchStart", [Input.TouchPoint(x=1, y=2, radius_x=3)])
Runtime.call_function_on("f", arguments=[Runtime.CallArgument(value=None), Runtime.CallArgument()])
Network.set_extra_http_headers({"Accept": "text/html"})


def on_response(event: Network.ResponseReceived) -> None:
    assert_type(event.METHOD, str)
    assert_type(event.response, Network.Response)
    assert_type(event.response.status, int)
    assert_type(event.response.headers, dict[str, Any])
    assert_type(event.frame_id, str | None)
    assert_type(event.response.timing, Network.ResourceTiming | None)


def on_request(event: Network.RequestWillBeSent) -> None:
    stack = event.initiator.stack  # a class of another domain
    assert_type(stack, Runtime.StackTrace | None)


def of_results(
    shot: Page.CaptureScreenshotResult, tree: DOM.GetDocumentResult, value: Runtime.EvaluateResult
) -> None:
    assert_type(shot.data, bytes)
    assert_type(tree.root.children, list[DOM.Node] | None)
    assert_type(value.result.value, Any)


assert_type(event_class("Page.loadEventFired"), type[Event] | None)
assert_type(decoder_for(Page.LoadEventFired).decode(b"{}"), Page.LoadEventFired)
node: Type = DOM.BackendNode(node_type=1, node_name="DIV", backend_node_id=1)
