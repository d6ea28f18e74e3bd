"""The folder of files."""

from uuid import uuid4

from cdpbridge.server.files import FileStore, distinct_names


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
