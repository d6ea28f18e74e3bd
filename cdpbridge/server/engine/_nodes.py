"""What should be otherwise on a node of Ray. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["NodeProblem", "node_problems"]

# A head that was lost in the night is back by the morning.
_SHORT_SECONDS: Final = 3600.0
_REMEDY: Final = "start the node with {} in its environment"


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """One thing that is not as it should be, and what to do.

    Attributes:
        fatal: No worker can start there.
    """

    text: str
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


def node_problems(node: Mapping[str, Any]) -> Sequence[NodeProblem]:
    """Return what should be otherwise on a node.

    Args:
        node: As `look_at_node` returns it.
    """
    address = node["address"]
    found = []
    if node["reconnectSeconds"] < _SHORT_SECONDS:
        found.append(
            NodeProblem(
                f"{address}: when Ray's head is lost, this node ends its workers and their rentals after {node['reconnectSeconds']:g} s",
                _REMEDY.format("RAY_gcs_rpc_server_reconnect_timeout_s=86400"),
            )
        )
    if not node["authentication"]:
        found.append(
            NodeProblem(
                f"{address}: any program that reaches Ray's ports can run code on this node",
                _REMEDY.format("RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN_PATH"),
            )
        )
    if not node["secret"]:
        found.append(
            NodeProblem(
                f"{address}: workers find no secret on this node, so none starts",
                _REMEDY.format("CDPBRIDGE_WORKER_SECRET"),
                fatal=True,
            )
        )
    return found
