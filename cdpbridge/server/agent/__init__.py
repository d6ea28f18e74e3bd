"""Agents that do tasks: browser-use, each in a process of its own."""

from ._base import AgentResult, AgentRun, Agents, AgentSpec, AgentStep

__all__ = ["AgentResult", "AgentRun", "AgentSpec", "AgentStep", "Agents"]
