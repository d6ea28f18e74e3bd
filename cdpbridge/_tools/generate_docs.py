"""Write the pages of the documentation that follow from code: `python -m cdpbridge._tools.generate_docs`.

| page | from |
|---|---|
| docs/reference/cli.md | the command tree of click |
| docs/reference/environment.md | `CLIENT_VARIABLES`, options of commands, settings of the server |
| docs/reference/errors.md | docstrings of `cdpbridge.errors`, and `_remedies.py` |
| docs/reference/rest-api.md | the server's own OpenAPI document |
| docs/reference/settings.md | `server.settings_table` |
| docs/images/icon.svg | the console's icon |
| docs/llms.txt | the navigation in mkdocs.yml, and the first sentence of each page |
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import yaml

from cdpbridge import errors, server
from cdpbridge._tools._remedies import REMEDIES
from cdpbridge.cli._app import app

__all__ = ["CLIENT_VARIABLES", "DOCS", "all_commands", "main", "navigation", "pages", "variables"]

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
_HEAD: Final = "<!-- Written by `python -m cdpbridge._tools.generate_docs`; do not edit. -->\n\n"
_RAW: Final = "https://raw.githubusercontent.com/cdpbridge/cdpbridge/main/docs/"
_PAGE: Final = re.compile("Page_(\\w+)_")
_NOT_SHOWN: Final = {"HTTPValidationError", "ValidationError"}
_METHODS: Final = ("get", "post", "patch", "put", "delete")

CLIENT_VARIABLES: Final = {
    "BROWSER_USE_API_KEY": "API key of the server that the environment names; of the Browser Use Cloud when it names none. It is "
    "sent to that server only.",
    "BROWSER_USE_SECOND_API_KEY": "Key of another project of the same server, for `cdpbridge doctor --attack`, which then attacks that "
    "project's records.",
    "CDPBRIDGE_PROVIDER": "Where browsers are rented: `cloud`, `local`, or a base URL such as `http://127.0.0.1:8700/api/v2`. "
    "Default: the cloud when `BROWSER_USE_API_KEY` is set, else this machine.",
    "CDPBRIDGE_BASE_URL": "Base URL of the REST API, when `CDPBRIDGE_PROVIDER` is not set.",
    "CDPBRIDGE_CHROMIUM": "Chromium's binary for browsers on this machine. Default: the usual places.",
    "PLAYWRIGHT_BROWSERS_PATH": "Folder of Playwright's own browsers, one of the places where Chromium is looked for.",
    "CDPBRIDGE_JOURNAL": "File of the [journal](../journal.md), or `off`. Default: in the platform's state folder.",
    "CDPBRIDGE_REAP": "`1`: before each rental, stop what killed programs have left.",
    "CDPBRIDGE_BUDGET_USD": "USD a day that all programs of this machine may spend. See [budgets](../budgets.md).",
    "CDPBRIDGE_BUDGET_MINUTES": "Minutes a day that all programs of this machine may use.",
    "CDPBRIDGE_BUDGET_BROWSERS": "Browsers that all programs of this machine may have at once.",
    "CDPBRIDGE_TRACE": "File that CDP messages are written to, for a look at what was sent. Secrets are cut out.",
    "CDPBRIDGE_LOG": "Level of the log on stderr of `cdpbridge serve`, e.g. `DEBUG`.",
    "CDPBRIDGE_ADMIN_KEY": "Admin key of the server that `keys`, `projects` and `credits` reach over the network.",
    "CDPBRIDGE_PACKAGE": "What `profile.sh` of a server installs, e.g. a wheel. Default: `cdpbridge`.",
    "CDPBRIDGE_CONFIG": "TOML file with settings of the server.",
}
"""Variables that are neither an option of a command nor a setting of the server."""


def pages() -> dict[str, str]:
    """Return each generated file by its path below `docs/`."""
    reference = {
        "reference/cli.md": _command_line(),
        "reference/environment.md": _environment(),
        "reference/errors.md": _errors(),
        "reference/rest-api.md": _rest(),
        "reference/settings.md": _settings(),
    }
    icon = (ROOT / "cdpbridge/server/console/static/icon.svg").read_text(encoding="utf-8")
    return {**reference, "llms.txt": _llms(reference), "images/icon.svg": icon}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)]) + "\n"


def _attributes(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring's text, and what its section `Attributes` says of each."""
    text, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
    return text, {name: " ".join(meaning.split()) for name, meaning in found}


# --- command line -----------------------------------------------------------------------------------------------------


def _commands(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below `command`, with its context, in the order of `--help`."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(
                    child, click.Context(child, info_name=name, parent=context, show_default=True)
                )


def all_commands() -> Iterator[tuple[click.Command, click.Context]]:
    """Every command of the command line, groups included, with its context."""
    return _commands(app, click.Context(app, info_name="cdpbridge", show_default=True))


def _command_line() -> str:
    parts = ["# Command line\n\nThe same texts as `cdpbridge --help` and `cdpbridge COMMAND --help`.\n"]
    for command, context in all_commands():
        if command is app:
            continue
        level = "##" if context.parent is not None and context.parent.command is app else "###"
        usage = " ".join(f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}".split())
        parts.append(f"{level} {context.command_path}\n\n`{usage}`\n")
        if command.help:
            parts.append(_prose(command.help))
        rows = [
            (f"`{record[0]}`", record[1])
            for each in command.get_params(context)
            if isinstance(each, click.Option)
            and "--help" not in each.opts
            and (record := each.get_help_record(context)) is not None
        ]
        if rows:
            parts.append(_table(("option", "meaning"), rows))
    return _HEAD + "\n".join(parts)


def _prose(text: str) -> str:
    """A docstring as Markdown: indented lines stay code, others are joined to paragraphs by the reader."""
    return inspect.cleandoc(text).replace("\b\n", "") + "\n"


# --- environment and settings -----------------------------------------------------------------------------------------


def _of_options() -> dict[str, str]:
    """Variables that options of commands take their value from."""
    found: dict[str, str] = {}
    for command, context in all_commands():
        for option in command.params:
            names = getattr(option, "envvar", None) or ()
            for name in (names,) if isinstance(names, str) else names:
                if name not in CLIENT_VARIABLES:
                    help_text = getattr(option, "help", None) or ""
                    found.setdefault(name, f"`{context.command_path} {option.opts[-1]}`: {help_text}")
    return found


def _setting_rows() -> list[tuple[str, str, str, str]]:
    """Setting, variable, default, meaning."""
    lines = server.settings_table().splitlines()[2:]
    rows = [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
    return [
        (setting, variable, default, meaning.replace("\\|", "|"))
        for setting, variable, default, meaning in rows
    ]


def variables() -> set[str]:
    """Every variable that the page lists."""
    return {*CLIENT_VARIABLES, *_of_options(), *(row[1].strip("`") for row in _setting_rows())}


def _environment() -> str:
    client = [(f"`{name}`", meaning) for name, meaning in CLIENT_VARIABLES.items()]
    options = [(f"`{name}`", meaning) for name, meaning in sorted(_of_options().items())]
    settings = [(variable, meaning) for _, variable, _, meaning in _setting_rows()]
    head = ("variable", "meaning")
    return (
        _HEAD + "# Environment variables\n\n"
        "All of them. An empty value counts as not set. Arguments of a call or a command come first, then the environment. "
        "Names that begin with `CDPBRIDGE_` in a Scrapy project are settings of Scrapy, see [Scrapy](../scrapy.md).\n\n"
        f"## Clients and commands\n\n{_table(head, client)}\n"
        f"## Options of commands\n\n{_table(head, options)}\n"
        "## Settings of the server\n\n"
        'Read by `cdpbridge serve` and `local()`. Lists and tables are JSON, e.g. `CDPBRIDGE_API_KEYS=\'{"team-a": "KEY"}\'`. '
        f"[Defaults](settings.md)\n\n{_table(head, settings)}"
    )


def _settings() -> str:
    parts = [
        _HEAD + "# Settings of the server\n\n"
        "From keyword arguments of `local()` or options of `cdpbridge serve`, environment variables, or one TOML file "
        "(`--config`, `CDPBRIDGE_CONFIG`), in that order. `cdpbridge serve --show-settings` prints them.\n"
    ]
    rows: list[tuple[str, ...]] = [
        (setting, default, meaning) for setting, _, default, meaning in _setting_rows()
    ]
    parts.append(_table(("setting", "default", "meaning"), rows))
    parts.append(
        "The environment variable of a setting is `CDPBRIDGE_` and its name in capitals, e.g. `CDPBRIDGE_MAX_BROWSERS`.\n"
    )
    return "\n".join(parts)


# --- errors -----------------------------------------------------------------------------------------------------------


def _in_tree_order() -> list[type[Exception]]:
    """Every public error, parents first, as in the tree of the package's docstring."""
    names = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    classes = [errors.CDPBridgeError, *(getattr(errors, name) for name in names)]
    public = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    listed = {each.__name__ for each in classes}
    if missing := (listed ^ public) | (public - REMEDIES.keys()):
        raise ValueError(
            "the tree in errors/__init__.py, `__all__` and _remedies.py must name the same classes, but not all have: "
            + ", ".join(sorted(missing))
        )
    return classes


def _errors() -> str:
    tree = inspect.cleandoc((errors.__doc__ or "").partition("\n\n")[2].partition("\n\nA wait")[0])
    parts = [
        _HEAD
        + "# Errors\n\nEvery exception is in `cdpbridge.errors`. Its message says what was done, what happened and what to do. "
        "A wait that took too long is a `TimeoutError` too. All survive `pickle`.\n",
        "```text\n" + tree + "\n```\n",
    ]
    for each in _in_tree_order():
        text, attributes = _attributes(each.__doc__ or "")
        parents = ", ".join(f"`{parent.__name__}`" for parent in each.__bases__)
        parts.append(f"## {each.__name__}\n\n*{parents}.* {' '.join(text.split())}\n")
        parts.append(f"**What to do:** {REMEDIES[each.__name__]}\n")
        if attributes:
            parts.append("\n".join(f"- `{name}`: {meaning}" for name, meaning in attributes.items()) + "\n")
    return "\n".join(parts)


# --- REST -------------------------------------------------------------------------------------------------------------


def _rest() -> str:
    with tempfile.TemporaryDirectory() as folder:
        document = server.create_app(server.Settings(data_dir=Path(folder))).openapi()
    parts = [
        _HEAD + "# REST API\n\n"
        "The operations of a cdpbridge server: those of the Browser Use Cloud API v2, and a few of its own. Every request needs the "
        "header `X-Browser-Use-API-Key`. A running server gives the whole document at `/openapi.json`. "
        "From Python, use [the client](../rest.md).\n"
    ]
    tag = ""
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if (operation := operations.get(method)) is None:
                continue
            if (found := operation.get("tags", ["Other"])[0]) != tag:
                tag = found
                parts.append(f"## {tag}\n")
            parts.append(f"### {method.upper()} {path}\n\n{_operation(operation)}")
    parts.append("## Objects\n\nA page of a list has `items`, `totalItems`, `pageNumber` and `pageSize`.\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        if _PAGE.fullmatch(name) or name in _NOT_SHOWN:
            continue
        text, attributes = _attributes(schema.get("description", ""))
        # In JSON their names are in camelCase.
        meanings = {
            re.sub(r"_(\w)", lambda found: found[1].upper(), name): each for name, each in attributes.items()
        }
        rows = [
            (
                f"`{field}`" + ("" if field in schema.get("required", ()) else " (optional)"),
                _type(each),
                each.get("description") or meanings.get(field, ""),
            )
            for field, each in schema.get("properties", {}).items()
        ]
        parts.append(f"### {name}\n\n{text}\n")
        parts.append(_table(("field", "type", "meaning"), rows))
    return "\n".join(parts)


def _operation(operation: dict[str, Any]) -> str:
    """What an operation does, takes and answers."""
    parts = [_prose(operation.get("description", operation["summary"]))]
    parameters = [
        (f"`{each['name']}`", each["in"], _type(each["schema"]))
        for each in operation.get("parameters", [])
        if each["in"] != "path"
    ]
    if parameters:
        parts.append(_table(("parameter", "in", "type"), parameters))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {_type(body['content']['application/json']['schema'])}\n")
    status = min(operation["responses"])
    content = operation["responses"][status].get("content", {}).get("application/json", {})
    parts.append(f"Answers {status}, {_type(content['schema']) if content else 'without content'}.\n")
    return "\n".join(parts)


def _type(schema: dict[str, Any]) -> str:
    """A short form of a JSON schema's type, with links to objects."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        if page := _PAGE.fullmatch(name):
            return f"a page of [{page[1]}](#{page[1].lower()})"
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf"):
        return " or ".join(_type(each) for each in choices)
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


# --- llms.txt ---------------------------------------------------------------------------------------------------------


def navigation() -> list[tuple[str, list[tuple[str, str]]]]:
    """The sections of mkdocs.yml: their titles, and title and file of each page."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for entry in config["nav"]:
        [(title, content)] = entry.items()
        found = []
        for page in [{title: content}] if isinstance(content, str) else content:
            [(name, file)] = page.items() if isinstance(page, dict) else [("", page)]
            found.append((name, file))
        sections.append((title, found))
    return sections


def _llms(generated: dict[str, str]) -> str:
    """The list of pages in the form of llmstxt.org."""
    about = (
        "Hosted browsers from Python: rent one, drive it over CDP or Playwright, stop it, and get the unused minutes back. "
        "The same program runs on this machine, on a server of your own, and on the Browser Use Cloud."
    )
    parts = [f"# cdpbridge\n\n> {about}\n"]
    for section, files in navigation():
        parts.append(f"## {section}\n")
        lines = []
        for _, file in files:
            if file.startswith("https://"):
                continue
            text = generated.get(file) or (DOCS / file).read_text(encoding="utf-8")
            title, first = _beginning(text)
            lines.append(f"- [{title}]({_RAW}{file}): {first}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _beginning(text: str) -> tuple[str, str]:
    """The title of a page, and its first sentence."""
    body = re.sub(r"<!--.*?-->\s*|```.*?```", "", text, flags=re.DOTALL)
    title, _, rest = body.partition("\n")
    paragraphs = [
        each
        for each in rest.split("\n\n")
        if re.match(r"\s*[\w*`\[]", each) and not each.strip().startswith("The snippets go on")
    ]
    first = re.sub(r"\[([^]]+)\]\([^)]+\)|\*\*", r"\1", paragraphs[0]) if paragraphs else ""
    return title.removeprefix("# "), re.split(r"(?<=\.)\s", " ".join(first.split()))[0].rstrip(":")


# --- files ------------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` only compare."""
    parser = argparse.ArgumentParser(prog="python -m cdpbridge._tools.generate_docs")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when pages are stale"
    )
    check = parser.parse_args(arguments).check
    stale = []
    for name, text in pages().items():
        file = DOCS / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
    if stale:
        print(f"docs: {'stale' if check else 'written'}: {', '.join(stale)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
