"""`Tenants`: how many projects share a server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tenants"]


@dataclass(slots=True)
class Tenants:
    """The projects of a server, as its hosts see them: browsers of several are kept from each other, and from this machine.

    Attributes:
        number: Of projects that have keys; before the database is read, of those that the settings name.
    """

    number: int
