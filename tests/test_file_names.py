"""One rule for names that come from other machines: downloads of a browser, of the REST API, and files of the server."""

import hypothesis.strategies as st
from hypothesis import example, given

from cdpbridge._file_names import safe_file_name
from tests.cases import cases


@given(st.text())
@example("a" * 254 + " b")
@example("a" * 240 + "." + "b" * 30)
@example("COM1.txt")
@example("\ud800.\udc00")
def test_a_safe_name_is_one_component(name):
    kept = safe_file_name(name)
    assert kept
    assert not set(kept) & set('/\\\0\n:*?"<>|')
    assert not kept.startswith((".", " "))
    assert 0 < len(kept.encode()) <= 255
    assert safe_file_name(kept) == kept
    assert len(safe_file_name(name, spare_bytes=7).encode()) <= 248


@cases(
    ("given", "safe"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\boot.ini", "boot.ini"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a.", "a"),
        ("a\nb?.txt", "a_b_.txt"),
        ("a\u202eb.txt", "a_b.txt"),
        ("ä" * 300 + ".txt", "ä" * 125 + ".txt"),
        ("." * 3 + "x" * 400, "x" * 255),
        ("aux", "_aux"),
        ("con.tar.gz", "_con.tar.gz"),
        ("console.log", "console.log"),
    ],
)
def test_fault_b45_names_are_made_harmless(given, safe):
    assert safe_file_name(given) == safe
    assert safe_file_name(given, otherwise="download") == ("download" if safe == "file" else safe)
