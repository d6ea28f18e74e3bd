"""The problems of a value that does not fit its model, as text for an error."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

__all__ = ["problems_of"]

_SHOWN: Final = 3


def problems_of(error: ValidationError, *, whole: str) -> str:
    """Return the first problems without the values, which may be secrets: `"id: Field required; status: ..."`.

    Args:
        error: What pydantic raised.
        whole: Name of the value itself, for a problem that is not in one of its fields.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_SHOWN]
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or whole}: {item['msg']}" for item in found)
