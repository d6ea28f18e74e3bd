"""The text of documents, by what is in them and not by their names. Loaded by the agent's own process, see `_child`."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from pypdf import PdfReader
from pypdf.errors import PyPdfError

__all__ = ["Unreadable", "is_image", "kind", "text"]

_MEMBER_BYTES: Final = 50 * 1024 * 1024
"""Bytes of one part of an Office file, unpacked: a small file can hold a huge one."""

_HEAD_BYTES: Final = 4096
_PDF_PAGES: Final = 500
_IMAGES: Final = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_WORD: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SHEET: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# ECMA-376 part 1, 18.8.30: built-in formats of dates and times.
_DATE_FORMATS: Final = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
_DATE_LETTERS: Final = re.compile(r"[ymdhs]", re.IGNORECASE)
_LITERAL: Final = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.')
_EPOCH: Final = datetime(1899, 12, 30)  # noqa: DTZ001  # spreadsheets know no zone


class Unreadable(Exception):
    """There is no text to be had; the message says why."""


def kind(path: Path) -> str:
    """Return what is in a file, in a word for the model."""
    head = _head(path)
    found = _image(head)
    if found:
        return f"{found} image"
    if head.startswith(b"%PDF"):
        return "PDF"
    if head.startswith(b"PK\x03\x04"):
        return _office(path) or "zip archive"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "old Office document"
    if b"<svg" in head:
        return "SVG image as text"
    return "text" if _decoded(head, whole=False) is not None else "binary file"


def is_image(path: Path) -> bool:
    """Return True if a model can be shown it."""
    return bool(_image(_head(path)))


def text(path: Path) -> str:
    """Return what can be read in a file.

    Raises:
        Unreadable: Nothing.
    """
    found = kind(path)
    try:
        if found == "PDF":
            return _pdf(path)
        if found == "Word document":
            return _docx(path)
        if found == "Excel sheet":
            return _xlsx(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, ET.ParseError) as error:
        raise Unreadable(f"this {found} is damaged") from error
    if found == "old Office document":
        from_old = _old_office(path)
        if from_old.strip():
            return from_old
        raise Unreadable("no text was found in this old Office document")
    decoded = _decoded(path.read_bytes(), whole=True) if found in {"text", "SVG image as text"} else None
    if decoded is None:
        raise Unreadable(f"it is a {found}, not text")
    return decoded


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _image(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _IMAGES.items() if head.startswith(magic)), None)


def _decoded(data: bytes, *, whole: bool) -> str | None:
    """Text in one of the encodings that programs write; None when it is none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character that the head ends in.
        if not whole and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8-sig")
    decoded = data.decode("cp1252", errors="replace")
    odd = sum(not (letter.isprintable() or letter.isspace()) or letter == "\ufffd" for letter in decoded)
    return decoded if odd * 100 <= len(decoded) else None


def _pdf(path: Path) -> str:
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is locked by a password")
        pages = [
            f"--- Page {number} ---\n{page.extract_text() or ''}"
            for number, page in enumerate(reader.pages[:_PDF_PAGES], 1)
        ]
    except (PyPdfError, RecursionError, AttributeError, TypeError) as error:
        raise Unreadable("this PDF is damaged") from error
    left_out = len(reader.pages) - len(pages)
    return "\n\n".join([*pages, *([f"({left_out} more pages)"] if left_out else [])])


def _office(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return None
    if "word/document.xml" in names:
        return "Word document"
    return "Excel sheet" if "xl/workbook.xml" in names else None


def _part(archive: zipfile.ZipFile, name: str) -> ET.Element:
    with archive.open(name) as member:
        data = member.read(_MEMBER_BYTES + 1)
    if len(data) > _MEMBER_BYTES or b"<!DOCTYPE" in data[:_HEAD_BYTES]:
        raise ValueError(f"{name} is not what Office writes")
    return ET.fromstring(data)  # noqa: S314  # without a document type there are no entities


def _docx(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        document = _part(archive, "word/document.xml")
    return "\n".join(_blocks(document[0]))


def _blocks(parent: ET.Element) -> Iterator[str]:
    """Paragraphs, and the rows of tables with tabs between their cells."""
    for node in parent:
        if node.tag == f"{_WORD}p":
            yield _runs(node)
        elif node.tag == f"{_WORD}tbl":
            for row in node.iter(f"{_WORD}tr"):
                yield "\t".join(" ".join(_blocks(cell)) for cell in row.iter(f"{_WORD}tc"))
        elif node.tag == f"{_WORD}sdt":
            for content in node.findall(f"{_WORD}sdtContent"):
                yield from _blocks(content)


def _runs(paragraph: ET.Element) -> str:
    marks = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n"}
    return "".join(
        (node.text or "") if node.tag == f"{_WORD}t" else marks.get(node.tag, "") for node in paragraph.iter()
    )


def _xlsx(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        shared: list[str] = []
        if "xl/sharedStrings.xml" in names:
            shared = [_strings(item) for item in _part(archive, "xl/sharedStrings.xml").iter(f"{_SHEET}si")]
        dates = _date_styles(_part(archive, "xl/styles.xml")) if "xl/styles.xml" in names else []
        targets = {
            node.get("Id"): node.get("Target", "") for node in (_part(archive, "xl/_rels/workbook.xml.rels"))
        }
        lines: list[str] = []
        for sheet in _part(archive, "xl/workbook.xml").iter(f"{_SHEET}sheet"):
            target = targets[sheet.get(_RELATION)]
            name = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            lines.append(f"--- Sheet {sheet.get('name')} ---")
            lines += _rows(_part(archive, name), shared, dates)
    return "\n".join(lines)


def _rows(sheet: ET.Element, shared: list[str], dates: list[bool]) -> Iterator[str]:
    for row in sheet.iter(f"{_SHEET}row"):
        cells: list[str] = []
        for cell in row.iter(f"{_SHEET}c"):
            column = _column(cell.get("r", "")) or len(cells)
            cells += [""] * (min(column, 16_384) - len(cells))
            cells.append(_cell(cell, shared, dates))
        yield "\t".join(cells)


def _cell(cell: ET.Element, shared: list[str], dates: list[bool]) -> str:
    held = cell.findtext(f"{_SHEET}v") or ""
    match cell.get("t", "n"):
        case "s":
            return shared[int(held)]
        case "inlineStr":
            return _strings(cell)
        case "b":
            return "TRUE" if held == "1" else "FALSE"
        case "n" if held:
            style = int(cell.get("s", "0"))
            return _date(held) if style < len(dates) and dates[style] else held
    return held


def _strings(node: ET.Element) -> str:
    return "".join(found.text or "" for found in node.iter(f"{_SHEET}t"))


def _column(place: str) -> int:
    """`C7` is 2; 0 when there is no such thing."""
    number = 0
    for letter in place:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    return max(number - 1, 0)


def _date_styles(styles: ET.Element) -> list[bool]:
    own = {
        int(node.get("numFmtId", "0")): bool(
            _DATE_LETTERS.search(_LITERAL.sub("", node.get("formatCode", "")))
        )
        for node in styles.iter(f"{_SHEET}numFmt")
    }
    cells = styles.find(f"{_SHEET}cellXfs")
    formats = [int(node.get("numFmtId", "0")) for node in (cells if cells is not None else ())]
    return [own.get(number, number in _DATE_FORMATS) for number in formats]


def _date(held: str) -> str:
    try:
        when = _EPOCH + timedelta(days=float(held))
    except (OverflowError, ValueError):
        return held
    when = when.replace(microsecond=0) + timedelta(seconds=round(when.microsecond / 1e6))
    return when.date().isoformat() if when.time() == datetime.min.time() else when.isoformat(sep=" ")


def _old_office(path: Path) -> str:
    """Return what looks like text in a file of Office 97 to 2003: the runs of letters in it, in either of its two encodings.

    Its own formats take a library; this finds the words, not the layout, and says so.
    """
    data = path.read_bytes()
    runs = [
        (found.start(), found[0].decode("utf-16-le"))
        for found in re.finditer(rb"(?:[\x09\x0a\x0d\x20-\x7e\xa0-\xff]\x00){6,}", data)
    ]
    runs += [
        (found.start(), found[0].decode("cp1252", errors="replace"))
        for found in re.finditer(rb"[\x09\x0a\x0d\x20-\x7e\x80-\xff]{8,}", data)
    ]
    words = [text for _, text in sorted(runs) if _is_language(text)]
    if not words:
        return ""
    return "(the words of an old Office document, without its layout)\n" + "\n".join(
        word.replace("\r", "\n").strip() for word in words
    )


def _is_language(run: str) -> bool:
    letters = sum(letter.isalnum() or letter in " .,;:-\r\n\t" for letter in run)
    return letters * 10 >= len(run) * 8
