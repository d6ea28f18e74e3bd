"""Pin the protocol that a running Chromium serves: `python -m cdpbridge._tools.pin_protocol http://127.0.0.1:9222`.

The definition is kept as Chromium serves it at `/json/protocol`, with its version added. Each type, command and event
is one line, so that a difference between two Chromium versions reads well. What is changed for Python is changed
later, in `fixups`.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

__all__ = ["PINNED", "load", "main", "to_text"]

PINNED: Final = Path(__file__).with_name("protocol.json")
_ITEMS: Final = ("types", "commands", "events")


def load(path: Path = PINNED) -> dict[str, Any]:
    """The pinned definition: `version`, `browser`, `domains`."""
    protocol: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return protocol


def to_text(protocol: dict[str, Any]) -> str:
    """The definition as JSON, one line for each type, command and event."""
    head = {key: value for key, value in protocol.items() if key != "domains"}
    domains = ",\n".join(_domain_text(domain) for domain in protocol["domains"])
    return f'{_json(head)[:-1]}, "domains": [\n{domains}\n]}}\n'


def _domain_text(domain: dict[str, Any]) -> str:
    parts = [_json({key: value for key, value in domain.items() if key not in _ITEMS})[:-1]]
    for kind in _ITEMS:
        if kind in domain:
            lines = ",\n".join(_json(item) for item in domain[kind])
            parts.append(f'"{kind}": [\n{lines}\n]')
    return ", ".join(parts) + "}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def main(arguments: list[str]) -> int:
    """Fetch from the address given and overwrite the pinned file."""
    if len(arguments) != 1:
        print("usage: python -m cdpbridge._tools.pin_protocol http://HOST:PORT", file=sys.stderr)
        return 2
    base = arguments[0].rstrip("/")
    with urllib.request.urlopen(f"{base}/json/version", timeout=10) as answer:
        browser = json.load(answer)["Browser"]
    with urllib.request.urlopen(f"{base}/json/protocol", timeout=10) as answer:
        protocol = json.load(answer)
    pinned = {"version": protocol["version"], "browser": browser, "domains": protocol["domains"]}
    PINNED.write_text(to_text(pinned), encoding="utf-8")
    print(f"{PINNED.name}: {browser}, {len(protocol['domains'])} domains")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
