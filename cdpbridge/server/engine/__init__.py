"""What starts workers and replaces them: Ray. Loaded by servers with `engine = "ray"`, and in part by Ray's own processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._engine import Engine, EngineLimits, open_engine
    from ._link import EngineAway, check_ray, open_driver
    from ._nodes import node_problems

__all__ = ["Engine", "EngineAway", "EngineLimits", "check_ray", "node_problems", "open_driver", "open_engine"]

# Loaded on first use: an actor needs neither the database nor the settings.
_HOMES: Final = {
    "Engine": "_engine",
    "EngineAway": "_link",
    "EngineLimits": "_engine",
    "check_ray": "_link",
    "node_problems": "_nodes",
    "open_driver": "_link",
    "open_engine": "_engine",
}

__getattr__ = names_on_use(__name__, _HOMES)
