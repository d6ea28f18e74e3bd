"""Plain words: docstrings, comments, messages and names of the package use the field's terms. STYLE of the project, in a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cdpbridge"
GENERATED = ("protocol", "_tools", "versions", "_sync")
# Pattern, and what to write. A word ends at an underscore, too, so that names are read as words.
BANNED = {
    "wires?": "connection, socket, on the network",
    "(?:made|makes?|making) anew": "re-established, recreated",
    "rooms?": "module, package; space, capacity",
    "goodbyes?": "close frame",
    "newcomers?": "candidate, new session",
    "void|undone": "discarded, invalid, rolled back",
    "nobody|somebody|anybody|everybody|whoever": "no client, a client, any caller, all users",
    "hopeless|mishaps?|patience|mortal": "fatal, retryable failure, timeout",
    "ow(?:ed|es|ing)": "deferred, pending",
    "gone": "closed, exited, removed, absent",
    "puts? in order": "recover, clean up",
    "told": "notified, received, set",
    "keeps? (?:its|their) word": "confirms",
    "(?:is|are|be|was) let in": "admitted",
    "giv(?:en|es?|ing) up": "cancelled, abandoned, stops waiting",
}
WORD = {
    re.compile(rf"(?<![a-zA-Z])(?:{words})(?![a-zA-Z])", re.IGNORECASE): instead
    for words, instead in BANNED.items()
}
# The field's own uses: where, and the text that may stay.
ALLOWED: dict[str, tuple[str, ...]] = {
    # the suffix of a folder on disk
    "chromium/_uids.py": ("PATH.gone", ".gone"),
    # The end of a folder's name on disk, also of folders that earlier versions have left.
    "server/hosts/_folders.py": ('".gone"',),
}

FILES = [
    file
    for file in sorted(PACKAGE.rglob("*.py"))
    if not set(file.relative_to(PACKAGE).parts) & set(GENERATED)
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_words(file: Path) -> None:
    place = str(file.relative_to(PACKAGE))
    found = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        text = line
        for allowed in ALLOWED.get(place, ()):
            text = text.replace(allowed, "")
        found += [
            f"{place}:{number}: {match[0]!r}: write {instead}"
            for pattern, instead in WORD.items()
            for match in pattern.finditer(text)
        ]
    assert not found, "\n".join(found)


ROOT = PACKAGE.parent
DOCUMENTS = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "README.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.py")),
]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_words_of_the_documentation(file: Path) -> None:
    """Names of tests and settings, in backticks, are what they are."""
    found = [
        f"{file.name}:{number}: {match[0]!r}: write {instead}"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for pattern, instead in WORD.items()
        for match in pattern.finditer(re.sub(r"`[^`]*`", "", line))
    ]
    assert not found, "\n".join(found)
