"""The command line, as a process: what it prints, what it ends with, what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from cdpbridge._version import __version__
from tests import programs
from tests.conftest import clean_environment

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the command line does not see the build")]

RECEIPT = "charged 0.05, used 1 min, refunded 0.049167, paid 0.000833 (simulated USD, "


def cdpbridge(server, *arguments, status=0, **variables):
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", *arguments],
        env=server.environment(COLUMNS="200", **variables),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["open", "demo", "serve", "browsers", "stop"]),
        (
            ["open", "--help"],
            ["--profile", "--proxy-country", "--timeout", "--screenshot", "--pdf", "--eval"],
        ),
        (["serve", "--help"], ["--host", "--port", "--data-dir", "--api-key", "CDPBRIDGE_API_KEY"]),
        (["stop", "--help"], ["--all"]),
        (["--version"], [__version__]),
    ],
)
def test_help(server, arguments, words):
    done = cdpbridge(server, *arguments)
    for word in words:
        assert word in done.stdout


def test_open(server, site, tmp_path):
    picture, document = tmp_path / "page.png", tmp_path / "page.pdf"
    done = cdpbridge(
        server,
        *("open", site, "--profile", "cli", "--proxy-country", "de", "--timeout", "5"),
        *("--screenshot", str(picture), "--pdf", str(document), "--eval", "[document.title, 1]"),
    )
    assert json.loads(done.stdout) == ["Sign in", 1]
    assert RECEIPT in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert document.read_bytes().startswith(b"%PDF")


def test_fault_e04_open_makes_the_folder(server, site, tmp_path):
    picture = tmp_path / "new" / "page.png"
    done = cdpbridge(server, "open", site, "--screenshot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert RECEIPT in done.stderr


@pytest.mark.parametrize("place", ["{}/file/page.png", "{}", "/proc/page.png"])
def test_fault_e04_what_cannot_be_written_is_told_before_it_costs(server, site, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    path = place.format(tmp_path)
    for option in (["open", site, "--screenshot", path], ["open", site, "--pdf", path]):
        done = cdpbridge(server, *option, status=1, CDPBRIDGE_JOURNAL=str(tmp_path / "journal"))
        assert f"{path} cannot be written" in " ".join(done.stderr.split())
        assert "charged" not in done.stderr
    done = cdpbridge(server, "profiles", "export", "work", path, status=1)
    assert "cannot be written" in done.stderr
    assert not (tmp_path / "journal").exists()  # nothing was rented


def test_fault_e04_the_receipt_comes_in_any_case(server, site, nobody):
    done = cdpbridge(server, "open", nobody, status=1)
    assert "ERR_CONNECTION_REFUSED" in done.stderr
    assert RECEIPT in done.stderr
    done = cdpbridge(server, "open", site, "--pdf", "/dev/full", status=1)
    assert "/dev/full" in done.stderr
    assert "No space left on device" in done.stderr
    assert RECEIPT in done.stderr


def test_open_shows_any_title(server):
    done = cdpbridge(server, "open", "data:text/html,<title>a [/b] [red]c</title>")
    assert "a [/b] [red]c" in done.stderr
    assert RECEIPT in done.stderr


def test_open_without_options_shows_the_page(server, site):
    done = cdpbridge(server, "open", site)
    assert "Sign in" in done.stderr
    assert site in done.stderr
    assert RECEIPT in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["open", "{nobody}"], 1, "ERR_CONNECTION_REFUSED"),
        (["open", "about:blank", "--proxy-country", "zz"], 1, "unknown country"),
        (["open", "about:blank", "--proxy-country", "fr"], 1, "no proxy for 'fr'"),
        (["open", "about:blank", "--timeout", "0"], 2, "--timeout"),
        (["open", "about:blank", "--eval", "nothing.there"], 1, "nothing is not defined"),
        (["open", "about:blank", "--provider", "clod"], 1, "`cloud`, `local`"),
        (["browsers", "--provider", "local"], 1, "belong to the program that rented them"),
        (["stop", "--all", "--provider", "local"], 1, "belong to the program that rented them"),
        (["stop"], 2, "--all"),
        (["stop", "nonsense"], 2, "is no id"),
        (["stop", "abcdef"], 1, "no active browser has an id that begins with"),
        (["stop", "00000000-0000-0000-0000-000000000000"], 1, "Session not found"),
    ],
)
def test_errors_are_one_clear_line(server, nobody, arguments, status, words):
    done = cdpbridge(server, *(argument.format(nobody=nobody) for argument in arguments), status=status)
    assert words in done.stdout + done.stderr


def test_a_wrong_key(server):
    done = cdpbridge(server, "browsers", status=1, BROWSER_USE_API_KEY="wrong-key-of-tests")
    assert "401" in done.stderr
    assert "wrong-key-of-tests" not in done.stderr


RENT = """
import asyncio, os
import cdpbridge

async def main():
    browser = await cdpbridge.open_browser()
    print(browser.id, flush=True)
    os._exit(0)

asyncio.run(main())
"""


def leak(server):
    """A browser that its program has left running."""
    done = programs.run(
        [sys.executable, "-c", RENT],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return done.stdout.strip()


def test_browsers_and_stop(server):
    assert "no active browsers" in cdpbridge(server, "browsers").stderr
    one, other = leak(server), leak(server)
    listed = cdpbridge(server, "browsers").stdout
    assert one in listed
    assert other in listed
    assert f"{one} stopped, cost 0.000833 USD" in cdpbridge(server, "stop", one).stdout
    assert one not in cdpbridge(server, "browsers").stdout
    assert f"{other} stopped" in cdpbridge(server, "stop", "--all").stdout
    assert "no active browsers" in cdpbridge(server, "stop", "--all").stderr
    assert len(re.findall("stopped", cdpbridge(server, "browsers", "--all", "--limit", "2").stdout)) == 2


def start_serve(tmp_path, *arguments, **variables):
    environment = clean_environment()
    return programs.Program(
        [sys.executable, "-m", "cdpbridge", "serve", "--port", "0", "--data-dir", str(tmp_path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"CDPBRIDGE_BROWSER_BUILD": "shell"} | variables,
    )


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_serve_prints_one_line_and_takes_the_key(tmp_path, given):
    key = "a-key-that-was-given"
    arguments, variables = (["--api-key", key], {}) if given == "flag" else ([], {"CDPBRIDGE_API_KEY": key})
    with start_serve(tmp_path, *arguments, **variables) as process:
        line = process.stdout.readline()
        assert re.fullmatch(r"cdpbridge: serving http://127\.0\.0\.1:\d+/api/v2\n", line)
        listed = programs.run(
            [sys.executable, "-m", "cdpbridge", "browsers", "--provider", line.split()[-1]],
            env=os.environ | {"BROWSER_USE_API_KEY": key},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "no active browsers" in listed.stderr
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=280)
    assert (process.returncode, output) == (0, "")
    base_url = line.split()[-1]
    assert errors.splitlines() == [
        f"console   {base_url.removesuffix('/api/v2')}",
        f"use it    export CDPBRIDGE_PROVIDER={base_url}",
        "          export BROWSER_USE_API_KEY=...  # a key of yours; a new one: cdpbridge keys create",
    ]
    assert key not in errors


def test_serve_makes_a_key_and_shows_it_once(tmp_path):
    with start_serve(tmp_path) as process:
        assert process.stdout.readline().startswith("cdpbridge: serving ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=280)
    assert process.returncode == 0
    shown = re.match(r"cdpbridge: API key \(shown once\): (cdpb_\S{32})\n", errors)
    assert f"export BROWSER_USE_API_KEY={shown[1]}\n" in errors


def test_serve_shows_its_settings(server, tmp_path):
    """The values in force, not a table of defaults; no secret among them."""
    (tmp_path / "s.toml").write_text('usd_per_hour = "0.2"\napi_keys = "key-in-the-file"\n')
    asked = ["serve", "--show-settings", "--config", str(tmp_path / "s.toml"), "--port", "8123"]
    asked += ["--engine", "ray", "--ray-address", "auto"]
    environment = {"CDPBRIDGE_PLAN": "free", "CDPBRIDGE_WORKER_SECRET": "secret-of-workers-" * 2}
    shown = cdpbridge(server, *asked, **environment).stdout
    rows = {
        cells[0]: (json.loads(cells[1]), cells[2])
        for cells in (line.split("\t") for line in shown.splitlines()[1:])
    }
    assert rows["usd_per_hour"] == ("0.2", "set")
    assert rows["port"] == (8123, "set")
    assert rows["plan"] == ("free", "set")
    assert rows["max_browsers"] == (10, "default")
    assert rows["browsers"] == ("workers", "set"), "an engine is for workers"
    assert "key-in-the-file" not in shown
    assert "secret-of-workers" not in shown


def test_demo(server, tmp_path):
    """The main job, whole: its figures obey the written rule, and nothing is left behind."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = cdpbridge(server, "demo", "--output", str(tmp_path / "output"), TMPDIR=str(temporary))
    text = done.stdout
    assert "Welcome, ada" in text
    assert "over CDP        Welcome, ada, visits 2" in text
    assert "Playwright      Welcome, ada, 2 orders" in text
    assert "account         100 - 0.001666 = 99.998334 USD, simulated" in text
    assert text.count(RECEIPT) == 2
    assert re.search(r"network events  \d responses: .*1 fetch", text)
    assert re.search(r"proxy traffic [1-9]\d*\.\d kB", text)
    for name in ("signed-in.png", "playwright.png"):
        assert (tmp_path / "output" / name).read_bytes().startswith(b"\x89PNG")
    assert list(temporary.iterdir()) == []
