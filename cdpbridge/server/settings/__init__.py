"""Settings of the server, and their table in the documentation."""

from __future__ import annotations

from ._countries import DIRECT, SIMULATE, country_code
from ._fields import settings_table
from ._plans import Plan, max_timeout_minutes
from ._settings import Settings

__all__ = ["DIRECT", "SIMULATE", "Plan", "Settings", "country_code", "max_timeout_minutes", "settings_table"]
