"""Every class and function of the generated package, against the pinned definition."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from functools import cache
from random import Random
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdpbridge.protocol
from cdpbridge._tools import pin_protocol
from cdpbridge.protocol import Event, Type, event_class
from cdpbridge.protocol._base import decoder_for
from tests.cases import cases

PROTOCOL = pin_protocol.load()
DOMAINS = {domain["domain"]: domain for domain in PROTOCOL["domains"]}
TYPES = {(name, kind["id"]): kind for name, domain in DOMAINS.items() for kind in domain.get("types", ())}
PLAIN: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "number": 1.5,
    "boolean": True,
    "binary": "AAH/",
    "any": {"key": [None, 1]},
    "object": {"key": "value"},
}
DEEPEST = 4  # types refer to themselves


def module(domain: str) -> ModuleType:
    return getattr(cdpbridge.protocol, domain)


def pascal(name: str) -> str:
    return name[0].upper() + name[1:]


def sample(field: dict[str, Any], domain: str, *, whole: bool, depth: int = 0) -> Any:
    """A value for a field as it travels: with all optional fields, down to a depth, or with none."""
    if "$ref" in field:
        owner, _, name = field["$ref"].rpartition(".")
        return sample(TYPES[owner or domain, name], owner or domain, whole=whole, depth=depth + 1)
    if "enum" in field:
        return field["enum"][0]
    if field["type"] == "array":
        return [sample(field["items"], domain, whole=whole, depth=depth)] if depth < DEEPEST else []
    if "properties" in field:
        return samples(field["properties"], domain, whole=whole and depth < DEEPEST, depth=depth)
    return PLAIN[field["type"]]


def samples(fields: list[dict[str, Any]], domain: str, *, whole: bool, depth: int = 0) -> dict[str, Any]:
    return {
        field["name"]: sample(field, domain, whole=whole, depth=depth)
        for field in fields
        if whole or not field.get("optional")
    }


def classes() -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Domain, class name and fields of each type, result and event of the definition."""
    for name, domain in DOMAINS.items():
        for kind in domain.get("types", ()):
            if "properties" in kind:
                yield name, kind["id"], kind["properties"]
        for command in domain["commands"]:
            if command.get("returns"):
                yield name, f"{pascal(command['name'])}Result", command["returns"]
        for event in domain.get("events", ()):
            yield name, pascal(event["name"]), event.get("parameters", [])


CLASSES = list(classes())
COMMANDS = [(name, command) for name, domain in DOMAINS.items() for command in domain["commands"]]
EVENTS = [(name, event) for name, domain in DOMAINS.items() for event in domain.get("events", ())]


@cache
def functions(domain: str) -> dict[str, Any]:
    """The functions of a domain by the wire name of their command, learnt by calling each."""
    found = {}
    for name in module(domain).__all__:
        value = getattr(module(domain), name)
        if inspect.isfunction(value):
            required = [p for p in inspect.signature(value).parameters.values() if p.default is p.empty]
            found[value(*(None for _ in required)).method] = value
    return found


def generated_classes(domain: str) -> set[str]:
    return {
        name
        for name in module(domain).__all__
        if inspect.isclass(getattr(module(domain), name))
        and hasattr(getattr(module(domain), name), "__struct_fields__")
    }


def test_every_domain_is_there_and_no_other() -> None:
    names = set(cdpbridge.protocol.__all__) - {"Command", "Event", "Type", "event_class"}
    assert names == set(DOMAINS)
    assert set(cdpbridge.protocol.__all__) <= set(dir(cdpbridge.protocol))
    with pytest.raises(AttributeError, match="Nowhere"):
        _ = cdpbridge.protocol.Nowhere  # type: ignore[attr-defined]  # that is the point


@cases("domain", DOMAINS)
def test_a_domain_has_the_classes_and_functions_of_the_definition(domain: str) -> None:
    assert generated_classes(domain) == {name for owner, name, _ in CLASSES if owner == domain}
    assert set(functions(domain)) == {f"{domain}.{c['name']}" for c in DOMAINS[domain]["commands"]}


@cases("domain", DOMAINS)
def test_every_forward_reference_resolves(domain: str) -> None:
    for name in generated_classes(domain):
        assert decoder_for(getattr(module(domain), name)).type is getattr(module(domain), name)
    for function in functions(domain).values():
        assert "return" in typing.get_type_hints(function)


@cases("whole", [True, False], ids="all fields: {}".format)
@cases("domain", DOMAINS)
def test_every_class_reads_and_writes_each_field_by_its_wire_name(domain: str, whole: bool) -> None:
    for owner, name, fields in CLASSES:
        if owner == domain:
            wire = samples(fields, domain, whole=whole)
            value = decoder_for(getattr(module(domain), name)).decode(msgspec.json.encode(wire))
            assert isinstance(value, Type | Event)
            assert msgspec.json.decode(msgspec.json.encode(value)) == wire, name


@cases("domain", DOMAINS)
def test_experimental_fields_may_be_absent(domain: str) -> None:
    for owner, name, fields in CLASSES:
        if owner == domain:
            wire = samples([f for f in fields if not f.get("experimental")], domain, whole=False)
            decoder_for(getattr(module(domain), name)).decode(msgspec.json.encode(wire))


@cases("whole", [True, False], ids="all parameters: {}".format)
@cases("domain", DOMAINS)
def test_every_command_sends_its_parameters_by_their_wire_names(domain: str, whole: bool) -> None:
    for command in DOMAINS[domain]["commands"]:
        function = functions(domain)[f"{domain}.{command['name']}"]
        fields = command.get("parameters", [])
        required = [field for field in fields if not field.get("optional")]
        optional = [field for field in fields if field.get("optional")]
        hints = typing.get_type_hints(function)
        names = list(inspect.signature(function).parameters)
        assert len(names) == len(fields)

        def value(name: str, field: dict[str, Any], hints: dict[str, Any] = hints) -> Any:
            return msgspec.convert(sample(field, domain, whole=whole), hints[name])

        positional = [value(*pair) for pair in zip(names, required, strict=False)]
        keywords = {
            name: value(name, field) for name, field in zip(names[len(required) :], optional, strict=True)
        }
        made = function(*positional, **(keywords if whole else {}))
        assert made.method == f"{domain}.{command['name']}"
        assert msgspec.json.decode(msgspec.json.encode(made.params)) == samples(fields, domain, whole=whole)
        result = getattr(module(domain), f"{pascal(command['name'])}Result", None)
        assert made.result_type is result
        assert (result is not None) is bool(command.get("returns"))


@cases("domain", DOMAINS)
def test_every_event_is_found_by_its_wire_name(domain: str) -> None:
    for event in DOMAINS[domain].get("events", ()):
        method = f"{domain}.{event['name']}"
        found = event_class(method)
        assert found is not None
        assert method == found.METHOD
        assert found is getattr(module(domain), pascal(event["name"]))


@cases("domain", DOMAINS)
def test_every_enumeration_has_its_constants(domain: str) -> None:
    for kind in DOMAINS[domain].get("types", ()):
        if "enum" in kind:
            constants = getattr(module(domain), kind["id"])
            values = [value for name, value in vars(constants).items() if name.strip("_").isupper()]
            assert values == kind["enum"]


@cases("domain", DOMAINS)
def test_marks_of_the_definition_are_in_the_docstrings(domain: str) -> None:
    for command in DOMAINS[domain]["commands"]:
        lines = str(functions(domain)[f"{domain}.{command['name']}"].__doc__).splitlines()
        for mark in ("experimental", "deprecated"):
            assert (f"    {mark.capitalize()}." in lines) is bool(command.get(mark)), command["name"]


def test_optional_parameters_are_keyword_only_and_required_ones_are_not() -> None:
    for domain in DOMAINS:
        for function in functions(domain).values():
            for parameter in inspect.signature(function).parameters.values():
                expected = (
                    parameter.POSITIONAL_OR_KEYWORD
                    if parameter.default is parameter.empty
                    else parameter.KEYWORD_ONLY
                )
                assert parameter.kind is expected


def test_exports_are_sorted() -> None:
    for names in (cdpbridge.protocol.__all__, *(module(domain).__all__ for domain in DOMAINS)):
        assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


# --- what a later Chrome may send -----------------------------------------------------------------------------------

NOVEL: list[dict[str, Any]] = [
    {},
    {"zNovel": None},
    {"zOther": {"deep": [1, {"": "x"}]}, "": 2**53 + 1},
    {"zNovel": [True, -1.5e300, "ü𝒳"]},
]


def later(wire: Any, field: dict[str, Any], domain: str, rng: Random) -> Any:
    """`wire` as another Chrome may write it: more fields, new enumeration values, integers with a fraction of zero."""
    if "$ref" in field:
        owner, _, name = field["$ref"].rpartition(".")
        return later(wire, TYPES[owner or domain, name], owner or domain, rng)
    if "enum" in field:
        return rng.choice([*field["enum"], "aValueOfTomorrow"])
    if field["type"] == "array":
        return [later(item, field["items"], domain, rng) for item in wire]
    if "properties" in field:
        return {**rng.choice(NOVEL), **later_fields(wire, field["properties"], domain, rng)}
    if field["type"] == "integer":
        return rng.choice([wire, float(wire)])
    if field["type"] == "number":
        return rng.choice([wire, int(wire), 1e300])
    return wire


def later_fields(
    wire: dict[str, Any], fields: list[dict[str, Any]], domain: str, rng: Random
) -> dict[str, Any]:
    return {f["name"]: later(wire[f["name"]], f, domain, rng) for f in fields if f["name"] in wire}


@given(event=st.sampled_from(EVENTS), whole=st.booleans(), seed=st.integers(0, 2**32))
def test_fault_a59_events_of_a_later_chrome_are_read(
    event: tuple[str, dict[str, Any]], whole: bool, seed: int
) -> None:
    rng = Random(seed)  # one draw for all leaves: an event may have thousands
    domain, definition = event
    fields = definition.get("parameters", [])
    known = later_fields(samples(fields, domain, whole=whole), fields, domain, rng)
    value = decoder_for(getattr(module(domain), pascal(definition["name"]))).decode(
        msgspec.json.encode({**rng.choice(NOVEL), **known})
    )
    assert msgspec.json.decode(msgspec.json.encode(value)) == without_novel(known)


def without_novel(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_novel(item) for key, item in value.items() if key not in ("zNovel", "zOther", "")
        }
    return [without_novel(item) for item in value] if isinstance(value, list) else value
