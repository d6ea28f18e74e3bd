"""`config`, `doctor` and `open` about this machine: what they find, and why; where it is not well, what to do."""

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdpbridge.chromium import find
from cdpbridge.cli import _app, _open
from cdpbridge.cli._config import ending
from cdpbridge.cli._doctor import clock_skew, skew_text
from cdpbridge.cli._doctor_machine import machine_checks
from cdpbridge.rental import Journal
from tests.cases import cases
from tests.conftest import clean_environment
from tests.rental.test_journal import DEAD, an_entry

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the command line does not see the build")]
KEY = "bu_a-key-of-tests-0123456789-wxyz"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Set the environment to what is given, and nothing of ours besides."""

    def environment(**variables):
        given = clean_environment(CDPBRIDGE_JOURNAL=str(tmp_path / "journal"), HOME=str(tmp_path)) | variables
        for name in os.environ.keys() - given.keys() - {"PYTEST_CURRENT_TEST"}:
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    environment()
    return environment


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cdpbridge", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            _app.run()
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return run


def config(run, *arguments):
    return {
        name: (each["value"], each["why"])
        for name, each in json.loads(run("config", "--json", *arguments)[1]).items()
    }


def test_config_says_where_and_why(run, environment):
    found = config(run)
    assert found["where"] == (
        "this machine",
        "default: none of CDPBRIDGE_PROVIDER, CDPBRIDGE_BASE_URL and BROWSER_USE_API_KEY is set",
    )
    assert found["chromium"][0].startswith(str(find().path))
    environment(BROWSER_USE_API_KEY=KEY)
    found = config(run)
    assert found["where"] == ("cloud  https://api.browser-use.com/api/v2", "BROWSER_USE_API_KEY is set")
    assert found["key"] == ("...wxyz", "BROWSER_USE_API_KEY is set")
    assert "chromium" not in found
    environment(BROWSER_USE_API_KEY=KEY, CDPBRIDGE_PROVIDER="http://127.0.0.1:8700/api/v2")
    assert config(run)["where"] == (
        "127.0.0.1:8700  http://127.0.0.1:8700/api/v2",
        "CDPBRIDGE_PROVIDER is set",
    )
    assert config(run, "--provider", "local")["where"] == ("this machine", "--provider")
    for _, text, errors in (
        run("config"),
        run("config", "--json"),
        run("config", "--provider", "http://other.test/api/v2"),
    ):
        assert KEY not in text + errors
        assert KEY[:-4] not in text + errors


@pytest.mark.parametrize(
    ("variables", "arguments", "shown", "missing"),
    [
        (
            {"CDPBRIDGE_PROVIDER": "cloud"},
            (),
            [
                "where     cloud  https://api.browser-use.com/api/v2  (CDPBRIDGE_PROVIDER is set)",
                "key       none  (BROWSER_USE_API_KEY is not set)",
                "journal   ",
                "budget    none",
            ],
            "no API key: set BROWSER_USE_API_KEY",
        ),
        (
            {"BROWSER_USE_API_KEY": "with a blank-1234"},
            (),
            ["where     cloud", "key       ...1234  (BROWSER_USE_API_KEY is set)"],
            "printable ASCII",
        ),
        (
            {"CDPBRIDGE_BASE_URL": "http://127.0.0.1:8700/api/v2"},
            ("--provider", "http://user:secret@other.test/api/v2"),
            ["--provider http://***@other.test/api/v2  (set)", "CDPBRIDGE_BASE_URL http://127.0.0.1:8700"],
            "credentials",
        ),
        (
            {"CDPBRIDGE_PROVIDR": "local", "CDPBRIDGE_PROVIDER": "local"},
            (),
            ["CDPBRIDGE_PROVIDER local  (set)", "key       none"],
            "CDPBRIDGE_PROVIDR",
        ),
        (
            {"CDPBRIDGE_BUDGET_USD": "much"},
            (),
            [
                "where     this machine",
                "budget    none  (CDPBRIDGE_BUDGET_USD, _MINUTES, _BROWSERS cannot be read)",
            ],
            "CDPBRIDGE_BUDGET_USD",
        ),
    ],
)
def test_config_shows_what_is_set_and_then_what_is_missing(  # noqa: PLR0917
    run, environment, variables, arguments, shown, missing
):
    environment(**variables)
    status, text, errors = run("config", *arguments)
    for each in shown:
        assert each in text
    assert missing in errors
    assert status == 1
    assert "secret" not in text + errors
    status, text, errors = run("config", "--json", *arguments)
    assert "journal" in json.loads(text)
    assert (status, missing in errors) == (1, True)


def test_config_names_the_variable_that_chose_chromium(run, environment, tmp_path):
    shell = str(find("shell").path)
    environment(CDPBRIDGE_CHROMIUM=shell)
    assert config(run)["chromium"] == (f"{shell} (shell)", "CDPBRIDGE_CHROMIUM is set")
    environment(CDPBRIDGE_BROWSER_PATH=shell, CDPBRIDGE_CHROMIUM="/nowhere")
    assert config(run)["chromium"] == (f"{shell} (shell)", "CDPBRIDGE_BROWSER_PATH is set")
    environment(CDPBRIDGE_CHROMIUM=str(tmp_path / "missing"))
    value, why = config(run)["chromium"]
    assert value is None
    assert "does not exist" in why


@pytest.mark.parametrize(("key", "shown"), [(KEY, "...wxyz"), ("short-key", "..."), ("", "...")])
def test_a_short_key_shows_nothing(key, shown):
    assert ending(key) == shown


def checks(*, local=True):
    found = {}
    for check in machine_checks(local=local):
        found.setdefault(check.name, check)
    return found


def test_doctor_finds_this_machine_well(environment):
    found = checks()
    assert {check.status for check in found.values()} == {"ok"}
    assert re.search(r"Chromium \d+\.\d+\.\d+", found["chromium"].text)
    assert re.search(r"[\d.]+ GiB free", found["memory"].text)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            ("CDPBRIDGE_CHROMIUM", "/nowhere/chromium"),
            ("chromium", "does not exist", "apt-get install chromium"),
        ),
        (("CDPBRIDGE_CHROMIUM", "/usr/bin/false"), ("chromium", "status 1", "install it again")),
        (("CDPBRIDGE_DATA_DIR", "/dev/null/data"), ("data_dir", "cannot be written", "CDPBRIDGE_DATA_DIR")),
        (("BROWSER_USE_API_KEY", "a key"), ("key", "printable ASCII", "copy it again")),
        (("CDPBRIDGE_PROVIDR", "local"), ("variables", "did you mean CDPBRIDGE_PROVIDER", "rename")),
    ],
)
def test_doctor_names_what_is_wrong_and_the_remedy(run, environment, variables, expected):
    name, words, remedy = expected
    environment(**dict([variables]))
    check = checks()[name]
    assert check.status == "fail"
    assert words in check.text
    assert remedy in check.remedy
    status, text, errors = run("doctor", "--machine")
    assert status == 1
    [line] = [line for line in text.splitlines() if line.startswith("fail")]
    assert name in line
    assert remedy in line
    assert "Traceback" not in errors


def test_doctor_warns_where_browsers_run_elsewhere(environment):
    environment(CDPBRIDGE_CHROMIUM="/nowhere/chromium")
    assert checks(local=False)["chromium"].status == "warn"


def test_doctor_sees_what_killed_programs_left(environment, tmp_path):
    Journal(tmp_path / "journal").intend(an_entry(owner=DEAD))
    found = checks()["journal"]
    assert (found.status, found.remedy) == ("warn", "cdpbridge reap")


def test_doctor_starts_a_browser_here_and_checks_the_server(run, environment, tmp_path):
    status, text, errors = run("doctor", "--json", "--provider", "local")
    assert (status, errors) == (0, "")
    report = json.loads(text)
    assert report["browser_seconds"] > 0
    assert all(check["differences"] == [] for check in report["checks"])
    assert {check["operation"] for check in report["checks"]} >= {"billing.account", "browsers.get"}
    assert not (tmp_path / ".local" / "share").exists()  # it used a folder of its own


@cases(
    ("text", "url"),
    [
        ("127.0.0.1:9811", "http://127.0.0.1:9811"),
        ("localhost:3000/a", "http://localhost:3000/a"),
        ("app.localhost", "http://app.localhost"),
        ("[::1]:80", "http://[::1]:80"),
        ("192.168.1.4", "http://192.168.1.4"),
        ("example.com", "https://example.com"),
        ("example.com:8443/x", "https://example.com:8443/x"),
        ("http://example.com", "http://example.com"),
        ("about:blank", "about:blank"),
        ("data:text/html,x", "data:text/html,x"),
    ],
)
def test_open_completes_the_scheme(text, url):
    assert _open.full_url(text) == url


def test_the_binary_is_where_config_says(environment, run):
    path = config(run)["chromium"][0].rpartition(" (")[0]
    assert os.access(Path(path), os.X_OK)


@pytest.mark.parametrize(
    ("date", "asked", "answered", "skew", "text"),
    [
        (0, 0.0, 0.9, 0, "as this machine's"),
        (0, 0.9, 1.3, 0, "as this machine's"),  # sent in the last moment of its second
        (0, 1.2, 1.3, -0.2, "as this machine's"),
        (60, 0.1, 0.4, 59.6, "60 s ahead of this machine's"),
        (0, 60.4, 61.0, -59.4, "59 s behind this machine's"),
    ],
)
def test_the_clock_of_a_server_has_whole_seconds(date, asked, answered, skew, text):
    moment = datetime(2026, 11, 28, tzinfo=UTC)
    found = clock_skew(*(moment + timedelta(seconds=each) for each in (date, asked, answered)))
    assert found == pytest.approx(skew)
    assert skew_text(found) == text
