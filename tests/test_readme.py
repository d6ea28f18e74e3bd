"""README is true: its settings are the server's, its commands and links exist."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cdpbridge import server
from cdpbridge.integrations import scrapy

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@pytest.mark.parametrize(
    ("name", "table"), [("settings", server.settings_table), ("scrapy", scrapy.settings_table)]
)
def test_tables_of_settings_are_those_of_the_code(name: str, table: Callable[[], str]) -> None:
    begin, end = f"<!-- {name}: written by tests/test_readme.py -->\n", f"<!-- /{name} -->"
    text = README.read_text()
    before, rest = text.split(begin)
    found, after = rest.split(end)
    expected = f"{table()}\n"
    if found != expected:
        README.write_text(before + begin + expected + end + after)
    assert found == expected, f"README.md had an old table of {name}; it is written anew: commit it"


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(file: str) -> None:
    text = (ROOT / file).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_files_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:api|cdp|server|cli|_tools|routes|store|hosts)/_?\w+\.(?:py|json))`", text):
        assert list((ROOT / "cdpbridge").rglob(name)), name


def test_the_first_screen_names_targets_that_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", README.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_python_in_readme_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        compile(
            f"async def _example():\n{''.join(f'    {line}' for line in block.splitlines(keepends=True))}",
            "README",
            "exec",
        )
