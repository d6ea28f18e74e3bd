"""Commands to replay on a session after a reconnect. Pure: no asyncio, no I/O.

A session ends with its socket, and so do its settings: enabled domains, emulation, scripts, headers. The table below says
which commands change a session, and which take that back:

    kind      remembered                                      forgotten
    ENABLE    `X.enable`                                      `X.disable`, with all else of the domain
    LATEST    the last call, for each value of its key        its opposite, e.g. `Emulation.clear...`; `autoAttach: false`
    NAMED     every call, by the id in its reply              its opposite with that id
    RUNNING   that it runs: its data ended with the socket    its opposite

What is remembered keeps the order in which it was first sent. A replay gives NAMED things new ids, so the ids that the program
knows are translated from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cdpbridge.cdp._domains import SWITCHES
from cdpbridge.cdp._payload import Payload, as_dict
from cdpbridge.errors import DecodeError

__all__ = ["ATTACHING", "NOTED", "STATEFUL", "SessionState", "Step", "text_in"]

_ENABLE: Final = "enable"
_DISABLE: Final = "disable"
_LATEST: Final = "latest"
_NAMED: Final = "named"
_RUNNING: Final = "running"
_UNDO: Final = "undo"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a command does to the memory.

    Attributes:
        slot: Commands that replace or undo one another share it.
        by: Parameters that tell one entry of the slot from another; None: all of them. For NAMED, the reply's field.
        switch: Parameter that, when false, undoes instead.
    """

    kind: str
    slot: str
    by: tuple[str, ...] | None = ()
    switch: str = ""


_DOMAINS: Final = (
    "Accessibility Animation Audits Autofill BluetoothEmulation CSS Cast Console DOM DOMSnapshot DOMStorage Debugger "
    "DeviceAccess FedCm Fetch HeadlessExperimental HeapProfiler IndexedDB Inspector LayerTree Log Media Network Overlay Page "
    "Performance PerformanceTimeline Preload Profiler Runtime Security ServiceWorker SmartCardEmulation WebAudio WebAuthn "
    "WebMCP"
)
_SETTINGS: Final = """
    Animation.setPlaybackRate Autofill.setAddresses CSS.setLocalFontsEnabled CSS.trackComputedStyleUpdates
    DOM.setNodeStackTracesEnabled DOMDebugger.setBreakOnCSPViolation
    Debugger.setAsyncCallStackDepth Debugger.setBlackboxPatterns Debugger.setBreakpointsActive Debugger.setPauseOnExceptions
    Debugger.setSkipAllPauses DeviceOrientation.setDeviceOrientationOverride DigitalCredentials.setVirtualWalletBehavior
    Emulation.setAutoDarkModeOverride Emulation.setAutomationOverride Emulation.setCPUPerformanceOverride
    Emulation.setCPUThrottlingRate Emulation.setDataSaverOverride Emulation.setDefaultBackgroundColorOverride
    Emulation.setDeviceMetricsOverride Emulation.setDevicePostureOverride Emulation.setDisabledImageTypes
    Emulation.setDisplayFeaturesOverride Emulation.setDocumentCookieDisabled Emulation.setEmitTouchEventsForMouse
    Emulation.setEmulatedMedia Emulation.setEmulatedOSTextScale Emulation.setEmulatedVisionDeficiency
    Emulation.setFocusEmulationEnabled Emulation.setGeolocationOverride Emulation.setHardwareConcurrencyOverride
    Emulation.setIdleOverride Emulation.setLocaleOverride Emulation.setNavigatorOverrides Emulation.setPageScaleFactor
    Emulation.setSafeAreaInsetsOverride Emulation.setScriptExecutionDisabled Emulation.setScrollbarsHidden
    Emulation.setSmallViewportHeightDifferenceOverride Emulation.setTimezoneOverride Emulation.setTouchEmulationEnabled
    Emulation.setUserAgentOverride Emulation.setVirtualKeyboardGeometryOverride Emulation.setVisibleSize
    Input.setIgnoreInputEvents Input.setInterceptDrags Log.startViolationsReport
    Network.emulateNetworkConditions Network.emulateNetworkConditionsByRule Network.enableReportingApi
    Network.overrideNetworkState Network.setAttachDebugStack Network.setBlockedURLs Network.setBypassServiceWorker
    Network.setCacheDisabled Network.setCookieControls Network.setExtraHTTPHeaders
    Overlay.setInspectMode Overlay.setShowAdHighlights Overlay.setShowContainerQueryOverlays Overlay.setShowDebugBorders
    Overlay.setShowDisplayCutout Overlay.setShowFPSCounter Overlay.setShowFlexOverlays Overlay.setShowGridOverlays
    Overlay.setShowHinge Overlay.setShowHitTestBorders Overlay.setShowInspectedElementAnchor
    Overlay.setShowIsolatedElements Overlay.setShowLayoutShiftRegions Overlay.setShowPaintRects
    Overlay.setShowScrollBottleneckRects Overlay.setShowScrollSnapOverlays Overlay.setShowViewportSizeOnResize
    Overlay.setShowWebVitals Overlay.setShowWindowControlsOverlay
    Page.setAdBlockingEnabled Page.setBypassCSP Page.setDownloadBehavior Page.setFontFamilies Page.setFontSizes
    Page.setInterceptFileChooserDialog Page.setLifecycleEventsEnabled Page.setPrerenderingAllowed
    Page.setRPHRegistrationMode Page.setSPCTransactionMode Page.startScreencast
    Performance.setTimeDomain Profiler.setSamplingInterval
    Runtime.setCustomObjectFormatterEnabled Runtime.setMaxCallStackSizeToCapture
    Security.setIgnoreCertificateErrors Security.setOverrideCertificateErrors
    ServiceWorker.setForceUpdateOnPageLoad Storage.setPrivateVerificationTokensTracking Target.setRemoteLocations
"""
_KEYED: Final[Mapping[str, tuple[str, ...] | None]] = {
    "BackgroundService.startObserving": ("service",),
    "Browser.grantPermissions": None,
    "Browser.setDownloadBehavior": ("browserContextId",),
    "Browser.setPermission": None,
    "DOMDebugger.setEventListenerBreakpoint": None,
    "DOMDebugger.setXHRBreakpoint": None,
    "Emulation.setPressureSourceOverrideEnabled": ("source",),
    "Emulation.setPressureStateOverride": ("source",),
    "Emulation.setSensorOverrideEnabled": ("type",),
    "Emulation.setSensorOverrideReadings": ("type",),
    "EventBreakpoints.setInstrumentationBreakpoint": ("eventName",),
    "Runtime.addBinding": ("name",),
    "Storage.setStorageBucketTracking": ("storageKey",),
    "Storage.trackCacheStorageForOrigin": ("origin",),
    "Storage.trackCacheStorageForStorageKey": ("storageKey",),
    "Storage.trackIndexedDBForOrigin": ("origin",),
    "Storage.trackIndexedDBForStorageKey": ("storageKey",),
    "Target.autoAttachRelated": ("targetId",),
    "Target.exposeDevToolsProtocol": ("targetId", "bindingName"),
}
_RECORDINGS: Final[Mapping[str, str]] = {
    "CSS.startRuleUsageTracking": "CSS.stopRuleUsageTracking",
    "HeapProfiler.startSampling": "HeapProfiler.stopSampling",
    "HeapProfiler.startTrackingHeapObjects": "HeapProfiler.stopTrackingHeapObjects",
    "Page.startScreenRecording": "Page.stopScreenRecording",
    "Profiler.start": "Profiler.stop",
    "Profiler.startPreciseCoverage": "Profiler.stopPreciseCoverage",
    "Tracing.start": "Tracing.end",
}
_OPPOSITES: Final[Mapping[str, tuple[str, tuple[str, ...] | None]]] = {
    "BackgroundService.stopObserving": ("BackgroundService.startObserving", ("service",)),
    "DOMDebugger.removeEventListenerBreakpoint": ("DOMDebugger.setEventListenerBreakpoint", None),
    "DOMDebugger.removeXHRBreakpoint": ("DOMDebugger.setXHRBreakpoint", None),
    "DeviceOrientation.clearDeviceOrientationOverride": (
        "DeviceOrientation.setDeviceOrientationOverride",
        (),
    ),
    "Emulation.clearDeviceMetricsOverride": ("Emulation.setDeviceMetricsOverride", ()),
    "Emulation.clearDevicePostureOverride": ("Emulation.setDevicePostureOverride", ()),
    "Emulation.clearDisplayFeaturesOverride": ("Emulation.setDisplayFeaturesOverride", ()),
    "Emulation.clearGeolocationOverride": ("Emulation.setGeolocationOverride", ()),
    "Emulation.clearIdleOverride": ("Emulation.setIdleOverride", ()),
    "Emulation.resetPageScaleFactor": ("Emulation.setPageScaleFactor", ()),
    "EventBreakpoints.removeInstrumentationBreakpoint": (
        "EventBreakpoints.setInstrumentationBreakpoint",
        ("eventName",),
    ),
    "Log.stopViolationsReport": ("Log.startViolationsReport", ()),
    "Page.stopScreencast": ("Page.startScreencast", ()),
    "Runtime.removeBinding": ("Runtime.addBinding", ("name",)),
    "Storage.untrackCacheStorageForOrigin": ("Storage.trackCacheStorageForOrigin", ("origin",)),
    "Storage.untrackCacheStorageForStorageKey": ("Storage.trackCacheStorageForStorageKey", ("storageKey",)),
    "Storage.untrackIndexedDBForOrigin": ("Storage.trackIndexedDBForOrigin", ("origin",)),
    "Storage.untrackIndexedDBForStorageKey": ("Storage.trackIndexedDBForStorageKey", ("storageKey",)),
}
# The command, its opposite, and the id that ties them.
_BY_ID: Final = (
    ("Debugger.setBreakpointByUrl", "Debugger.removeBreakpoint", "breakpointId"),
    ("Debugger.setInstrumentationBreakpoint", "Debugger.removeBreakpoint", "breakpointId"),
    ("Page.addScriptToEvaluateOnLoad", "Page.removeScriptToEvaluateOnLoad", "identifier"),
    ("Page.addScriptToEvaluateOnNewDocument", "Page.removeScriptToEvaluateOnNewDocument", "identifier"),
    ("WebAuthn.addVirtualAuthenticator", "WebAuthn.removeVirtualAuthenticator", "authenticatorId"),
)
# Commands that only use such an id.
_ID_USERS: Final[Mapping[str, tuple[str, str]]] = {
    f"WebAuthn.{name}": ("WebAuthn.removeVirtualAuthenticator", "authenticatorId")
    for name in [
        "addCredential",
        "clearCredentials",
        "getCredential",
        "getCredentials",
        "removeCredential",
        "setAutomaticPresenceSimulation",
        "setCredentialProperties",
        "setResponseOverrideBits",
        "setUserVerified",
    ]
}
_NOT_RESTORED: Final[Mapping[str, str]] = {
    "WebAuthn.addVirtualAuthenticator": "it was created again with its options; its credentials, which the browser destroys "
    "with the connection, and what was set on it later are not restored",
}
# Older spellings; Chrome's protocol marks them as redirected.
_ALIASES: Final[Mapping[str, str]] = {
    "DOMDebugger.removeInstrumentationBreakpoint": "EventBreakpoints.removeInstrumentationBreakpoint",
    "DOMDebugger.setInstrumentationBreakpoint": "EventBreakpoints.setInstrumentationBreakpoint",
    "Network.setUserAgentOverride": "Emulation.setUserAgentOverride",
    "Page.clearDeviceMetricsOverride": "Emulation.clearDeviceMetricsOverride",
    "Page.clearDeviceOrientationOverride": "DeviceOrientation.clearDeviceOrientationOverride",
    "Page.clearGeolocationOverride": "Emulation.clearGeolocationOverride",
    "Page.setDeviceMetricsOverride": "Emulation.setDeviceMetricsOverride",
    "Page.setDeviceOrientationOverride": "DeviceOrientation.setDeviceOrientationOverride",
    "Page.setGeolocationOverride": "Emulation.setGeolocationOverride",
    "Page.setTouchEmulationEnabled": "Emulation.setTouchEmulationEnabled",
    "Runtime.setAsyncCallStackDepth": "Debugger.setAsyncCallStackDepth",
}


def _rules() -> dict[str, _Rule]:
    rules: dict[str, _Rule] = {}
    for domain in _DOMAINS.split():
        rules[f"{domain}.enable"] = _Rule(_ENABLE, f"{domain}.enable")
        rules[f"{domain}.disable"] = _Rule(_DISABLE, domain)
    rules["EventBreakpoints.disable"] = _Rule(_DISABLE, "EventBreakpoints")
    rules["Target.setAutoAttach"] = _Rule(_LATEST, "Target.setAutoAttach", switch="autoAttach")
    rules["Target.setDiscoverTargets"] = _Rule(_LATEST, "Target.setDiscoverTargets", switch="discover")
    rules |= {method: _Rule(_LATEST, method) for method in _SETTINGS.split()}
    rules |= {method: _Rule(_LATEST, method, by) for method, by in _KEYED.items()}
    rules["Browser.grantPermissions"] = _Rule(_LATEST, "Browser.setPermission", None)
    rules["Browser.resetPermissions"] = _Rule(_UNDO, "Browser.setPermission", ("browserContextId",))
    rules |= {method: _Rule(_RUNNING, method) for method in _RECORDINGS}
    rules |= {opposite: _Rule(_UNDO, method) for method, opposite in _RECORDINGS.items()}
    rules |= {opposite: _Rule(_UNDO, slot, by) for opposite, (slot, by) in _OPPOSITES.items()}
    for method, opposite, field in _BY_ID:
        rules[method] = _Rule(_NAMED, opposite, (field,))
        rules[opposite] = _Rule(_UNDO, opposite, (field,))
    rules |= {alias: rules[method] for alias, method in _ALIASES.items()}
    return rules


_RULES: Final = _rules()

ATTACHING: Final = frozenset({"Target.attachToTarget", "Target.attachToBrowserTarget"})
"""Commands whose reply is a session, which needs a new attachment."""

STATEFUL: Final = frozenset(_RULES) | ATTACHING | frozenset(_ID_USERS)
"""Every command that changes its session, takes a change back, or names it."""

NOTED: Final = STATEFUL | SWITCHES.keys()
"""Commands that are looked at when what they have set is to be restored; one set for all connections, as it has 4 kB."""


@dataclass(eq=False, slots=True)
class Step:
    """One command to replay.

    Attributes:
        lost: It cannot be replayed: what it had begun ended with the socket.
    """

    method: str
    params: dict[str, Any]
    lost: bool = False

    @property
    def not_restored(self) -> str:
        """Explain what is missing after the replay; normally nothing."""
        return _NOT_RESTORED.get(self.method, "")


_Key = tuple[str, str | bytes]


class SessionState:
    """The commands to replay on one session."""

    __slots__ = ("_names", "_steps")

    def __init__(self) -> None:
        self._steps: dict[_Key, Step] = {}
        # an id that the program knows, to the browser's, where they differ
        self._names: dict[_Key, str] = {}

    @property
    def steps(self) -> list[Step]:
        """Commands to replay, in the original order."""
        return list(self._steps.values())

    def translate(self, method: str, params: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return the parameters with the browser's ids instead of those the program knows."""
        if not self._names or params is None:
            return params
        rule = _RULES.get(method)
        if rule is not None and rule.kind is _UNDO and rule.by:
            slot, field = rule.slot, rule.by[0]
        elif method in _ID_USERS:
            slot, field = _ID_USERS[method]
        else:
            return params
        name = self._names.get((slot, str(params.get(field, ""))))
        return params if name is None else {**params, field: name}

    def succeeded(self, method: str, params: Mapping[str, Any] | None, result: Payload) -> Payload:
        """Note that a command has been carried out, and return the result for the program.

        Args:
            params: As the program gave them; kept, so they must be a copy.
        """
        rule = _RULES.get(method)
        given: Mapping[str, Any] = params or {}
        if rule is None:
            return result
        if rule.kind is _DISABLE:
            start = f"{rule.slot}."
            self._forget(key for key in self._steps if key[0].startswith(start))
        elif rule.kind is _UNDO or (rule.switch and not given.get(rule.switch)):
            self._undo(rule, given)
        elif rule.kind is _NAMED:
            return self._name(rule, method, given, result)
        else:
            key = (rule.slot, _identity(rule, given))
            if rule.by is None:
                # it may undo a step of another identity: only the order tells them apart
                self._steps.pop(key, None)
            self._steps[key] = Step(method, dict(given), lost=rule.kind is _RUNNING)
        return result

    def repeated(self, step: Step, result: Payload) -> None:
        """Note that a command has been replayed over a new transport."""
        rule = _RULES[step.method]
        if rule.kind is _NAMED and rule.by:
            name = text_in(result, rule.by[0])
            self._names |= {key: name for key, known in self._steps.items() if known is step and name}

    def failed(self, step: Step) -> None:
        """Forget a command that could not be replayed."""
        self._forget(key for key, known in self._steps.items() if known is step)

    def _undo(self, rule: _Rule, params: Mapping[str, Any]) -> None:
        if rule.slot == "Browser.setPermission":
            context = params.get("browserContextId")
            self._forget(
                key
                for key, step in self._steps.items()
                if key[0] == rule.slot and step.params.get("browserContextId") == context
            )
            return
        self._forget([(rule.slot, _identity(rule, params))])

    def _name(self, rule: _Rule, method: str, params: Mapping[str, Any], result: Payload) -> Payload:
        assert rule.by
        field = rule.by[0]
        name = known = text_in(result, field)
        if not name:
            return result
        number = 1
        while (rule.slot, known) in self._steps:  # the browser counts from the start for each socket
            number += 1
            known = f"{name}#{number}"
        key = (rule.slot, known)
        self._steps[key] = Step(method, dict(params))
        if known == name:
            return result
        self._names[key] = name
        return {**as_dict(result), field: known}

    def _forget(self, keys: Any) -> None:
        for key in list(keys):
            self._steps.pop(key, None)
            self._names.pop(key, None)


def _identity(rule: _Rule, params: Mapping[str, Any]) -> str | bytes:
    if rule.by is None:
        return msgspec.json.encode(params, order="deterministic")
    return "\n".join(str(params.get(name, "")) for name in rule.by)


def text_in(result: Payload, field: str) -> str:
    """Return a string field of a result; `""` when there is none."""
    try:
        value = as_dict(result).get(field)
    except DecodeError:
        return ""
    return value if isinstance(value, str) else ""
