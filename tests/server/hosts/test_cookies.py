"""Which of two witnesses knows more about the cookies of a browser that is gone."""

import os
import sqlite3

import pytest

from cdpbridge.server.hosts._cookies import CookieExport, cookies_to_keep

AT = 1_800_000_000.0
LASTING = {"name": "lasting", "session": False}
LOGIN = {"name": "login", "session": True}
EXPORT = CookieExport([LASTING, LOGIN], AT)


def database(user_data_dir, *, place="Default/Cookies", rows=(), modified=AT):
    """Chromium's cookie database with rows of these Unix times."""
    path = user_data_dir / place
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (creation_utc INTEGER, last_update_utc INTEGER)")
    for created, updated in rows:
        chromium = [int((moment + 11_644_473_600) * 1_000_000) for moment in (created, updated)]
        connection.execute("INSERT INTO cookies VALUES (?, ?)", chromium)
    connection.commit()
    connection.close()
    os.utime(path, (modified, modified))
    return path


def test_without_an_export_the_folder_says_it_all(tmp_path):
    assert cookies_to_keep(None, tmp_path, orderly=True) is None


@pytest.mark.parametrize("orderly", [True, False])
def test_without_a_database_the_export_says_it_all(tmp_path, orderly):
    assert cookies_to_keep(EXPORT, tmp_path, orderly=orderly) == [LASTING, LOGIN]


@pytest.mark.parametrize("place", ["Default/Cookies", "Default/Network/Cookies"])
@pytest.mark.parametrize(
    ("orderly", "modified", "rows", "kept"),
    [
        (True, AT + 1, [], [LOGIN]),  # written on the way out: what it lacks was deleted
        (True, AT - 1, [], [LASTING, LOGIN]),  # nothing had changed since the export
        (False, AT + 1, [], [LASTING, LOGIN]),  # only opened for the first time
        (False, AT + 1, [(AT - 5, AT - 5)], [LASTING, LOGIN]),
        (False, AT + 1, [(AT - 5, AT + 0.5)], [LOGIN]),
        (False, AT + 1, [(AT + 0.5, AT - 5)], [LOGIN]),
    ],
)
def test_who_knows_more(tmp_path, place, orderly, modified, rows, kept):  # noqa: PLR0917  # a row of the table
    database(tmp_path, place=place, rows=rows, modified=modified)
    assert cookies_to_keep(EXPORT, tmp_path, orderly=orderly) == kept


def test_a_damaged_database_knows_nothing(tmp_path):
    path = database(tmp_path)
    path.write_bytes(b"x" * 5000)
    os.utime(path, (AT + 1, AT + 1))
    assert cookies_to_keep(EXPORT, tmp_path, orderly=False) == [LASTING, LOGIN]


def test_written_and_read(tmp_path):
    assert CookieExport.read(tmp_path) is None
    EXPORT.write(tmp_path)
    assert CookieExport.read(tmp_path) == EXPORT
    assert [path.name for path in tmp_path.iterdir()] == ["cookies.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"at": "soon"}', "7"])
def test_a_damaged_export(tmp_path, content):
    (tmp_path / "cookies.json").write_text(content)
    with pytest.raises(ValueError):
        CookieExport.read(tmp_path)
