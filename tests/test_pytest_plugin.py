"""`pytest --cdpbridge`: unchanged suites on rented browsers, in processes of their own, and every way such a run ends."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import cdpbridge
from cdpbridge._pytest._connecting import is_channel
from tests import programs
from tests.conftest import clean_environment

SUITES = Path(__file__).parent / "integrations" / "suites"
SETTINGS = """[pytest]
asyncio_default_fixture_loop_scope = function
asyncio_mode = auto
filterwarnings =
    error
    ignore:Session-scoped fixtures defined as instance methods
"""
OTHER = {"playwright": "playwright-asyncio", "playwright-asyncio": "playwright"}
pytestmark = [
    pytest.mark.one_build("the plugin rents; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(240),
]


class Place:
    """A folder with a suite, and a temporary folder by which all processes of its runs are known."""

    def __init__(self, folder, preloaded):
        self.preloaded = preloaded
        self.program = programs.Program
        self.folder = folder / "suite"
        self.folder.mkdir()
        self.temporary = folder / "t"
        self.temporary.mkdir()
        (self.folder / "pytest.ini").write_text(SETTINGS)

    def add(self, name):
        shutil.copytree(SUITES / name, self.folder, dirs_exist_ok=True)

    def write(self, text):
        (self.folder / "test_it.py").write_text(text)

    def start(self, *args, flavour="playwright", **environment):
        return self.program(
            [sys.executable, "-m", "pytest", "-p", f"no:{OTHER[flavour]}", "-p", "no:schemathesis", *args],
            cwd=self.folder,
            env=clean_environment(
                CDPBRIDGE_BROWSER_BUILD="shell",
                TMPDIR=str(self.temporary),
                PYTHONUNBUFFERED="1",
                **environment,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            by=self.preloaded,
        )

    def run(self, *args, status=0, **options):
        with self.start(*args, **options) as process:
            text = process.communicate(timeout=200)[0]
        assert process.returncode == status, text
        self.check_nothing_left()
        return text

    def check_nothing_left(self, seconds=60):
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        assert [each.name for each in self.temporary.iterdir() if each.name.startswith("cdp")] == []

    def processes(self):
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("TMPDIR", "").startswith(str(self.temporary))
                if ours or any(str(self.temporary) in word for word in process.cmdline()):
                    found.append((process.pid, process.cmdline()[:3]))
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def preloaded():
    """Runs fork from what has imported pytest and the libraries; no plugin, as pytest rewrites these when it imports them."""
    preloaded = programs.Preloaded(
        modules=[
            "pytest",
            "_pytest.assertion",
            "playwright.async_api",
            "playwright.sync_api",
            "httpx",
            "pydantic",
        ]
    )
    yield preloaded
    preloaded.close()


@pytest.fixture
def place(tmp_path, preloaded):
    return Place(tmp_path, preloaded)


def active(server):
    async def ask():
        async with cdpbridge.at(server.base_url, server.key) as client:
            return [str(each.id) async for each in client.browsers.list(status="active")]

    return asyncio.run(ask())


def rented(text):
    return set(re.findall(r"^\w+  ([0-9a-f-]{36})  ", text, re.MULTILINE))


@pytest.mark.slow  # the next one runs them too
def test_thirty_unchanged_tests(place):
    place.add("playwright_sync")
    text = place.run("--cdpbridge=local", "--cdpbridge-timeout=5")
    assert "30 passed" in text
    assert re.search(r"^main  [0-9a-f-]{36}  charged 0.05, used 1 min, refunded 0.049167", text, re.MULTILINE)
    assert "1 browser, paid 0.000833 simulated USD" in text


def test_thirty_unchanged_tests_with_two_workers(place):
    place.add("playwright_sync")
    text = place.run("--cdpbridge=local", "-n", "2", "--headed")
    assert "30 passed" in text
    assert len(rented(text)) == 2
    assert "2 browsers, paid 0.001666 simulated USD" in text
    assert "without effect on a rented browser: headless" in text


def test_pictures_and_traces(place):
    """Of a few tests: each takes 0.4 s of CPU."""
    place.add("playwright_sync")
    text = place.run("--cdpbridge=local", "test_dialogs.py", "--screenshot=on", "--tracing=on")
    assert "4 passed" in text
    results = list((place.folder / "test-results").rglob("*"))
    assert sum(each.suffix == ".png" for each in results) == 4
    assert sum(each.suffix == ".zip" for each in results) == 4


@pytest.mark.slow
def test_the_asynchronous_flavour(place):
    place.add("playwright_async")
    scope = ("-o", "asyncio_default_fixture_loop_scope=session")  # what that plugin asks its users to set
    text = place.run("--cdpbridge=local", *scope, flavour="playwright-asyncio")
    assert "5 passed" in text
    assert len(rented(text)) == 1


@pytest.mark.slow
def test_one_browser_for_all_workers(place, server):
    place.write(
        "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test(page, n):\n    page.goto('about:blank')\n"
    )
    environment = {"BROWSER_USE_API_KEY": server.key}
    text = place.run(f"--cdpbridge={server.base_url}", "-n", "2", "--cdpbridge-shared", **environment)
    assert "4 passed" in text
    assert len(rented(text)) == 1
    assert active(server) == []


def test_cdp_fixtures(place, server):
    place.add("cdp")
    (place.folder / "pytest.ini").write_text(f"{SETTINGS}cdpbridge = {server.base_url}\n")
    text = place.run(BROWSER_USE_API_KEY=server.key)
    assert "8 passed" in text
    assert len(rented(text)) == 4
    assert active(server) == []


def test_a_profile_is_in_every_context(place, server, site):
    async def sign_in():
        async with cdpbridge.open_browser(
            cdpbridge.at(server.base_url, server.key), profile="suite"
        ) as browser:
            tab = await browser.new_tab(site)
            await tab.evaluate("document.cookie = 'kept=yes; max-age=600'")

    asyncio.run(sign_in())
    place.write(f"""
def test_context(page):
    page.goto({site!r})
    assert page.evaluate("document.cookie") == "kept=yes"

def test_page(browser):
    page = browser.new_page()
    page.goto({site!r})
    assert page.evaluate("document.cookie") == "kept=yes"
    page.close()
    context = browser.new_context(storage_state={{"cookies": [], "origins": []}})
    assert context.cookies() == []
""")
    options = ("--cdpbridge-profile=suite", "--cdpbridge-proxy-country=none")
    text = place.run(f"--cdpbridge={server.base_url}", *options, BROWSER_USE_API_KEY=server.key)
    assert "2 passed" in text
    assert "profile suite" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cdpbridge=local", "--browser=firefox"], "--cdpbridge rents Chromium; it has no firefox"),
        (
            ["--cdpbridge=local", "--browser-channel=chrom"],
            "--browser-channel: Playwright has no channel 'chrom'",
        ),
        (
            ["--cdpbridge=local", "--browser-channel=firefox-beta"],
            "has no channel 'firefox-beta' of Chromium",
        ),
        (["--cdpbridge=nowhere"], "unknown provider 'nowhere'"),
        (["--cdpbridge=http://127.0.0.1:9/api/v2"], "no API key"),
        (["--cdpbridge=local", "--cdpbridge-timeout=300"], "must be 1 to 240 minutes, not 300"),
    ],
)
def test_what_there_is_not(place, options, words):
    place.write("def test(page):\n    pass\n")
    assert words in place.run(*options, status=4)


def test_videos_need_what_records_them_and_that_is_said_once(place, tmp_path):
    place.write("def test(page):\n    pass\n")
    text = place.run(
        "--cdpbridge=local", "--video=on", status=4, PLAYWRIGHT_BROWSERS_PATH=str(tmp_path / "empty")
    )
    assert text.count("playwright install ffmpeg") == 1


def test_another_engine_by_fixture(place):
    place.write("""
import pytest

@pytest.fixture(scope="session")
def browser_name():
    return "webkit"

def test_engine(launch_browser):
    launch_browser()
""")
    assert "this test wants webkit" in place.run("--cdpbridge=local", status=1)


def test_a_channel_by_fixture(place):
    place.write("""
import pytest

@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {"channel": "chrom"}

def test_channel(launch_browser):
    launch_browser()
""")
    assert "Playwright has no channel 'chrom' of Chromium" in place.run("--cdpbridge=local", status=1)


def test_channels():
    for known in ("chromium", "chrome", "chrome-beta", "msedge-dev", "chromium-headless-shell"):
        assert is_channel(known)
    for none in ("", "Chrome", "chrome-", "chromium-dev", "webkit"):
        assert not is_channel(none)


@pytest.mark.slow
def test_what_a_marker_cannot_ask_for(place):
    place.write("""
import pytest

@pytest.mark.cdpbridge(country="de")
async def test_marker(cdp_tab):
    pass
""")
    text = place.run("--cdpbridge=local", status=1)
    assert "knows profile and proxy_country, not country" in text
    assert "run pytest with --cdpbridge=local|cloud|URL" in place.run(status=1)


ENDLESS = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("n", range(4))
def test(page, n):
    page.goto("about:blank")
    if {when}:
        pathlib.Path(f"begun-{{os.getpid()}}").touch()
        {what}
"""


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
)
def test_interrupted(place, server, number, workers):
    place.write(ENDLESS.format(when="n >= 1", what="time.sleep(60)"))
    options = ("-n", str(workers)) if workers else ()
    key = {"BROWSER_USE_API_KEY": server.key}
    with place.start(f"--cdpbridge={server.base_url}", *options, **key) as process:
        wait_for(lambda: len(list(place.folder.glob("begun-*"))) == max(workers, 1))
        assert len(active(server)) == max(workers, 1)
        if number == signal.SIGINT:  # a terminal's Ctrl-C reaches the workers too
            os.killpg(process.pid, number)
        else:
            process.terminate()
        text = process.communicate(timeout=280)[0]
    assert process.returncode == 2, text
    assert active(server) == []
    assert len(rented(text)) == max(workers, 1), text
    place.check_nothing_left()


def test_the_first_failure_ends_it(place, server):
    place.write(ENDLESS.format(when="n == 0", what="assert 0"))
    text = place.run("-x", f"--cdpbridge={server.base_url}", status=1, BROWSER_USE_API_KEY=server.key)
    assert len(rented(text)) == 1
    assert active(server) == []


@pytest.mark.slow
def test_a_killed_worker_leaves_no_browser(place, server):
    place.write(ENDLESS.format(when="n == 1", what="os.kill(os.getpid(), 9)"))
    text = place.run("-n", "2", f"--cdpbridge={server.base_url}", status=1, BROWSER_USE_API_KEY=server.key)
    assert re.search(r"charged 0.05, .* \(left by gw\d\)", text), text
    assert "3 passed" in text
    assert active(server) == []


@pytest.mark.slow
def test_a_killed_run_on_this_machine_leaves_nothing(place):
    place.write(ENDLESS.format(when="n >= 1", what="time.sleep(60)"))
    with place.start("--cdpbridge=local", "-n", "2") as process:
        wait_for(lambda: list(place.folder.glob("begun-*")))
        process.kill()
        process.wait()
        deadline = time.monotonic() + 60
        while left := place.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def test_a_run_without_it_loads_nothing_of_it(place):
    place.program = programs.Started
    place.write("""
import sys

def test():
    loaded = {name for name in sys.modules if name.startswith("cdpbridge")}
    assert loaded == {
        "cdpbridge", "cdpbridge._version", "cdpbridge.pytest_plugin", "cdpbridge._pytest",
        "cdpbridge._pytest._cdp_fixtures",
    }
    assert not {"httpx", "pydantic", "msgspec", "playwright", "fastapi"} & set(sys.modules)
""")
    assert "1 passed" in place.run("-p", "no:playwright")
