"""One run of pytest with rented browsers: this process, or the controller of pytest-xdist and its workers.

Without workers, and in each worker, the first test that needs a browser rents it; the end of the session stops it. The
controller starts the embedded server for all of them, stops what a worker that died has left, and prints the receipts.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from cdpbridge.api import AsyncClient, ServerDefault, server_default
from cdpbridge.errors import ConfigurationError
from cdpbridge.providers import at, local, provider
from cdpbridge.rental import RentalOptions
from cdpbridge.tunnel._address import Place

from ._connecting import is_channel
from ._rentals import Ending, Ledger, Rentals

__all__ = ["Run", "configure", "run_of"]

_NAME: Final = "cdpbridge-run"
_KEY: Final = "cdpbridge"  # in workerinput and workeroutput


def configure(config: pytest.Config) -> None:
    """Make this run one with rented browsers.

    Raises:
        pytest.UsageError: The options ask for what there is not.
    """
    plugins = config.pluginmanager
    wanted: list[str] = []
    channel: str | None = None
    if plugins.hasplugin("playwright") or plugins.hasplugin(
        "playwright-asyncio"
    ):  # else the option is another plugin's
        wanted = config.getoption("--browser", default=None) or []
        channel = config.getoption("--browser-channel", default=None)
    engines = [each for each in wanted if each != "chromium"]
    if engines:
        raise pytest.UsageError(
            f"--cdpbridge rents Chromium; it has no {' or '.join(engines)}: "
            "leave --browser out for this run, or run those engines without --cdpbridge"
        )
    _check_video(config)
    if channel and not is_channel(channel):
        raise pytest.UsageError(
            f"--browser-channel: Playwright has no channel {channel!r} of Chromium; leave the option out for this run"
        )
    try:
        run = Run(config)
    except ConfigurationError as error:
        raise pytest.UsageError(f"--cdpbridge: {error}") from error
    plugins.register(run, _NAME)
    # pytest-playwright's fixtures win over those of a plugin that pytest loads with it, and lose to one that comes later.
    if plugins.hasplugin("playwright"):
        from . import _playwright_fixtures  # noqa: PLC0415  # each flavour only where it is used

        plugins.register(_playwright_fixtures, "cdpbridge-playwright-fixtures")
    elif plugins.hasplugin("playwright-asyncio"):
        from . import _playwright_asyncio_fixtures  # noqa: PLC0415  # as above

        plugins.register(_playwright_asyncio_fixtures, "cdpbridge-playwright-fixtures")


def _check_video(config: pytest.Config) -> None:
    """Refuse `--video` once, and not in every test, where Playwright has no ffmpeg: it records on this machine.

    Raises:
        pytest.UsageError: With the command that installs it.
    """
    if config.getoption("--video", default="off") in {None, "off"} or not config.pluginmanager.hasplugin(
        "playwright"
    ):
        return
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if named == "0":  # in the package's own folder
        return
    caches = ["~/.cache", "~/Library/Caches", os.environ.get("LOCALAPPDATA", "~/AppData/Local")]
    folders = [Path(named)] if named else [Path(cache).expanduser() / "ms-playwright" for cache in caches]
    if not any(True for folder in folders for _ in folder.glob("ffmpeg*")):
        raise pytest.UsageError(
            "--video is recorded by Playwright's ffmpeg, which is not installed: playwright install ffmpeg"
        )


def run_of(config: pytest.Config) -> Run:
    """Return this run.

    Raises:
        pytest.UsageError: It is one without rented browsers.
    """
    run = config.pluginmanager.get_plugin(_NAME)
    if run is None:
        raise pytest.UsageError(
            "this test needs a rented browser: run pytest with --cdpbridge=local|cloud|URL, or set `cdpbridge = local` in "
            "pytest's settings"
        )
    assert isinstance(run, Run)
    return run


class Run:
    """The plugin object of a run.

    Attributes:
        rentals: The browsers of this process.
        options: What is rented for a test that asks for nothing else.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._given: dict[str, str] | None = getattr(config, "workerinput", {}).get(_KEY)
        self._where: str = config.getoption("--cdpbridge") or config.getini("cdpbridge")
        self._shared: bool = config.getoption("--cdpbridge-shared")
        self._temporary: list[Path] = []
        self._ignored: set[str] = set()
        self.options: RentalOptions = {
            "profile": config.getoption("--cdpbridge-profile"),
            "proxy_country": _country(config),
        }
        timeout = _timeout(config)
        client = self._client()
        folder = self._temporary_folder("ledger") if self._given is None else Path(self._given["ledger"])
        # Not by PYTEST_XDIST_WORKER: a run that a test of another run starts inherits that, and is no worker itself.
        self._owner: str = getattr(config, "workerinput", {}).get("workerid", "main")
        self._ledger = Ledger(folder)
        self.rentals = Rentals(client, owner=self._owner, ledger=self._ledger, timeout=timeout)
        self._receipts: list[tuple[str, Ending]] = []
        self._signals = _SigtermAsInterrupt()

    def _client(self) -> AsyncClient:
        if self._given is not None and "base_url" in self._given:
            return at(self._given["base_url"], self._given["api_key"])
        client = provider(self._where)
        if not client.is_local:
            return client
        settings = ("CDPBRIDGE_DATA_DIR", "CDPBRIDGE_CONFIG")
        if self.options.get("profile") is not None or any(os.environ.get(name) for name in settings):
            return client
        # Nothing is to last: the server is this run's own, with its folder.
        return local(data_dir=self._temporary_folder("data"), private=True)

    def _temporary_folder(self, purpose: str) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"cdpbridge-{purpose}-"))
        self._temporary.append(folder)
        return folder

    # --- for fixtures ---------------------------------------------------------------------------------------------

    def cdp_url(self, options: RentalOptions | None = None) -> str:
        """Return the address of the browser for a test."""
        if self._given is not None and "cdp_url" in self._given and options in (None, self.options):
            return self._given["cdp_url"]
        return self.rentals.rent(self.options if options is None else options).cdp_url

    def place(self) -> Place:
        """Return where Playwright finds the browser for a test."""
        if self._given is not None and "place_url" in self._given:
            return Place(self._given["place_url"], local=self._given["place_local"] == "yes")
        return self.rentals.place(self.options)

    def ignore(self, options: dict[str, Any]) -> None:
        """Note launch options that have no meaning for a browser that runs already; the summary names them."""
        self._ignored |= options.keys()

    # --- hooks ----------------------------------------------------------------------------------------------------

    def pytest_report_header(self) -> str:
        """Say where the browsers come from."""
        parts = [f"browsers from {self._where}"]
        if profile := self.options.get("profile"):
            parts.append(f"profile {profile}")
        if isinstance(country := self.options.get("proxy_country"), str):
            parts.append(f"proxy country {country}")
        if self._shared:
            parts.append("one for all workers")
        return f"cdpbridge: {', '.join(parts)}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Handle signals: from now on, browsers may be rented."""
        self._signals.install()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker of pytest-xdist, before it starts, the server to rent from."""
        given = {"ledger": str(self._ledger.folder)}
        client = self.rentals.open()
        if client.is_local:
            address = client.address()
            given |= {"base_url": address["base_url"], "api_key": address["api_key"]}
        if self._shared:
            place = self.place()
            given |= {"cdp_url": self.cdp_url(), "place_url": place.cdp_url}
            given["place_local"] = "yes" if place.local else "no"
        node.workerinput[_KEY] = given

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Stop what a worker has left that has ended."""
        self._ignored |= set(getattr(node, "workeroutput", {}).get(_KEY, ()))
        if node.gateway.id in self._ledger.owners():
            self.rentals.stop_left(node.gateway.id)

    @pytest.hookimpl(trylast=True)  # after pytest has torn down every fixture
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Stop what is rented, also after Ctrl-C and `-x`."""
        self._finish()
        if self._given is not None:
            session.config.workeroutput[_KEY] = sorted(self._ignored)  # type: ignore[attr-defined]

    def pytest_unconfigure(self) -> None:
        """Finish, as the session may never have begun, or its end may have been interrupted."""
        self._finish()

    def _finish(self) -> None:
        try:
            try:
                if self._given is None:
                    for owner in self._ledger.owners():
                        if owner != self._owner:
                            self.rentals.stop_left(owner)
            finally:
                self.rentals.close()
                if self._given is None:
                    for owner in self._ledger.owners():
                        self._receipts += [(owner, ending) for ending in self._ledger.endings(owner)]
        finally:
            self._signals.remove()
            while self._temporary:
                shutil.rmtree(self._temporary.pop(), ignore_errors=True)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the receipts."""
        if not self._receipts and not self._ignored:
            return
        terminalreporter.section("cdpbridge")
        for owner, ending in self._receipts:
            line = f"{owner}  {ending['browser']}  {ending['text']}"
            terminalreporter.write_line(line, red=ending["failed"])
        count = len(self._receipts)
        settled = [each for _, each in self._receipts if each["paid"]]
        paid = sum((Decimal(each["paid"] or 0) for each in settled), Decimal(0))
        unit = "simulated USD" if settled and all(each["simulated"] for each in settled) else "USD"
        terminalreporter.write_line(
            f"{count} {'browser' if count == 1 else 'browsers'}, paid {paid:f} {unit}"
        )
        if self._ignored:
            terminalreporter.write_line(
                f"launch options without effect on a rented browser: {', '.join(sorted(self._ignored))}"
            )


def _country(config: pytest.Config) -> str | ServerDefault | None:
    given: str | None = config.getoption("--cdpbridge-proxy-country")
    if given is None:
        return server_default
    return None if given.lower() == "none" else given


def _timeout(config: pytest.Config) -> timedelta | None:
    minutes: int | None = config.getoption("--cdpbridge-timeout")
    if minutes is None:
        return None
    if not 1 <= minutes <= 240:
        raise pytest.UsageError(f"--cdpbridge-timeout must be 1 to 240 minutes, not {minutes}")
    return timedelta(minutes=minutes)


class _SigtermAsInterrupt:
    """While it is installed, SIGTERM ends the run as Ctrl-C does, so that fixtures are torn down and browsers stopped."""

    def __init__(self) -> None:
        self._installed = False

    def install(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)
            self._installed = True

    def remove(self) -> None:
        if self._installed and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGTERM) is _interrupt:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._installed = False


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)
