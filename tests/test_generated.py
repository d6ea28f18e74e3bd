"""The generated files are what their pinned input gives."""

from __future__ import annotations

import shutil
from pathlib import Path

from cdpbridge._tools import generate_protocol, pin_protocol


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
