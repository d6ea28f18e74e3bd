from __future__ import annotations

import ast
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge._tools._names import constant_name, docstring, python_name, snake_case
from tests.cases import cases


@cases(
    ("wire", "python"),
    [
        ("navigate", "navigate"),
        ("getDOMStorageItems", "get_dom_storage_items"),
        ("baseURL", "base_url"),
        ("setBlockedURLs", "set_blocked_urls"),
        ("base64Encoded", "base64_encoded"),
        ("backendDOMNodeId", "backend_dom_node_id"),
        ("printToPDF", "print_to_pdf"),
        ("consoleAPICalled", "console_api_called"),
        ("isSVG", "is_svg"),
        ("x", "x"),
        ("deltaX", "delta_x"),
        ("DOMSnapshot", "dom_snapshot"),
        ("IO", "io"),
        ("IndexedDB", "indexed_db"),
        ("WebMCP", "web_mcp"),
        ("dnsAlpnH3JobWonRace", "dns_alpn_h3_job_won_race"),
        ("RenderFrameHostReused_SameSite", "render_frame_host_reused_same_site"),
        ("CoopSandboxedIFrameCannotNavigate", "coop_sandboxed_iframe_cannot_navigate"),
    ],
)
def test_acronyms_stay_whole(wire: str, python: str) -> None:
    assert snake_case(wire) == python


@pytest.mark.parametrize(
    ("wire", "python"),
    [("from", "from_"), ("not", "not_"), ("bytes", "bytes_"), ("type", "type"), ("id", "id")],
)
def test_only_names_that_clash_get_an_underscore(wire: str, python: str) -> None:
    assert python_name(wire) == python


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("no-referrer", "NO_REFERRER"),
        ("XHR", "XHR"),
        ("2g", "_2G"),
        ("", "EMPTY"),
        ("ch-ua-wow64", "CH_UA_WOW64"),
    ],
)
def test_constants_are_upper_case(value: str, name: str) -> None:
    assert constant_name(value) == name


@given(st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,30}", fullmatch=True))
def test_every_wire_name_becomes_an_identifier(name: str) -> None:
    python = python_name(name)
    assert python.isidentifier()
    assert not keyword.iskeyword(python)


@given(st.text(max_size=200).filter(lambda text: "\0" not in text and "\r" not in text and "\f" not in text))
def test_any_description_becomes_a_string_literal(text: str) -> None:
    literal = docstring(
        text.encode("utf-8", "replace").decode(), ["Experimental."], "Args", [("x", "y\n- z")]
    )
    value = ast.literal_eval(literal)
    assert "Experimental." in value
    assert value.endswith("Args:\n    x: y\n        - z\n")


def test_hard_wrapped_prose_is_filled_and_lists_stay() -> None:
    text = docstring(
        "One\ntwo.\n- first\n- second", [], "Attributes", [("name", "A long story\nin two lines.")]
    )
    assert text == '"""One two.\n- first\n- second\n\nAttributes:\n    name: A long story in two lines.\n"""'
