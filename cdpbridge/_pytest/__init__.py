"""What `pytest --cdpbridge` brings in; see `cdpbridge.pytest_plugin`. Nothing is imported here: a part of it loads alone."""

from __future__ import annotations

__all__: list[str] = []
