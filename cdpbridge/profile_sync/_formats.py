"""Files of cookies and storage states, of any exporter: what is in them, not yet checked."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cdpbridge.errors import ConfigurationError

__all__ = ["GivenState", "given_state", "read_state"]

_FORMS: Final = (
    "it takes Playwright's storage_state, a JSON list of cookies as extensions, Puppeteer and Selenium write it, or a cookies.txt "
    "of seven columns with tabs between them"
)
_NO_STATE: Final = "this is no storage state: it needs `cookies` with name, value, domain and path, and `origins` with localStorage or indexedDB"
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HTTP_ONLY: Final = "#HttpOnly_"
_COLUMNS: Final = 7
_PAIR: Final = re.compile(r"[^\s=;{}\[\]<>]+=[^;\n]*(;|$)")


@dataclass(frozen=True, slots=True)
class GivenState:
    """What is in a file of cookies or a storage state, not yet checked.

    Attributes:
        cookies: In the spelling of the exporter; secrets.
        origins: As of Playwright's `storage_state`; secrets.
        url: The site of cookies that name none.
        lost: Parts that cannot be read, as sentences without values.
    """

    cookies: list[Any] = field(repr=False)
    origins: list[Any] = field(default_factory=list, repr=False)
    url: str | None = None
    lost: list[str] = field(default_factory=list)


def read_state(file: Path | str) -> GivenState:
    """Read a file that `import_state` takes: a `storage_state`, a JSON list of cookies, or a cookies.txt.

    Raises:
        ConfigurationError: It cannot be read, or is none of these. The message has no values.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is no text in UTF-8 or UTF-16") from None
    try:
        return _of_text(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def given_state(value: object) -> GivenState:
    """Find the cookies and origins in what a program or a JSON file gives.

    Raises:
        ConfigurationError: There are none. The message has no values.
    """
    if isinstance(value, GivenState):
        return value
    if isinstance(value, list | tuple):
        return GivenState(_objects(value))
    if not isinstance(value, Mapping):
        raise ConfigurationError(_NO_STATE)
    if isinstance(value.get("result"), Mapping):  # the reply of `Storage.getCookies`, whole
        return given_state(value["result"])
    if "name" in value or "Name raw" in value:
        return GivenState([value])
    parts = [value[name] for name in ("cookies", "origins") if value.get(name) is not None]
    if not parts:
        if isinstance(value.get("data"), str):
            raise ConfigurationError("this export is encrypted; export it without a password")
        if value and all(isinstance(each, str) for each in value.values()):
            raise ConfigurationError(
                f"this is a mapping of names and values, which does not tell the sites of the cookies: {_FORMS}"
            )
        raise ConfigurationError(_NO_STATE)
    if not all(isinstance(part, list | tuple) for part in parts):
        raise ConfigurationError(f"{_NO_STATE}, both lists")
    url = value.get("url")
    return GivenState(
        _objects(value.get("cookies") or ()),
        list(value.get("origins") or ()),
        url if isinstance(url, str) else None,
    )


def _objects(cookies: Any) -> list[Any]:
    if cookies and not any(isinstance(each, Mapping) for each in cookies):
        raise ConfigurationError(f"{_NO_STATE} (no cookie is an object)")
    return list(cookies)


def _of_text(text: str) -> GivenState:
    text = text.lstrip("\ufeff")
    start = text.lstrip()[:1]
    if not start:
        raise ConfigurationError("it is empty")
    if start in {"[", "{"}:
        return given_state(_json(text))
    rows = [line for line in text.splitlines() if not _is_comment(line)]
    if any("\t" in line for line in rows) or text.lstrip().lower().startswith(
        ("# netscape http cookie", "# http cookie")
    ):
        return _of_table(text)
    if len(rows) == 1 and _PAIR.match(rows[0].strip().removeprefix("Cookie:").strip()):
        raise ConfigurationError(
            f"this is the value of a Cookie header, which does not tell the sites of the cookies: {_FORMS}"
        )
    raise ConfigurationError(f"this is no JSON file, and no cookies.txt: {_FORMS}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ConfigurationError("this is no JSON file of cookies: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        try:  # a cookie in each line
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise ConfigurationError(
                f"this is no JSON file: {error.msg} at line {error.lineno}, column {error.colno}"
            ) from None


# --- cookies.txt ------------------------------------------------------------------------------------------------------


def _is_comment(line: str) -> bool:
    return not line.strip() or (line.startswith("#") and not line.startswith(_HTTP_ONLY))


def _of_table(text: str) -> GivenState:
    """Read the table that curl, wget, yt-dlp and extensions write."""
    cookies: list[Any] = []
    lost: list[str] = []
    # Only these end a line: a value may have what Python takes for one.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if _is_comment(line):
            continue
        http_only = line.startswith(_HTTP_ONLY)
        columns = line.removeprefix(_HTTP_ONLY).split("\t", _COLUMNS - 1)
        if len(columns) == _COLUMNS - 1:
            columns.append("")  # an editor has taken the tab before an empty value
        if len(columns) != _COLUMNS:
            lost.append(f"line {number}: a cookie has {_COLUMNS} columns, with tabs between them")
            continue
        domain, below, path, secure, expires, name, value = columns
        cookies.append(
            {
                "name": name,
                "value": value,
                # A dot says it, too: some exporters write the flag the wrong way round.
                "domain": domain,
                "hostOnly": below.strip().upper() != "TRUE" and not domain.startswith("."),
                "path": path,
                "secure": secure,
                "expires": expires,
                "httpOnly": http_only,
            }
        )
    if not cookies:
        raise ConfigurationError(
            f"this is no cookies.txt, or one without cookies{'; ' if lost else ''}{'; '.join(lost[:3])}"
        )
    return GivenState(cookies, lost=lost)
