"""What a type checker must refuse: each marked line, for the reason given. Checked, never run: see tests/test_typing.py."""

import cdpbridge.protocol
from cdpbridge.protocol import Command, Input, Network, Page, Runtime

cdpbridge.protocol.Nowhere  # expect: attr-defined

Page.navigate()  # expect: call-arg
Page.navigate(1)  # expect: arg-type
Page.navigate("u", "referrer")  # expect: call-arg
Page.navigate("u", refferer="r")  # expect: call-arg
Page.navigate("u", frameId="f")  # expect: call-arg
Page.navigate_to("u")  # expect: attr-defined
Page.TransitionType.TELEPORT  # expect: attr-defined
Input.TouchPoint(1, 2)  # expect: call-arg
Input.TouchPoint(x=1)  # expect: call-arg
Input.dispatch_touch_event("touchStart", [{"x": 1, "y": 2}])  # expect: list-item
Page.add_compilation_cache("u", "base64")  # expect: arg-type

wrong: Command[Page.NavigateResult] = Runtime.evaluate("1")  # expect: assignment
nothing: Command[Page.NavigateResult] = Page.enable()  # expect: assignment


def on_response(event: Network.ResponseReceived) -> str:
    event.request  # expect: attr-defined
    return event.frame_id  # expect: return-value
