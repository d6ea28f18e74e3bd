"""The tree of attachments and what happens to it. Pure: no asyncio, no I/O.

A `Node` is one attachment to one target. The root, id `""`, is what the connection leads to. Chromium says when a node is
detached but never tells its descendants, which die with it in silence; so the tree is kept here and the news is spread.

    attached ──crash──> crashed ──revive──> attached
       └──────detach───────┴────────────────> gone
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from cdpbridge.errors import TargetClosed, TargetCrashed

__all__ = ["ALLOWED_AFTER_CRASH", "REVIVING", "Crash", "Node", "Targets"]

REVIVING: Final = frozenset({"Page.navigate", "Page.reload"})
"""Commands whose success gives a crashed page a new renderer."""

ALLOWED_AFTER_CRASH: Final = REVIVING | {"Page.close", "Runtime.runIfWaitingForDebugger"}
"""Commands that the browser process answers on a crashed target, besides the domains `Target` and `Browser`."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What is known of a renderer crash.

    Attributes:
        status: Chrome's word, e.g. `"crashed"` or `"killed"`.
        error_code: Exit code or signal.
    """

    status: str | None = None
    error_code: int | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One attachment to one target.

    Attributes:
        session_id: Flat id on the wire; `""` for the root.
        target_id: Id of the target; `""` when unknown.
        target_type: Chrome's word, e.g. `"page"`; any string.
        listeners: Method to its subscriptions; tuples, replaced as a whole, so that a dispatch never sees a change.
        gone: Why it ended, or None.
        crash: Set between a crash and the revival.
        detaching: We asked for the detachment.
        dialog: Kind of the JavaScript dialog that is open, or None.
        paused: Ids of the requests held by `Fetch` and not answered.
        owner: The object that the shell keeps for it.
    """

    session_id: str
    target_id: str = ""
    target_type: str = "browser"
    parent: Node | None = None
    children: dict[str, Node] = field(default_factory=dict)
    listeners: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    gone: str | None = None
    crash: Crash | None = None
    detaching: bool = False
    dialog: str | None = None
    paused: dict[str, None] = field(default_factory=dict)
    owner: Any = None

    def describe(self) -> str:
        """The target in a few words, for messages."""
        return f"{self.target_type} {self.target_id[:8]}".rstrip()

    def error(self, doing: str = "") -> TargetClosed:
        """Why this node, crashed or gone, cannot be used; a new instance each time."""
        if self.crash is not None:
            return TargetCrashed(
                target=self.describe(),
                status=self.crash.status,
                error_code=self.crash.error_code,
                doing=doing,
            )
        return TargetClosed(self.gone or "closed", target=self.describe(), doing=doing)

    def hint(self) -> str | None:
        """What is known to hold up this target."""
        parts = []
        if self.dialog is not None:
            parts.append(
                f"a JavaScript {self.dialog} dialog is open: answer it with Page.handleJavaScriptDialog"
            )
        if self.paused:
            parts.append(f"{len(self.paused)} requests are paused by Fetch: continue, fulfill or fail them")
        return "; ".join(parts) or None


class Targets:
    """All nodes by session id, the root among them under `""`."""

    def __init__(self) -> None:
        self.root = Node("")
        self.nodes: dict[str, Node] = {"": self.root}

    def attach(self, parent: Node, session_id: str, target_id: str, target_type: str) -> tuple[Node, bool]:
        """The node for `session_id`, and whether it is new. A second announcement changes nothing."""
        known = self.nodes.get(session_id)
        if known is not None:
            return known, False
        node = Node(session_id, target_id, target_type, parent)
        self.nodes[session_id] = parent.children[session_id] = node
        return node, True

    def detach(self, session_id: str) -> list[Node]:
        """Take a node and all its descendants out of the tree, parents first. Unknown ids and the root give `[]`."""
        node = self.nodes.get(session_id)
        if node is None or node.parent is None:
            return []
        del node.parent.children[session_id]
        node.gone = "crashed" if node.crash is not None else "detached" if node.detaching else "closed"
        gone = [node]
        for ancestor in gone:  # grows while it is walked
            del self.nodes[ancestor.session_id]
            for child in ancestor.children.values():
                child.gone = "parent"
                gone.append(child)
            ancestor.children = {}
        return gone

    def crash(self, node: Node, crash: Crash) -> bool:
        """Mark a node as crashed; whether that was news. Later, fuller news of the same crash is kept."""
        if node.crash is None:
            node.crash = crash
            node.dialog = None
            node.paused.clear()
            return True
        if crash.status is not None:
            node.crash = crash
        return False

    def crash_target(self, target_id: str, crash: Crash) -> list[Node]:
        """Mark every node of a target; those for which it was news."""
        return [
            node
            for node in list(self.nodes.values())
            if node.target_id == target_id and self.crash(node, crash)
        ]

    def revive(self, node: Node) -> None:
        """The target has a new renderer."""
        node.crash = None
