"""What a session remembers, when to try again, and for how long."""

import json
from pathlib import Path

import pytest
from msgspec import Raw

import cdpbridge
from cdpbridge.cdp import _backoff, _state
from cdpbridge.cdp._backoff import delay, is_fatal, resumable
from cdpbridge.cdp._state import STATEFUL, SessionState
from cdpbridge.cdp._transport import Closed
from cdpbridge.errors import ConfigurationError, ConnectFailed, MessageTooBig
from tests.cases import cases

DOMAINS = json.loads(Path(cdpbridge.__file__).with_name("_tools").joinpath("protocol.json").read_text())[
    "domains"
]
COMMANDS = {
    f"{domain['domain']}.{command['name']}": command
    for domain in DOMAINS
    for command in domain.get("commands", [])
}

DONE = Raw(b"{}")


def told(*commands):
    """A state after commands: `(method, params)` or `(method, params, result)`."""
    state = SessionState()
    for method, params, *result in commands:
        state.succeeded(method, params, *(Raw(json.dumps(one).encode()) for one in result or [{}]))
    return state


def steps(state):
    return [(step.method, step.params) for step in state.steps]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_names_commands_of_the_protocol():
    assert STATEFUL - COMMANDS.keys() == {
        "PerformanceTimeline.disable"
    }  # the one domain that cannot be disabled


def test_every_domain_that_can_be_enabled_is_in_the_table():
    switches = {name for name in COMMANDS if name.endswith((".enable", ".disable"))}
    assert sorted(switches - STATEFUL) == []


def test_every_setting_of_the_emulation_is_in_the_table():
    passing = {
        "Emulation.setVirtualTimePolicy",
        "Emulation.setPrimaryScreen",
    }  # acts once; of the screens, not the session
    settings = {
        name for name in COMMANDS if name.startswith(("Emulation.set", "Emulation.clear", "Emulation.reset"))
    }
    assert sorted(settings - STATEFUL - passing) == []


def test_redirected_commands_share_a_slot():
    for name, command in COMMANDS.items():
        target = f"{command.get('redirect')}.{name.partition('.')[2]}"
        if name in STATEFUL and target in STATEFUL:
            assert _state._RULES[name] is _state._RULES[target], name


def test_keys_are_parameters_of_their_commands():
    for name, rule in _state._RULES.items():
        if rule.kind == "latest":
            known = {parameter["name"] for parameter in COMMANDS[name].get("parameters", [])}
            assert set(rule.by or ()) <= known, name


# --- remembering ------------------------------------------------------------------------------------------------------


def test_order_and_parameters_are_kept():
    state = told(
        ("Page.enable", {}),
        ("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"}),
        ("Network.enable", {"maxPostDataSize": 5}),
        ("Runtime.evaluate", {"expression": "1"}),
        ("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Rome"}),
    )
    assert steps(state) == [
        ("Page.enable", {}),
        ("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Rome"}),
        ("Network.enable", {"maxPostDataSize": 5}),
    ]


def test_disabling_a_domain_forgets_all_of_it():
    state = told(
        ("Network.enable", {}),
        ("Network.setExtraHTTPHeaders", {"headers": {"A": "b"}}),
        ("Page.enable", {}),
        ("Page.addScriptToEvaluateOnNewDocument", {"source": "1"}, {"identifier": "1"}),
        ("Network.disable", {}),
        ("Page.disable", None),
    )
    assert steps(state) == []


@cases(
    ("method", "params", "undo", "undo_params"),
    [
        ("Fetch.enable", {"patterns": []}, "Fetch.disable", {}),
        ("Target.setAutoAttach", {"autoAttach": True}, "Target.setAutoAttach", {"autoAttach": False}),
        ("Target.setDiscoverTargets", {"discover": True}, "Target.setDiscoverTargets", {"discover": False}),
        ("Emulation.setDeviceMetricsOverride", {"width": 1}, "Emulation.clearDeviceMetricsOverride", {}),
        ("Page.setDeviceMetricsOverride", {"width": 1}, "Emulation.clearDeviceMetricsOverride", {}),
        ("Runtime.addBinding", {"name": "a"}, "Runtime.removeBinding", {"name": "a"}),
        ("Page.startScreencast", {}, "Page.stopScreencast", {}),
        ("Tracing.start", {}, "Tracing.end", {}),
        ("DOMDebugger.setXHRBreakpoint", {"url": "u"}, "DOMDebugger.removeXHRBreakpoint", {"url": "u"}),
        ("Browser.setPermission", {"setting": "granted"}, "Browser.resetPermissions", {}),
    ],
)
def test_what_is_taken_back_is_forgotten(method, params, undo, undo_params):
    state = told((method, params))
    assert len(state.steps) == 1
    state.succeeded(undo, undo_params, DONE)
    assert state.steps == []


def test_entries_of_one_kind_are_told_apart():
    state = told(
        ("Runtime.addBinding", {"name": "a"}),
        ("Runtime.addBinding", {"name": "b"}),
        ("Runtime.removeBinding", {"name": "a"}),
        ("Browser.setPermission", {"setting": "granted", "browserContextId": "1"}),
        ("Browser.setPermission", {"setting": "granted"}),
        ("Browser.resetPermissions", {"browserContextId": "1"}),
    )
    assert steps(state) == [
        ("Runtime.addBinding", {"name": "b"}),
        ("Browser.setPermission", {"setting": "granted"}),
    ]


def test_the_last_of_contradicting_permissions_is_repeated_last():
    granted, denied = {"setting": "granted"}, {"setting": "denied"}
    state = told(*(("Browser.setPermission", params) for params in (granted, denied, granted)))
    assert steps(state)[-1][1] == granted


def test_recordings_are_known_to_be_lost():
    [step] = told(("Profiler.start", {})).steps
    assert step.lost


def test_a_virtual_authenticator_is_made_again_under_its_known_id():
    state = SessionState()
    state.succeeded("WebAuthn.addVirtualAuthenticator", {"options": {}}, {"authenticatorId": "old"})
    [step] = state.steps
    assert not step.lost
    assert "credentials" in step.not_restored
    state.repeated(step, {"authenticatorId": "new"})
    for method in ("WebAuthn.getCredentials", "WebAuthn.removeVirtualAuthenticator"):
        assert state.translate(method, {"authenticatorId": "old"}) == {"authenticatorId": "new"}
    assert state.translate("Page.navigate", {"authenticatorId": "old"}) == {"authenticatorId": "old"}
    state.succeeded("WebAuthn.getCredentials", {"authenticatorId": "old"}, {"credentials": []})
    assert state.steps == [step]
    state.succeeded("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": "old"}, {})
    assert state.steps == []


def test_a_step_that_failed_is_forgotten():
    state = told(("Page.enable", {}), ("Log.enable", {}))
    state.failed(state.steps[0])
    assert steps(state) == [("Log.enable", {})]


# --- ids --------------------------------------------------------------------------------------------------------------

ADD, REMOVE = "Page.addScriptToEvaluateOnNewDocument", "Page.removeScriptToEvaluateOnNewDocument"


def test_ids_are_translated_after_a_restore():
    state = told((ADD, {"source": "a"}, {"identifier": "1"}), (ADD, {"source": "b"}, {"identifier": "2"}))
    state.succeeded(REMOVE, {"identifier": "1"}, DONE)
    assert state.translate(REMOVE, {"identifier": "2"}) == {"identifier": "2"}
    [b] = state.steps
    state.repeated(b, Raw(b'{"identifier":"1"}'))
    assert state.translate(REMOVE, {"identifier": "2"}) == {"identifier": "1"}
    assert state.translate(REMOVE, {"identifier": "7"}) == {"identifier": "7"}
    assert state.translate(REMOVE, None) is None
    assert state.translate("Page.enable", {"identifier": "2"}) == {"identifier": "2"}
    # the browser counts on: its next id is one that the program knows already
    result = state.succeeded(ADD, {"source": "c"}, Raw(b'{"identifier":"2"}'))
    assert result == {"identifier": "2#2"}
    assert state.translate(REMOVE, {"identifier": "2#2"}) == {"identifier": "2"}
    state.succeeded(REMOVE, {"identifier": "2"}, DONE)
    assert [step.params for step in state.steps] == [{"source": "c"}]
    assert state.translate(REMOVE, {"identifier": "2#2"}) == {"identifier": "2"}


def test_replies_of_other_servers_do_no_harm():
    state = SessionState()
    for result in (b"{}", b"[]", b'{"identifier":3}', b"nonsense"):
        state.succeeded("Debugger.setBreakpointByUrl", {"lineNumber": 1}, Raw(result))
    for step in state.steps:
        state.repeated(step, Raw(b"[]"))
    assert state.succeeded("Other.method", {}, DONE) is DONE


# --- whether and when to try again ------------------------------------------------------------------------------------


@cases("code", [1005, 1006, 1011, 1012, 1013, 1014])
def test_mishaps_are_resumed(code):
    assert resumable(Closed(code))


@cases("code", [1000, 1002, 1003, 1007, 1008, 1009, 3000, 4000, 4001])
def test_decisions_are_final(code):
    assert not resumable(Closed(code))


@pytest.mark.parametrize("reason", [*_backoff._ENDED, "Session stopped."])
def test_a_gateway_that_says_the_browser_is_gone_is_believed(reason):
    assert not resumable(Closed(1001, reason))
    assert resumable(Closed(1001, "restarting"))
    assert resumable(Closed(1001))


def test_a_cause_is_final():
    assert not resumable(Closed(1006, "", MessageTooBig("big", limit_bytes=1)))


@cases(
    ("error", "expected"),
    [
        (ConnectFailed("no", stage="tcp"), False),
        (ConnectFailed("no", stage="upgrade", status=502), False),
        (ConnectFailed("no", stage="upgrade", status=404), True),
        (ConnectFailed("no", stage="http", status=401), True),
        (TimeoutError(), False),
        (OSError(), False),
        (ConfigurationError("no"), True),
        (LookupError(), True),
    ],
)
def test_refusals(error, expected):
    assert is_fatal(error) is expected


def test_the_first_try_is_at_once_and_later_ones_are_spread():
    assert delay(0, 0.7) == 0
    assert [delay(attempt, 1.0) for attempt in range(1, 9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert delay(3, 0.0) == 0.2
    assert delay(10_000, 1.0) == 5.0
