"""Pure: what a request for a task says about secrets and structured output, as agents need it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ._domains import secret_pages

__all__ = ["check_schema", "split_secrets"]

_SCHEMA_CHARACTERS: Final = 100_000
# After references are written out: a small text can stand for a huge schema.
_SCHEMA_NODES: Final = 10_000
_SCHEMA_DEPTH: Final = 50
_ADDRESSES: Final = re.compile(
    r"(?P<scheme>[a-z*][a-z0-9+.*-]*://)?(?P<host>\*|localhost|(?:[\w*-]+\.)+[\w*-]+|\[[0-9a-f:]+\])(?::\d+)?(?:/\*?)?",
    re.IGNORECASE,
)


def check_schema(text: str) -> dict[str, Any]:
    """Return a JSON schema for structured output, its references written out: models are shown it in the midst of another.

    Raises:
        ValueError: It is none, or more than an agent can be asked for; with the place, as a text for the client.
    """
    if len(text) > _SCHEMA_CHARACTERS:
        raise ValueError(f"the schema has {len(text)} characters; {_SCHEMA_CHARACTERS} are allowed")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the schema is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ValueError(f"a schema is a JSON object, not {json.dumps(schema)[:50]}")  # noqa: TRY004  # the text is
    # Here, not above: most servers never see a schema, and it takes 30 ms of their start.
    import jsonschema  # noqa: PLC0415

    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"this is no JSON schema: {error.json_path}: {error.message}") from error
    written = _Writer(schema).write(schema, "#", ())
    assert isinstance(written, dict)
    return {name: value for name, value in written.items() if name not in {"$defs", "definitions"}}


class _Writer:
    """Writes out the references of one schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._nodes = 0

    def write(self, node: Any, place: str, within: tuple[str, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _SCHEMA_NODES or place.count("/") > _SCHEMA_DEPTH:
            raise ValueError(f"{place}: the schema is too large once its references are written out")
        if isinstance(node, list):
            return [self.write(inner, f"{place}/{i}", within) for i, inner in enumerate(node)]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if not isinstance(reference, str):  # else it is a property of that name
            return {
                name: self.write(inner, f"{place}/{name}", within)
                for name, inner in node.items()
                if not (place == "#" and name in {"$defs", "definitions"})
            }
        if reference in within:
            raise ValueError(f"{place}: {reference} refers to itself; write out as many levels as you need")
        target = self.write(self._find(reference, place), place, (*within, reference))
        others = {
            name: self.write(inner, f"{place}/{name}", within)
            for name, inner in node.items()
            if name != "$ref"
        }
        return {**target, **others} if isinstance(target, dict) else target

    def _find(self, reference: str, place: str) -> Any:
        found: Any = self._schema
        parts = reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else None
        for part in parts if parts is not None else [""]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found or parts is None:
                raise ValueError(f"{place}: there is no {reference} within the schema")
            found = found[name]
        return found


def split_secrets(
    secrets: Mapping[str, str], allowed_domains: Sequence[str] = ()
) -> dict[str, str | dict[str, str]]:
    """Return the flat table of a request as browser-use takes it: {pattern of addresses: {placeholder: value}}.

    A key is one of two things:

    - a pattern of addresses (`https://*.example.com`, `example.com` for HTTPS alone, `http*://localhost`). The value is a
      secret for these pages, called after the host; or several of them as a JSON object `{"placeholder": "value"}`.
    - a placeholder, which the task may name. It counts on the allowed domains; on every page when there are none.

    Raises:
        ValueError: A pattern that matches nothing, a value that is empty, a domain that `allowed_domains` refuses; without
            any value, as a text for the client.
    """
    split: dict[str, str | dict[str, str]] = {}
    for key, value in secrets.items():
        if not key.strip() or not value:
            raise ValueError(f"the secret {key!r} needs a name and a value")
        pattern = _ADDRESSES.fullmatch(key)
        if pattern is None:
            if not allowed_domains:
                split[key] = value
            for pages in secret_pages(allowed_domains):
                _under(split, pages)[key] = value
            continue
        host = pattern["host"]
        if host.endswith(".*") or host.count("*.") > 1 or ".*" in host:
            raise ValueError(
                f"the secret {key!r} is for no page: browser-use takes *. only at the start of a host"
            )
        _under(split, f"{pattern['scheme'] or ''}{host}").update(_values(host.removeprefix("*."), value))
    return split


def _under(split: dict[str, str | dict[str, str]], pattern: str) -> dict[str, str]:
    found = split.setdefault(pattern, {})
    assert isinstance(found, dict)
    return found


def _values(name: str, value: str) -> dict[str, str]:
    if value.lstrip().startswith("{"):
        try:
            table = json.loads(value)
        except ValueError:
            table = None  # a password may start so
        if (
            isinstance(table, dict)
            and table
            and all(isinstance(inner, str) and inner for inner in table.values())
        ):
            return {str(placeholder): inner for placeholder, inner in table.items()}
    return {name if name != "*" else "secret": value}
