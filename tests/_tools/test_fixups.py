from __future__ import annotations

import copy

import pytest

from cdpbridge._tools import fixups, generate_protocol


def protocol(**domain: object) -> dict[str, object]:
    return {"browser": "Chrome/1", "domains": [{"domain": "D", "commands": [], **domain}]}


RUNTIME = {
    "domain": "Runtime",
    "commands": [],
    "types": [
        {
            "id": "CallArgument",
            "type": "object",
            "properties": [{"name": "value", "type": "any", "optional": True}],
        }
    ],
}


def test_every_fixup_is_listed_in_the_docstring() -> None:
    for fixup in fixups.FIXUPS:
        assert f"`{fixup.__name__}`" in str(fixups.__doc__)


@pytest.mark.parametrize("fixup", fixups.FIXUPS)
def test_a_fixup_applied_twice_changes_nothing_more(fixup) -> None:
    from cdpbridge._tools.pin_protocol import load

    once = load()
    fixup(once)
    twice = copy.deepcopy(once)
    fixup(twice)
    assert once == twice


def test_binary_descriptions_lose_their_base64() -> None:
    text = "Base64-encoded image data. (Encoded as a base64 string when passed over JSON)"
    given = protocol(
        commands=[{"name": "c", "returns": [{"name": "d", "type": "binary", "description": text}]}]
    )
    fixups.binary_is_bytes(given)
    assert given["domains"][0]["commands"][0]["returns"][0]["description"] == "Image data."


def test_an_unknown_way_to_speak_of_base64_is_reported() -> None:
    given = protocol(
        events=[{"name": "e", "parameters": [{"name": "d", "type": "binary", "description": "In BASE64"}]}]
    )
    with pytest.raises(ValueError, match="base64"):
        fixups.binary_is_bytes(given)


def test_experimental_fields_are_optional_except_what_we_send() -> None:
    field = {"name": "f", "type": "string", "experimental": True}
    given = protocol(
        types=[{"id": "T", "type": "object", "properties": [dict(field)]}],
        commands=[{"name": "c", "parameters": [dict(field)], "returns": [dict(field)]}],
        events=[{"name": "e", "parameters": [dict(field)]}],
    )
    fixups.experimental_is_optional(given)
    domain = given["domains"][0]
    assert domain["types"][0]["properties"][0]["optional"]
    assert domain["commands"][0]["returns"][0]["optional"]
    assert domain["events"][0]["parameters"][0]["optional"]
    assert "optional" not in domain["commands"][0]["parameters"][0]


def test_inline_enumerations_are_named_after_owner_and_field() -> None:
    given = protocol(
        commands=[{"name": "take", "parameters": [{"name": "format", "type": "string", "enum": ["a"]}]}]
    )
    fixups.name_inline_enums(given)
    domain = given["domains"][0]
    assert domain["commands"][0]["parameters"] == [{"name": "format", "$ref": "TakeFormat"}]
    assert domain["types"][0]["id"] == "TakeFormat"
    assert domain["types"][0]["enum"] == ["a"]


@pytest.mark.parametrize(
    ("domain", "complaint"),
    [
        ({"events": [{"name": "x"}], "types": [{"id": "X", "type": "string"}]}, "used twice"),
        ({"types": [{"id": "Event", "type": "string"}]}, "used twice"),
        ({"types": [{"id": "E", "type": "string", "enum": ["a-b", "aB"]}]}, "two constants"),
        (
            {"events": [{"name": "x", "parameters": [{"name": n, "type": "any"} for n in ("aB", "a_b")]}]},
            "two fields of one name",
        ),
    ],
)
def test_a_clash_of_names_stops_the_generator(domain, complaint: str) -> None:
    given = protocol(**copy.deepcopy(domain))
    given["domains"].append(copy.deepcopy(RUNTIME))
    with pytest.raises(ValueError, match=complaint):
        generate_protocol.modules(given)
