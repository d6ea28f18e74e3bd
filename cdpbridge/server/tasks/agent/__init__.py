"""Agents that do tasks: browser-use, each in a process of its own."""

from ._agents import AgentProcesses
from ._base import AgentResult, AgentRun, Agents, AgentSpec, AgentStep, Judgement
from ._domains import AllowedDomain, allowed_domains, outside
from ._placement import AgentPlaces
from ._requests import check_schema, split_secrets

__all__ = [
    "AgentPlaces",
    "AgentProcesses",
    "AgentResult",
    "AgentRun",
    "AgentSpec",
    "AgentStep",
    "Agents",
    "AllowedDomain",
    "Judgement",
    "allowed_domains",
    "check_schema",
    "outside",
    "split_secrets",
]
