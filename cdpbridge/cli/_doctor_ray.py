"""Checks of `cdpbridge doctor` on the nodes of Ray, which start workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from ._doctor_machine import Check

__all__ = ["ray_checks"]

_NODES_SECONDS: Final = 90.0
# No server has it: nothing is started or ended.
_NAMESPACE: Final = "cdpbridge-doctor"


def ray_checks(address: str) -> list[Check]:
    """Check the nodes of a Ray; a process of Ray looks at each of them, and nothing changes.

    Args:
        address: Of its head, `auto`, or `ray://...`.
    """
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.server.engine import EngineAway, check_ray

    try:
        check_ray()
        found = asyncio.run(_look(address))
    except ConfigurationError as error:
        text, _, remedy = str(error).partition("; ")
        return [Check("ray", "fail", text, remedy)]
    except EngineAway as error:
        remedy = "correct the address; the machine needs a node of Ray, or the address is `ray://HEAD:10001`; the token is in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        return [Check("ray", "fail", f"Ray at {address} cannot be used: {error}", remedy)]
    if not found["nodes"]:
        remedy = "start one with `ray start --address=... --resources='{\"browser\": 8}'`"
        return [
            Check("ray", "warn", f"Ray {found['version']} has no node with the resource `browser`", remedy)
        ]
    return [check for node in found["nodes"] for check in _of_node(node, found["version"])]


async def _look(address: str) -> dict[str, Any]:
    from cdpbridge.server.engine import open_driver

    async with open_driver(address, namespace=_NAMESPACE) as driver:
        return await driver.ask("nodes", timeout=_NODES_SECONDS)


def _of_node(node: Mapping[str, Any], version: str) -> list[Check]:
    from cdpbridge.server.engine import node_problems

    if "error" in node:
        text = f"{node['address']}: no process can be started on this node: {node['error']}"
        return [Check("ray", "fail", text, "install the same `cdpbridge` and Python there")]
    problems = node_problems(node)
    if not problems:
        return [Check("ray", "ok", f"{node['address']}: Ray {version}, {node['slots']} slots")]
    return [Check("ray", "fail" if each.fatal else "warn", each.text, each.remedy) for each in problems]
