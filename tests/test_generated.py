"""The generated files are what their pinned input gives."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cdpbridge._tools import generate_api, generate_docs, generate_protocol, pin_protocol

pytestmark = pytest.mark.programs


def test_protocol_package_is_what_the_definition_gives(tmp_path: Path) -> None:
    names = generate_protocol.generate(tmp_path)
    for name in names:
        assert (tmp_path / name).read_bytes() == (generate_protocol.PACKAGE / name).read_bytes(), name
    kept = {file.name for file in generate_protocol.PACKAGE.glob("*.py")}
    assert kept == {*names, "_base.py"}


def test_a_changed_a_missing_and_a_surplus_file_are_all_reported(tmp_path: Path) -> None:
    generated, package = tmp_path / "generated", tmp_path / "package"
    shutil.copytree(generate_protocol.PACKAGE, generated, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(generated, package)
    assert generate_protocol.differences(generated, package) == []
    with (package / "page.py").open("a") as file:
        file.write("# edited\n")
    (package / "io.py").unlink()
    (package / "gone.py").write_text("")
    (package / "_base.py").write_text("# by hand")
    assert generate_protocol.differences(generated, package) == ["gone.py", "io.py", "page.py"]


def test_check_passes_on_the_repository(capsys) -> None:
    assert generate_protocol.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_check_names_the_stale_files(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(generate_protocol, "PACKAGE", tmp_path)
    assert generate_protocol.main(["--check"]) == 1
    assert "page.py" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_pinned_definition_is_the_whole_protocol() -> None:
    domains = pin_protocol.load()["domains"]
    count = {
        kind: sum(len(domain.get(kind, ())) for domain in domains) for kind in ("commands", "events", "types")
    }
    assert len(domains) == 59
    assert count == {"commands": 674, "events": 232, "types": 610}


def test_pinned_file_is_in_the_form_that_pinning_writes() -> None:
    assert pin_protocol.to_text(pin_protocol.load()) == pin_protocol.PINNED.read_text(encoding="utf-8")


def test_the_synchronous_client_is_what_the_asynchronous_one_gives(capsys) -> None:
    assert generate_api.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_client_is_reported(tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(generate_api.API / "_async", tmp_path / name / "_async")
        shutil.copytree(generate_api.API / "_sync", tmp_path / name / "_sync")
    one, other = tmp_path / "one", tmp_path / "other"
    assert generate_api.differences(one, other) == []
    with (other / "_sync" / "_client.py").open("a") as file:
        file.write("# edited\n")
    (other / "_sync" / "_gone.py").write_text("")
    assert generate_api.differences(one, other) == ["_sync/_client.py", "_sync/_gone.py"]


def test_no_sentence_about_event_loops_is_left_over() -> None:
    """Each entry of the table of sentences is in use, and the copy speaks of threads."""
    source = "".join(file.read_text() for file in (generate_api.API / "_async").glob("*.py"))
    assert [sentence for sentence in generate_api.PROSE if sentence not in source] == []
    copy = "".join(file.read_text() for file in (generate_api.API / "_sync").glob("*.py"))
    for word in ("async ", "await ", "asyncio", "Async", "event loop that", "cancelled"):
        assert word not in copy.replace("the caller is cancelled", ""), word


@pytest.mark.parametrize(
    ("source", "copy"),
    [
        (
            "async def f() -> Awaitable[list[int]]:\n    return await g()\n",
            "def f() -> list[int]:\n    return g()\n",
        ),
        (
            "async with a as b, c:\n    x = [y async for y in z]\n",
            "with a as b, c:\n    x = [y for y in z]\n",
        ),
        ("class AsyncThing:  # as `async for`\n    pass\n", "class Thing:  # as `for`\n    pass\n"),
        ("a = 1\n# asynchronous only: why\nb = 2\n# end\nc = 3\n", "a = 1\nc = 3\n"),
    ],
)
def test_the_copy_has_no_loop(source: str, copy: str) -> None:
    assert generate_api.without_loop(source) == copy


def test_the_pages_of_the_reference_are_what_the_code_gives(capsys) -> None:
    assert generate_docs.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_and_a_missing_page_are_written_and_reported(tmp_path: Path, monkeypatch, capsys) -> None:
    shutil.copytree(generate_docs.DOCS, tmp_path / "docs")
    monkeypatch.setattr(generate_docs, "DOCS", tmp_path / "docs")
    (tmp_path / "docs/reference/errors.md").unlink()
    (tmp_path / "docs/llms.txt").write_text("# edited")
    assert generate_docs.main(["--check"]) == 1
    assert "reference/errors.md, llms.txt" in capsys.readouterr().out
    assert generate_docs.main([]) == 0
    assert generate_docs.main(["--check"]) == 0


def test_every_variable_that_the_package_reads_is_on_the_page_of_variables() -> None:
    """Names in the source, but for Scrapy's settings and what is passed on to browser-use."""
    package = generate_docs.ROOT / "cdpbridge"
    found = set()
    for file in package.rglob("*.py"):
        if not {"_tools", "integrations", "agent", "protocol"} & set(file.relative_to(package).parts):
            found |= set(
                re.findall(r'"((?:CDPBRIDGE|BROWSER_USE|PLAYWRIGHT)_[A-Z_]*[A-Z])"', file.read_text())
            )
    assert len(found) > 10
    assert found <= generate_docs.variables()
