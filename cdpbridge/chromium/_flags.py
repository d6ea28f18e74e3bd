"""Chromium's command line, each switch with its reason. Pure.

Playwright's own list (playwright-core `chromiumSwitches.ts`, 1.65) is the base, without what takes abilities away from a
browser that a person rents: extensions, partitioned storage, rate limits of the renderer's messages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ._find import Kind

__all__ = ["child_environment", "command_line"]

_ALWAYS: Final = (
    "--remote-debugging-pipe",  # held by the owner: when it closes, Chromium leaves in order
    "--remote-debugging-port=0",  # for all other clients; the kernel chooses
    "--no-first-run",  # no welcome page
    "--no-default-browser-check",  # no question
    "--no-service-autorun",  # nothing that runs without a page
    "--disable-search-engine-choice-screen",  # no question
    "--disable-background-networking",  # traffic, and bytes of a paid proxy, are the user's only
    "--disable-component-update",  # as above
    "--disable-default-apps",  # as above
    "--disable-component-extensions-with-background-pages",  # targets that no client opened
    "--disable-domain-reliability",  # reports to Google
    "--disable-sync",  # as above
    "--disable-field-trial-config",  # the same browser for all users
    "--metrics-recording-only",  # metrics stay here
    "--disable-breakpad",  # no dumps; not --disable-crashpad-for-testing, which ends the network process (156)
    "--disable-stack-profiler",  # no sampling thread
    "--disable-background-timer-throttling",  # a tab that is not in front works as fast as the one in front
    "--disable-backgrounding-occluded-windows",  # as above
    "--disable-renderer-backgrounding",  # as above
    "--disable-back-forward-cache",  # else Playwright's go_back() waits for a navigation that never comes
    "--disable-hang-monitor",  # a busy page is not killed
    "--disable-prompt-on-repost",  # no dialog on reload
    "--disable-popup-blocking",  # window.open() without a click
    "--allow-pre-commit-input",  # input right after a navigation counts
    "--unsafely-disable-devtools-self-xss-warnings",  # no typed confirmation in the live view's console
    "--force-color-profile=srgb",  # screenshots alike on every machine
    "--mute-audio",  # no sound device
    "--disable-gpu",  # no graphics device, and no process that looks for one
    "--enable-unsafe-swiftshader",  # WebGL all the same, in software
    "--disable-quic",  # UDP goes around an HTTP proxy and its byte count
    "--password-store=basic",  # no key ring: a profile must open on every machine
    "--use-mock-keychain",  # as above
)

_DISABLED_FEATURES: Final = (
    "AimEnabled",  # a request to Google at start
    "AvoidCorsURLLoaderRestartOnRedirect",  # redirects fail while requests are intercepted (playwright#43242)
    "AvoidUnnecessaryBeforeUnloadCheckSync",  # navigations hang (playwright#14047)
    "DestroyProfileOnBrowserClose",  # the profile outlives the last tab
    "HttpsFirstBalancedModeAutoEnable",  # an http:// address stays one
    "HttpsUpgrades",  # as above
    "LensOverlay",  # a button without a service behind it
    "MediaRouter",  # looks for devices in the network
    "NetworkTimeServiceQuerying",  # a request to Google at start
    "OptimizationHints",  # downloads
    "PaintHolding",  # screenshots of the former page (playwright#28023)
    "PreconnectToSearch",  # a connection to Google at start
    "Prerender2",  # a page whose target is swapped under the client
    "Translate",  # a bubble over the page, and a request to Google
    # Each window of the full build loads two pages for its address bar, which no headless browser shows: 0.5 s of CPU each time, at the
    # start and for each context with a page (156).
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxPopup",
)

_ENABLED_FEATURES: Final = (
    "CDPScreenshotNewSurface",  # screenshots of the real size
    "SkipListAccountsWithoutGaiaCookies",  # no request to Google at start
)

# Only these reach the browser: its processes show their environment to every program that can read /proc or open file://, and ours
# holds API keys.
_VARIABLES: Final = frozenset(
    {
        "ALL_PROXY",
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "FTP_PROXY",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "NO_PROXY",
        "PATH",
        "SHELL",
        "TZ",
        "USER",
        "WAYLAND_DISPLAY",
    }
)
# Folders and sockets that only the user of this login may open.
_OF_THE_LOGIN: Final = frozenset(
    {
        "DBUS_SESSION_BUS_ADDRESS",
        "LOGNAME",
        "USER",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
    }
)
_VARIABLE_PREFIXES: Final = ("LC_", "XDG_", "FONTCONFIG_", "CHROME_")


def command_line(
    kind: Kind,
    user_data_dir: Path,
    *,
    proxy_server: str | None,
    udp: bool = False,
    args: Sequence[str],
    sandbox: bool,
    small_shm: bool,
) -> list[str]:
    """Return Chromium's arguments, without the binary.

    Args:
        proxy_server: `http://host:port`; everything goes through it, loopback too.
        udp: With a proxy: WebRTC may send UDP around it.
        args: The user's own; they win, and features in them are added to ours.
        sandbox: Chromium's own, around its renderers.
        small_shm: /dev/shm is missing or too small for pages.
    """
    switches = list(_ALWAYS)
    if kind == "full":
        switches.append("--headless")  # the new mode: the whole browser without a window
    if not sandbox:
        switches.append("--no-sandbox")
    if small_shm:
        switches.append("--disable-dev-shm-usage")  # else pages crash when it is full
    if proxy_server is not None:
        switches += [
            f"--proxy-server={proxy_server}",
            "--proxy-bypass-list=<-loopback>",  # the proxy also decides about this machine's own services
        ]
    if proxy_server is not None and not udp:
        switches += [
            # WebRTC must not show the address that the proxy hides; the builds spell the switch differently.
            "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
            "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        ]
    # Chromium heeds only the last one of each.
    own = [arg for arg in args if not arg.startswith(("--disable-features=", "--enable-features="))]
    switches.append(f"--disable-features={_features('--disable-features=', _DISABLED_FEATURES, args)}")
    switches.append(f"--enable-features={_features('--enable-features=', _ENABLED_FEATURES, args)}")
    return [*switches, f"--user-data-dir={user_data_dir}", *own, "about:blank"]


def _features(switch: str, ours: Iterable[str], args: Iterable[str]) -> str:
    theirs = _named(switch, args)
    other = "--enable-features=" if switch == "--disable-features=" else "--disable-features="
    wanted_otherwise = set(_named(other, args))
    return ",".join([*(feature for feature in ours if feature not in wanted_otherwise), *theirs])


def _named(switch: str, args: Iterable[str]) -> Iterator[str]:
    for arg in args:
        if arg.startswith(switch):
            yield from filter(None, arg.removeprefix(switch).split(","))


def child_environment(ours: Mapping[str, str], scratch_dir: Path, *, own_uid: bool) -> dict[str, str]:
    """Return what Chromium may see of our environment, with its temporary files in `scratch_dir`.

    Args:
        own_uid: It runs under another uid than we do: nothing that names our home or our login.
    """
    kept = {
        name: value
        for name, value in ours.items()
        if (name.upper() in _VARIABLES or name.startswith(_VARIABLE_PREFIXES))
        and not (own_uid and name in _OF_THE_LOGIN)
    }
    if own_uid:
        kept["HOME"] = os.fspath(scratch_dir)
    # The last is Crashpad's database, which else is in HOME and shared by all browsers.
    return kept | dict.fromkeys(("TMPDIR", "TMP", "TEMP", "BREAKPAD_DUMP_LOCATION"), os.fspath(scratch_dir))
