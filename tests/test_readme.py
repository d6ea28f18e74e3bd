"""README is true: its settings are the server's, its commands and links exist."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cdpbridge import server
from cdpbridge.integrations import scrapy

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
]


def test_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ("name", "page", "table"),
    [("settings", "server.md", server.settings_table), ("scrapy", "scrapy.md", scrapy.settings_table)],
)
def test_tables_of_settings_are_those_of_the_code(name: str, page: str, table: Callable[[], str]) -> None:
    file = ROOT / "docs" / page
    begin, end = f"<!-- {name}: written by tests/test_readme.py -->\n", f"<!-- /{name} -->"
    text = file.read_text()
    before, rest = text.split(begin)
    found, after = rest.split(end)
    expected = f"{table()}\n"
    if found != expected:
        file.write_text(before + begin + expected + end + after)
    assert found == expected, f"docs/{page} had an old table of {name}; it is written anew: commit it"


@pytest.mark.parametrize("file", PAGES)
def test_links_to_files_lead_somewhere(file: str) -> None:
    text = (ROOT / file).read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or ((ROOT / file).parent / target).exists(), target


def test_every_page_is_linked_from_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text()))
    assert linked == {page for page in PAGES if page.startswith("docs/")}


def test_files_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:api|cdp|server|cli|_tools|routes|store|hosts)/_?\w+\.(?:py|json))`", text):
        assert list((ROOT / "cdpbridge").rglob(name)), name


def test_the_first_screen_names_targets_that_make_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", README.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_python_in_the_documentation_compiles() -> None:
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    ]
    assert len(blocks) >= 10
    for block in blocks:
        compile(
            f"async def _example():\n{''.join(f'    {line}' for line in block.splitlines(keepends=True))}",
            "README",
            "exec",
        )
