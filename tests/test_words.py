"""Plain words: docstrings, comments, messages and names of the package use the field's terms. STYLE of the project, in a test."""

from __future__ import annotations

import re
from pathlib import Path

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


def banned(file: Path, text: str) -> list[str]:
    """The banned words of a text, as messages."""
    return [
        f"{file}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: write {instead}"
        for pattern, instead in WORD.items()
        for match in pattern.finditer(text)
    ]


def test_words() -> None:
    found = []
    for file in FILES:
        text = file.read_text()
        for allowed in ALLOWED.get(str(file.relative_to(PACKAGE)), ()):
            text = text.replace(allowed, "")
        found += banned(file, text)
    assert len(FILES) > 300
    assert not found, "\n".join(found)


ROOT = PACKAGE.parent
DOCUMENTS = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "README.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.py")),
]


def test_words_of_the_documentation() -> None:
    """Names of tests and settings, in backticks, are what they are."""
    assert len(DOCUMENTS) > 20
    found = [said for file in DOCUMENTS for said in banned(file, re.sub(r"`[^`\n]*`", "", file.read_text()))]
    assert not found, "\n".join(found)
