"""README is true: its settings are the server's, its commands and links exist."""

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cdpbridge._tools import generate_docs
from cdpbridge.integrations import scrapy
from tests.cases import cases

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))),
]
SOURCE = "https://github.com/cdpbridge/cdpbridge/blob/main/"


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def test_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize(("name", "page", "table"), [("scrapy", "scrapy.md", scrapy.settings_table)])
def test_tables_of_settings_are_those_of_the_code(name: str, page: str, table: Callable[[], str]) -> None:
    file = ROOT / "docs" / page
    begin, end = f"<!-- {name}: written by tests/test_readme.py -->\n", f"<!-- /{name} -->"
    text = file.read_text()
    before, rest = text.split(begin)
    found, after = rest.split(end)
    expected = f"{table()}\n"
    if found != expected:
        file.write_text(before + begin + expected + end + after)
    assert found == expected, f"docs/{page} had an old table of {name}; it is written again: commit it"


@cases("file", PAGES)
def test_links_to_files_lead_somewhere(file: str) -> None:
    text = without_code((ROOT / file).read_text())
    for target in re.findall(r"\]\(([^)#]+)", text):
        ours = target.removeprefix(SOURCE)
        if ours != target:
            assert (ROOT / ours).exists(), target
        else:
            assert target.startswith("https://") or ((ROOT / file).parent / target).exists(), target


@cases("file", PAGES)
def test_links_to_headings_lead_somewhere(file: str) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", without_code((ROOT / file).read_text())):
        page = (ROOT / file).parent / target if target else ROOT / file
        headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
        # As the site and GitHub make them of a title.
        assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, (
            target
        )


def test_every_page_is_in_the_navigation() -> None:
    files = [f"docs/{file}" for _, files in generate_docs.navigation() for _, file in files]
    assert len(files) == len(set(files))
    assert {file for file in files if "https://" not in file} == {p for p in PAGES if p.startswith("docs/")}


def test_readme_links_to_the_start_of_each_part() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text()))
    assert {"docs/index.md", "docs/reference/index.md", "docs/troubleshooting.md"} <= linked
    for _, files in generate_docs.navigation():
        assert linked & {f"docs/{file}" for _, file in files}, files


def test_what_readme_tells_to_write_stands_on_the_page_it_links_to() -> None:
    """The pages' blocks are run; README's table shows lines of them."""
    rows = re.findall(
        r"^\| (\w+): `(.+?)` \| (.+) \| \[[^]]+\]\((.+)\) \|$", README.read_text(), re.MULTILINE
    )
    assert [name for name, *_ in rows] == ["Playwright", "pytest", "Scrapy", "Selenium", "Puppeteer"]
    for _, before, after, page in rows:
        text = (ROOT / page).read_text()
        for code in [before, *re.findall(r"`(.+?)`", after)]:
            assert code in text, (page, code)


def test_commands_in_the_documentation_exist() -> None:
    commands = {context.command_path: command for command, context in generate_docs.all_commands()}
    found = 0
    for file in PAGES:
        if file == "CHANGELOG.md":
            continue
        for line in re.findall(
            r"`(cdpbridge [^`]+)`|^(cdpbridge .*)$", (ROOT / file).read_text(), re.MULTILINE
        ):
            words = shlex.split("".join(line).split("#")[0])
            name = next(
                name for end in (3, 2, 1) if (name := " ".join(words[:end])) in commands and end <= len(words)
            )
            group = commands[name]
            rest = words[len(name.split()) :]
            known = {opt for each in group.params for opt in each.opts} | {"--help", "--version"}
            assert not hasattr(group, "commands") or not rest or rest[0].isupper() or rest[0] in known, line
            for word in rest:
                if word.startswith("--"):
                    assert word in known, (file, line)
            found += 1
    assert found > 60


def test_variables_in_the_documentation_exist() -> None:
    known = generate_docs.variables()
    known |= set(re.findall(r"CDPBRIDGE_\w+", scrapy.settings_table()))
    for file in PAGES:
        for name in re.findall(r"\b(?:CDPBRIDGE|BROWSER_USE)_[A-Z][A-Z_]*[A-Z]\b", (ROOT / file).read_text()):
            assert name in known, (file, name)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    said = [
        node.value
        for file in (ROOT / "cdpbridge").rglob("*.py")
        if "protocol" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    foreign = ("net::", "fixture ", "Executable ", "It looks like", "429", "503")
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    messages = [
        text for row in rows for text in re.findall(r"`([^`]+)`", row) if not text.startswith(foreign)
    ]
    assert len(messages) > 10
    parts = [part for text in messages for part in re.split(r" ?\.\.\. ?|^\d+ ", text)]
    assert [part for part in parts if not any(part in each for each in said)] == []


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
