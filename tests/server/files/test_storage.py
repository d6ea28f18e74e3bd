"""The folder of files."""

import os
from uuid import uuid4

import pytest

from cdpbridge.server.files import FileStore, SharedFolders, distinct_names


def test_what_a_killed_server_has_left_goes_at_the_next_start(tmp_path):
    files = FileStore(tmp_path)
    task, uploads = files.make(files.task_folder(uuid4())), files.make(files.uploads(uuid4()))
    scratch = task / ".agent-0123" / "config"
    scratch.mkdir(parents=True)
    (scratch / "notes").write_text("x")
    (task / "agent.log").write_text("went well")
    (uploads / ".0123.upload").write_text("half")
    (uploads / "prices.csv").write_text("1;2")
    files.tidy()
    assert [file.name for file in task.iterdir()] == ["agent.log"]
    assert [file.name for file in uploads.iterdir()] == ["prices.csv"]
    FileStore(tmp_path / "nothing").tidy()


def test_a_name_that_chromium_has_only_taken_is_not_listed(tmp_path):
    files = FileStore(tmp_path)
    downloads = files.make(files.downloads(uuid4()))
    draft, taken = downloads / "report.txt.crdownload", downloads / "report.txt"
    draft.write_text("numbers")
    taken.touch()
    (downloads / "empty.txt").touch()
    assert [(file.name, file.size) for file in files.listing(downloads)] == [("empty.txt", 0)]
    draft.rename(taken)
    assert [(file.name, file.size) for file in files.listing(downloads)] == [
        ("empty.txt", 0),
        ("report.txt", 7),
    ]


def test_names_that_come_again_have_a_number():
    given = ["note.txt", "note.txt", "note (2).txt", "notes", "notes", "a/../b.txt", "b.txt", "x" * 300]
    assert distinct_names(given) == [
        "note.txt",
        "note (2).txt",
        "note (2) (2).txt",
        "notes",
        "notes (2)",
        "b.txt",
        "b (2).txt",
        "x" * 255,
    ]
    assert all(len(name.encode()) <= 255 for name in distinct_names(["ü" * 200 + ".txt"] * 3))


@pytest.mark.parametrize("apart", [False, True])
def test_files_of_a_place_become_those_of_the_browser_that_it_is_given_to(tmp_path, apart):
    """`apart`: a running browser cannot reach the store, and has its folders in its place."""
    shared = SharedFolders(tmp_path / "run") if apart else None
    files = FileStore(tmp_path / "kept", shared)
    place, browser, task = uuid4(), uuid4(), uuid4()
    (tmp_path / "run" / "browsers" / str(place)).mkdir(parents=True)
    first = files.open_browser(place, os.geteuid())
    downloads = files.assign(place, browser)
    assert (downloads == first) is apart
    assert files.downloads(browser) == downloads
    (downloads / "prices.csv").write_text("1;2")
    path = f"browsers/{browser}/downloads/prices.csv"
    assert [each.path for each in files.listing(downloads)] == [path]
    assert files.file(path) == downloads / "prices.csv"
    assert downloads.parent in files.browser_folders(browser)
    _, agents = files.open_task(task, browser)
    assert (agents.parent.name == str(place)) is apart
    files.close_task(task, agents)
    files.close_browser(browser)
    assert files.file(path).is_relative_to(tmp_path / "kept")
    assert files.listing(files.downloads(place)) == []

    unused = uuid4()
    (tmp_path / "run" / "browsers" / str(unused)).mkdir()
    (files.open_browser(unused, os.geteuid()) / "left").touch()
    files.discard(unused)
    files.discard(unused)
    assert not (tmp_path / "kept" / "browsers" / str(unused)).exists()
    assert not (tmp_path / "run" / "tasks" / str(unused)).exists()
