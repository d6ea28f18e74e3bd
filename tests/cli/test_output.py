"""What commands print: tables for people and for `cut`, foreign text without control sequences, errors in one line."""

import subprocess
import sys

import click
import pytest

from cdpbridge.cli import _app
from cdpbridge.cli._output import note, print_rows, progress, say
from cdpbridge.errors import CDPBridgeError
from tests.conftest import clean_environment


def test_a_table_is_aligned_and_has_no_trailing_spaces(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_rows(["name", "usd"], [["東京", "0.5"], ["a", "12.25"]], right=("usd",))
    assert capsys.readouterr().out == "NAME    USD\n東京    0.5\na     12.25\n"


def test_an_empty_table_is_a_note(capsys):
    print_rows(["id"], [], nothing="no browsers")
    assert capsys.readouterr() == ("", "no browsers\n")


def test_foreign_text_cannot_drive_the_terminal(capsys):
    """Titles of pages and outputs of agents may hold escape sequences; a tab and a line break stay."""
    say("a\x1b]0;owned\x07b\tc\nd")
    note("\x9b2J\x7f")
    done = capsys.readouterr()
    assert (done.out, done.err) == ("a\ufffd]0;owned\ufffdb\tc\nd\n", "\ufffd2J\ufffd\n")


def test_progress_is_for_terminals_only(capsys):
    with progress("starting") as tell:
        tell("working")
        note("a line")
    assert capsys.readouterr() == ("", "a line\n")


def test_progress_on_a_terminal_gives_way_to_lines(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("starting") as tell:
        note("a line")
        tell("working\x1b[5n")
    shown = click.unstyle(capsys.readouterr().err.replace("\r\x1b[K", "|"))
    assert shown == "|starting|a line\n|starting|working\ufffd[5n|"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (CDPBridgeError("what happened"), 1, "cdpbridge: what happened\na note\n"),
        (FileNotFoundError(2, "No such file", "/tmp/x"), 1, "cdpbridge: /tmp/x: No such file\n"),
        (click.Abort(), 130, "cdpbridge: interrupted\n"),
        (click.exceptions.Exit(3), 3, ""),
    ],
)
def test_a_failure_is_one_line_and_a_status(error, status, words, capsys, monkeypatch):
    if isinstance(error, CDPBridgeError):
        error.add_note("a note")

    @click.command()
    def fails():
        raise error

    monkeypatch.setattr(_app, "app", fails)
    monkeypatch.setattr("sys.argv", ["cdpbridge"])
    with pytest.raises(SystemExit) as ended:
        _app.run()
    assert (ended.value.code, capsys.readouterr().err) == (status, words)


def test_every_command_has_a_help_of_its_own_and_one_line_in_the_list():
    def commands(group, path):
        for name, command in group.commands.items():
            yield (*path, name), command
            if isinstance(command, click.Group):
                yield from commands(command, (*path, name))

    found = dict(commands(_app.app, ()))
    assert len(found) > 40
    for path, command in found.items():
        text = command.get_short_help_str(limit=1000)
        assert text, path
        assert len(text) < 85, path
        with click.Context(command, info_name=" ".join(path)) as context:
            shown = command.get_help(context)
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert parameter.description in " ".join(shown.split()), path
            else:
                assert parameter.help, (path, parameter.name)


def test_commands_need_nothing_of_the_extras(tmp_path):
    """`stop` and `reap` are there wherever the client is: no extra, no library that only dresses text."""
    code = """
import sys
for name in ("rich", "typer", "pygments", "fastapi", "uvicorn", "sqlalchemy", "playwright"):
    sys.modules[name] = None
sys.argv = ["cdpbridge", "reap", "--dry-run"]
from cdpbridge.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(CDPBRIDGE_JOURNAL=str(tmp_path / "journal")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "nothing was left" in done.stderr) == (0, True), done.stderr
