"""Every deviation of `cdpbridge.protocol` from Chrome's definition, one function each.

* `binary_is_bytes`: what the definition calls a base64 string is `bytes` in Python; msgspec converts both ways.
* `experimental_is_optional`: fields of types, events and results that are marked experimental may be absent, whatever
  the definition says: they come and go between Chromium versions. Command parameters stay as defined.
* `name_inline_enums`: enumerations written into a field get a constants class of their own, `CaptureScreenshotFormat`.
* `tell_null_from_undefined`: `Runtime.CallArgument.value` distinguishes None (JavaScript's null) from left out (undefined).

Three more are not in the definition but in how it is rendered (`generate_protocol`): names are snake_case, with a
trailing underscore where Python claims the word; enumerations are `str` with named constants, so that a value Chrome
adds later is just another string; and integers may arrive as `1.0` or `1e3` (`_base.decoder_for`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["FIXUPS", "apply"]

# How descriptions of binary fields speak of base64, and what is left without it.
_BASE64_REMARKS: Final = (
    ("(Encoded as a base64 string when passed over JSON)", ""),
    ("Base64-encoded ", ""),
    (", base64-encoded", ""),
    (" as a base64 string", ""),
    (" as a base64 encoded ", " as a "),
)


def apply(protocol: dict[str, Any]) -> None:
    """Change `protocol` in place by every fix-up."""
    for fixup in FIXUPS:
        fixup(protocol)


def pascal(name: str) -> str:
    """`captureScreenshot` as a class name."""
    return name[0].upper() + name[1:]


def binary_is_bytes(protocol: dict[str, Any]) -> None:
    """Drop the remark on base64 from descriptions: the Python type is `bytes`.

    Chromium 156 writes base64 with padding and the standard alphabet, which is what msgspec reads and writes.
    """
    for domain in protocol["domains"]:
        for _, field in _fields(domain):
            if "binary" not in (field.get("type"), field.get("items", {}).get("type")):
                continue
            text = field.get("description", "")
            for remark, plain in _BASE64_REMARKS:
                text = text.replace(remark, plain)
            if "base64" in text.lower():
                raise ValueError(f"{domain['domain']}: {field['name']} still speaks of base64: {text}")
            field["description"] = pascal(text.strip()) if text else ""


def experimental_is_optional(protocol: dict[str, Any]) -> None:
    """Fields marked experimental become optional wherever Chrome is the one who sends them."""
    for domain in protocol["domains"]:
        parameters = {id(field) for command in domain["commands"] for field in command.get("parameters", ())}
        for _, field in _fields(domain):
            if field.get("experimental") and id(field) not in parameters:
                field["optional"] = True


def name_inline_enums(protocol: dict[str, Any]) -> None:
    """Enumerations written into a field become a type named after the owner and the field."""
    for domain in protocol["domains"]:
        for owner, field in list(_fields(domain)):
            if "enum" not in field:
                continue
            name = pascal(owner) + pascal(field["name"])
            about = f"Values of `{field['name']}` in `{domain['domain']}.{owner}`."
            domain.setdefault("types", []).append(
                {"id": name, "type": field.pop("type"), "enum": field.pop("enum"), "description": about}
            )
            field["$ref"] = name


def tell_null_from_undefined(protocol: dict[str, Any]) -> None:
    """`CallArgument(value=None)` passes null; leaving `value` out passes undefined, or one of the other fields."""
    runtime = next(domain for domain in protocol["domains"] if domain["domain"] == "Runtime")
    argument = next(kind for kind in runtime["types"] if kind["id"] == "CallArgument")
    value = next(field for field in argument["properties"] if field["name"] == "value")
    value["unset"] = True


def _fields(domain: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of a domain with the name of its type, command or event."""
    for kind in domain.get("types", ()):
        for field in kind.get("properties", ()):
            yield kind["id"], field
    for command in domain["commands"]:
        for field in (*command.get("parameters", ()), *command.get("returns", ())):
            yield command["name"], field
    for event in domain.get("events", ()):
        for field in event.get("parameters", ()):
            yield event["name"], field


FIXUPS: Final = (binary_is_bytes, experimental_is_optional, name_inline_enums, tell_null_from_undefined)
