"""Tasks of agents: their states, sessions and processes.

Import from its modules: `store/` uses the states, and the tasks use `store/`.
"""

from __future__ import annotations

__all__: list[str] = []
