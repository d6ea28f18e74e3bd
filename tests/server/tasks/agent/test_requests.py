"""What a request says, as agents need it."""

import json

import pytest

from cdpbridge.server.tasks.agent import check_schema, split_secrets
from tests.cases import cases


def check(schema):
    return check_schema(json.dumps(schema))


def test_a_schema_is_shown_with_its_references_written_out():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}, "$ref": {"type": "string"}},
        "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/B~1C"}}, "B/C": {"enum": [1, 2]}},
    }
    written = check(schema)
    assert written == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"enum": [1, 2]}, "description": "mine"},
            "$ref": {"type": "string"},
        },
    }
    assert check(written) == written


@cases(
    ("text", "why"),
    [
        ("{", "the schema is not JSON: Expecting"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"a schema is a JSON object, not \[1\]"),
        ('{"type": "strange"}', r"no JSON schema: \$\.type: 'strange'"),
        ('{"properties": {"a": {"minimum": "x"}}}', r"\$\.properties\.a\.minimum"),
        ('{"items": {"$ref": "#/$defs/none"}}', r"#/items: there is no #/\$defs/none"),
        ('{"items": {"$ref": "https://example.com/x"}}', "there is no https"),
        ('{"items": {"$ref": "#"}}', "#/items/items: # refers to itself"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}', "refers to itself"),
        (json.dumps({"description": "x" * 100_000}), "100019 characters; 100000 are allowed"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_place(text, why):
    with pytest.raises(ValueError, match=why):
        check_schema(text)


def test_a_schema_that_grows_when_written_out_is_refused():
    defs = {f"d{i}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{i + 1}"}] * 8} for i in range(8)}
    with pytest.raises(ValueError, match="too large once its references are written out"):
        check({"$ref": "#/$defs/d0", "$defs": defs | {"d8": {"type": "string"}}})


@cases(
    ("secrets", "domains", "split"),
    [
        ({"password": "x"}, (), {"password": "x"}),
        ({"password": "x"}, ("a.com", "*.b.com"), {"a.com": {"password": "x"}, "*.b.com": {"password": "x"}}),
        ({"https://example.com": "x"}, ("a.com",), {"https://example.com": {"example.com": "x"}}),
        ({"https://*.google.com/*": "x"}, (), {"https://*.google.com": {"google.com": "x"}}),
        ({"http*://localhost:8080": "x"}, (), {"http*://localhost": {"localhost": "x"}}),
        ({"example.com": '{"user": "u", "pass": "p"}'}, (), {"example.com": {"user": "u", "pass": "p"}}),
        ({"example.com": "{not json"}, (), {"example.com": {"example.com": "{not json"}}),
        ({"example.com": '{"a": 1}'}, (), {"example.com": {"example.com": '{"a": 1}'}}),
        ({"*": "x"}, (), {"*": {"secret": "x"}}),
        ({"a.com": '{"u": "1"}', "p": "2"}, ("a.com",), {"a.com": {"u": "1", "p": "2"}}),
        ({}, ("a.com",), {}),
    ],
)
def test_secrets_are_for_the_pages_that_their_keys_name(secrets, domains, split):
    assert split_secrets(secrets, domains) == split


@pytest.mark.parametrize(
    ("secrets", "why"),
    [
        ({"https://example.*": "sesame"}, "for no page"),
        ({"*.*.com": "sesame"}, "for no page"),
        ({"name": ""}, "needs a name and a value"),
        ({" ": "sesame"}, "needs a name and a value"),
    ],
)
def test_secrets_for_nothing_are_refused_without_their_value(secrets, why):
    with pytest.raises(ValueError, match=why) as refused:
        split_secrets(secrets)
    assert "sesame" not in str(refused.value)
