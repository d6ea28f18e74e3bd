"""Which cookies and origins a choice of domains means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

__all__ = ["in_domains", "select"]


def select(cookies: Sequence[Mapping[str, Any]], domains: Iterable[str]) -> list[Mapping[str, Any]]:
    """Return the cookies of these domains and what is below them; all of them when none is named."""
    wanted = list(domains)
    return [cookie for cookie in cookies if _is_below(str(cookie["domain"]), wanted)]


def in_domains(origin: str, domains: Iterable[str]) -> bool:
    """Return True if an origin is of one of these domains, or below one; for every origin when none is named."""
    return _is_below(urlsplit(origin).hostname or "", list(domains))


def _is_below(host: str, domains: Sequence[str]) -> bool:
    wanted = [domain.strip().lower().strip(".") for domain in domains]
    host = host.lower().strip(".")
    return not wanted or any(host == domain or host.endswith(f".{domain}") for domain in wanted)
