"""Every command that talks to a server: with a server that is down, a wrong key, an id that is not there; ids, names, JSON, pipes."""

import json
import os
import sys
from decimal import Decimal
from uuid import UUID, uuid4

import click
import pytest

from cdpbridge.cli import _app
from cdpbridge.cli._ids import one_of
from cdpbridge.errors import ConfigurationError
from tests.conftest import clean_environment

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the command line does not see the build")]

MISSING = "00000000-0000-4000-8000-000000000000"
BEGINNING = "0000beef"
FILE = "{file}"
STATE = "{state}"
NOTES = "{notes}"

# Each with what it needs; `ID` stands for a record.
COMMANDS = [
    ["open", "about:blank"],
    ["run", "a task"],
    ["run", "a task", "--session", "ID"],
    ["browsers"],
    ["stop", "ID"],
    ["stop", "--all"],
    ["live", "ID"],
    ["live"],
    ["reap", "--all-of-this-key"],
    ["tunnel", "ID"],
    ["account"],
    ["doctor"],
    ["tasks", "list"],
    ["tasks", "get", "ID"],
    ["tasks", "stop", "ID"],
    ["tasks", "stop", "ID", "--session"],
    ["tasks", "pause", "ID"],
    ["tasks", "resume", "ID"],
    ["tasks", "logs", "ID"],
    ["tasks", "download", "ID", FILE],
    ["sessions", "list"],
    ["sessions", "get", "ID"],
    ["sessions", "stop", "ID"],
    ["sessions", "share", "ID"],
    ["sessions", "unshare", "ID"],
    ["sessions", "delete", "ID"],
    ["profiles", "list"],
    ["profiles", "get", "ID"],
    ["profiles", "create", "new"],
    ["profiles", "rename", "ID", "name"],
    ["profiles", "delete", "ID"],
    ["profiles", "export", "ID", FILE],
    ["profiles", "import", "ID", STATE],
    ["files", "upload", NOTES, "--browser", "ID"],
    ["files", "upload", NOTES, "--session", "ID"],
    ["files", "download", "ID", "ID", FILE],
]
OPERATOR = [
    ["keys", "list"],
    ["keys", "create"],
    ["keys", "revoke", "ID"],
    ["workers", "list"],
    ["workers", "drain", "ID"],
    ["projects", "list"],
    ["projects", "create", "new"],
    ["projects", "set", "ID", "--plan", "free"],
    ["credits", "grant", "ID", "1"],
]
# They ask no server, or (sync) read a browser of this machine first; demo and serve are servers themselves.
LOCAL = {"cost", "config", "completion", "demo", "serve", "profiles sync"}


@pytest.fixture
def run(server, monkeypatch, capsys, tmp_path):
    """Run a command in this process, as its own would: arguments in, status and two texts out."""
    monkeypatch.setattr("cdpbridge.api._async._requests.delay_seconds", lambda *_args, **_options: 0.0)
    given = clean_environment(
        CDPBRIDGE_PROVIDER=server.base_url,
        BROWSER_USE_API_KEY=server.key,
        CDPBRIDGE_JOURNAL=str(tmp_path / "journal"),
        COLUMNS="60",
    )
    state = tmp_path / "state.json"
    state.write_text('{"cookies": [], "origins": []}')
    notes = tmp_path / "notes.txt"
    notes.write_text("a note")
    places = {"notes": str(notes), "file": str(tmp_path / "new" / "file"), "state": str(state)}

    def run(*arguments, one="ID", terminal=False, **variables):
        for name in os.environ.keys() - given.keys() - {"PYTEST_CURRENT_TEST"}:
            monkeypatch.delenv(name)
        for name, value in (given | variables).items():
            monkeypatch.setenv(name, value)
        words = [one if each == "ID" else each.format_map(places) for each in arguments]
        monkeypatch.setattr(sys, "argv", ["cdpbridge", *words])
        monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            _app.run()
        found = capsys.readouterr()
        return ended.value.code, found.out, found.err

    return run


def paths(group=_app.app, before=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from paths(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def test_the_table_has_every_command():
    listed = {
        path for path, _ in paths() for words in (*COMMANDS, *OPERATOR) if " ".join(words).startswith(path)
    }
    assert listed | LOCAL == {path for path, _ in paths()}


def one_line(status, errors):
    assert status == 1
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("cdpbridge: ")
    assert "Traceback" not in errors
    return lines[0]


def ids(words):
    return " ".join(words)


@pytest.mark.parametrize("words", COMMANDS, ids=ids)
def test_fault_e10_a_server_that_is_down_is_named(run, nobody, words):
    status, _, errors = run(*words, one=MISSING, CDPBRIDGE_PROVIDER=f"{nobody}/api/v2")
    line = one_line(status, errors)
    assert nobody in line
    assert "does the server run" in line


@pytest.mark.parametrize("words", OPERATOR, ids=ids)
def test_fault_e10_an_operators_server_that_is_down_is_named(run, nobody, words):
    status, _, errors = run(*words, "--server", nobody, one=MISSING, CDPBRIDGE_ADMIN_KEY="key-of-tests")
    assert nobody in one_line(status, errors)


@pytest.mark.parametrize("words", COMMANDS, ids=ids)
def test_fault_e10_a_wrong_key_is_refused_in_one_line(run, words):
    status, _, errors = run(*words, one=MISSING, BROWSER_USE_API_KEY="wrong-key-of-tests")
    line = one_line(status, errors)
    assert "401" in line
    assert "wrong-key-of-tests" not in line


@pytest.mark.parametrize("words", [["browsers"], ["profiles", "get", "ID"], ["stop", "ID"]], ids=ids)
def test_fault_e10_a_base_url_without_its_path_is_completed(run, server, words):
    root = server.base_url.removesuffix("/api/v2")
    status, _, errors = run(*words, one=MISSING, CDPBRIDGE_PROVIDER=root)
    assert f"{root}/api/v2" in one_line(status, errors)


@pytest.mark.parametrize("words", [words for words in COMMANDS if "ID" in words], ids=ids)
@pytest.mark.parametrize("one", [MISSING, BEGINNING])
def test_fault_e09_an_id_that_is_not_there(run, server, words, one):
    if words[:2] == ["profiles", "import"] and one == BEGINNING:
        pytest.skip("a name: the profile is made")
    if words[:2] == ["sessions", "unshare"] and one == MISSING:
        pytest.skip("the contract answers 204")
    if words[0] == "run" and one == MISSING:
        pytest.skip("this server has no model, which is said first")
    status, _, errors = run(*words, one=one)
    line = one_line(status, errors)
    assert one in line or "not found" in line.lower()
    assert server.key not in line


def rented(server):
    import cdpbridge

    with cdpbridge.Client(server.key, server.base_url) as client:
        return client.browsers.create(metadata={"label": "nightly crawl of a long list"})


def test_fault_e09_beginnings_of_ids_are_taken(run, server):
    first, second = rented(server), rented(server)
    short = next(str(first.id)[:n] for n in range(4, 37) if str(first.id)[:n] != str(second.id)[:n])
    assert run("live", short, "--print")[1].strip() == first.live_url
    status, _, errors = run("live", "--print")
    assert "2 browsers run; name one" in one_line(status, errors)
    found = json.loads(run("browsers", "--json")[1])
    assert {each["id"] for each in found} == {str(first.id), str(second.id)}
    assert run("stop", short)[1].startswith(f"{first.id} stopped")
    [stopped] = json.loads(run("stop", str(second.id)[:13], "--json")[1])
    assert (stopped["id"], stopped["status"]) == (str(second.id), "stopped")
    status, _, errors = run("stop", short)
    assert "no active browser" in one_line(status, errors)
    assert run("stop", "xyz")[0] == 2


def test_fault_e09_a_table_is_whole_in_a_pipe_and_fits_a_terminal(run, server):
    browser = rented(server)
    head, *rows = run("browsers")[1].splitlines()
    assert head.split("\t") == ["ID", "STATUS", "STARTED", "ENDS", "COST USD", "LABEL"]
    [row] = [row.split("\t") for row in rows if row.startswith(str(browser.id))]
    assert row[1] == "active"
    assert row[2] == f"{browser.started_at:%Y-%m-%d %H:%M:%S}"
    assert row[5] == "nightly crawl of a long list"
    shown = run("browsers", terminal=True, COLUMNS="90")[1]
    assert str(browser.id) in shown
    assert "in 60 min" in shown
    assert all(len(line) <= 90 for line in shown.splitlines()), shown
    assert "nightl" in shown
    # Too narrow for an id and the rest: the id stays whole.
    assert str(browser.id) in run("browsers", terminal=True, COLUMNS="60")[1]
    run("stop", "--all")


def test_fault_e09_profiles_have_names(run, server):
    name = f"shop-{uuid4().hex}"
    made = run("profiles", "create", name)[1].strip()
    assert json.loads(run("profiles", "get", name, "--json")[1])["id"] == made
    assert json.loads(run("profiles", "get", made[:18], "--json")[1])["id"] == made
    assert "is a profile" in run("profiles", "create", name)[2]  # a second one of that name
    assert json.loads(run("profiles", "rename", made, f"{name}-2", "--json")[1])["name"] == f"{name}-2"
    assert run("profiles", "delete", f"{name}-2")[1] == f"{made} ({name}-2) deleted\n"
    status, _, errors = run("profiles", "delete", made)
    assert "not found" in one_line(status, errors)


def test_fault_e09_what_deletes_takes_a_whole_id_or_a_name(run, server):
    """One profile, one key, one project: an unset variable and a mistyped name pick none of them."""
    made = run("profiles", "create", f"only-{uuid4().hex}")[1].strip()
    for text in ("", " ", made[0], made[:3], made[:13], made[:-1]):
        status, _, errors = run("profiles", "delete", text)
        assert "no profile is called, or has the id," in one_line(status, errors)
    for text in ("", made[0], made[:3], "-"):
        for command in (["get"], ["rename"]):
            status, _, errors = run(
                "profiles", *command, "--", text, *(["other"] if command == ["rename"] else [])
            )
            assert "4 characters of an id are needed" in one_line(status, errors)
    assert json.loads(run("profiles", "get", made[:13], "--json")[1])["id"] == made
    status, _, errors = run("sessions", "delete", made[:13])
    assert "no session has the id" in one_line(status, errors)
    assert run("profiles", "delete", made)[1].startswith(f"{made} ")


@pytest.mark.parametrize("whole", [False, True])
def test_fault_e09_short_or_empty_text_is_no_id(whole):
    only = UUID("adadadad-0000-4000-8000-000000000000")
    for text in ("", "a", "ad", "ada", "zzzz", "-", "----"):
        with pytest.raises(ConfigurationError):
            one_of("key", text, {only: None}, named=True, whole=whole)
        with pytest.raises(ConfigurationError):
            one_of("key", text, {only: ""}, named=True, whole=whole)
    for text in (str(only), str(only).upper(), only.hex):
        assert one_of("key", text, {only: None}, whole=whole) == only
    assert one_of("key", "ad", {only: "ad"}, named=True, whole=whole) == only
    if whole:
        with pytest.raises(ConfigurationError, match="no key has the id 'adadad'"):
            one_of("key", "adadad", {only: None}, whole=True)
        twins = dict.fromkeys((only, uuid4()), "crawler")
        with pytest.raises(ConfigurationError, match="give the whole id"):
            one_of("key", "crawler", twins, named=True, whole=True)
    else:
        assert one_of("key", "adad", {only: None}) == only


def test_fault_e09_json_is_for_every_command_that_prints_records():
    without = {path for path, command in paths() if "as_json" not in {each.name for each in command.params}}
    assert without == {
        *("completion", "demo", "serve", "worker", "tunnel", "profiles sync"),
        *("open", "cost"),  # --eval prints JSON; --format json
    }


def test_fault_e12_the_export_of_what_does_not_exist_makes_nothing(run, tmp_path):
    name = f"mistyped-{uuid4().hex}"
    status, _, errors = run("profiles", "export", name, FILE)
    assert f"no profile is called, or has an id that begins with, {name!r}" in one_line(status, errors)
    assert name not in run("profiles", "list")[1]
    assert not (tmp_path / "journal").exists()  # nothing was rented


@pytest.mark.parametrize(
    "junk",
    ['{"a": 1}', "{}", "1", '"text"', '{"cookies": {}}', '{"cookies": "text"}', '{"cookies": [{"a": 1}]}',
     '{"origins": [1]}', '{"origins": {"origin": "http://a.test"}}', "not json", ""],
)  # fmt: skip
def test_fault_e12_the_import_of_junk_is_refused(run, tmp_path, junk):
    name, file = f"junk-{uuid4().hex}", tmp_path / "junk.json"
    file.write_text(junk)
    status, _, errors = run("profiles", "import", name, str(file))
    assert str(file) in one_line(status, errors)
    assert name not in run("profiles", "list")[1]


def test_fault_e08_cost_and_account_say_that_money_is_simulated(run, server):
    status, _, receipt = run("open", "about:blank", "--label", "small")
    assert status == 0
    place = server.base_url.split("/")[2]
    assert receipt.splitlines()[-1].endswith(f"paid 0.000833 (simulated USD, {place})")
    assert "simulated" in run("account")[1]
    [row] = json.loads(run("cost", "--json", "--by", "label")[1])
    assert (row["label"], Decimal(row["usd"]), row["simulated_usd"]) == ("small", 0, "0.000833")
    assert "SIMULATED USD" in run("cost")[1]
