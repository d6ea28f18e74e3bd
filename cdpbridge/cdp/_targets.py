"""The tree of attachments and what happens to it. Pure: no asyncio, no I/O.

A `Node` is one attachment to one target. The root, id `""`, is what the connection leads to. Chromium announces that a node is
detached, but not that its descendants end with it; so the tree is kept here, and they are ended too.

    attached ──crash──> crashed ──revive──> attached
       └──────detach───────┴────────────────> closed

When the connection is lost and re-established, every session id is invalid. The nodes are suspended then, until their target
is attached to again, which gives them a new id; those whose target has closed meanwhile are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cdpbridge.cdp._payload import Payload, as_dict
from cdpbridge.cdp._state import SessionState
from cdpbridge.errors import TargetClosed, TargetCrashed

__all__ = ["REVIVING", "Crash", "Node", "Targets"]

REVIVING: Final = frozenset({"Page.navigate", "Page.reload"})
"""Commands whose success gives a crashed page a new renderer."""

# What the browser process answers on a crashed target.
_ALLOWED_AFTER_CRASH: Final = REVIVING | {"Page.close", "Runtime.runIfWaitingForDebugger"}
_ALLOWED_DOMAINS: Final = ("Target.", "Browser.")
_ANSWERS_PAUSED: Final = frozenset(
    {"Fetch.continueRequest", "Fetch.fulfillRequest", "Fetch.failRequest", "Fetch.continueWithAuth"}
)


@dataclass(frozen=True, slots=True)
class Crash:
    """What is known of a renderer crash.

    Attributes:
        status: As Chrome names it, e.g. `"crashed"` or `"killed"`.
        error_code: Exit code or signal.
    """

    status: str | None = None
    error_code: int | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One attachment to one target.

    Attributes:
        session_id: Flat id in messages; `""` for the root.
        target_id: Id of the target; `""` when unknown.
        target_type: As Chrome names it, e.g. `"page"`; any string.
        listeners: Method to its subscriptions; tuples, replaced as a whole, so that a dispatch never sees a change.
        closed: Why it ended, or None.
        crash: Set between a crash and the revival.
        detaching: We asked for the detachment.
        dialog: The JavaScript dialog that is open, as `Page.javascriptDialogOpening` describes it, or None.
        paused: Ids of the requests held by `Fetch` and not answered.
        owner: The object that the shell keeps for it, `_session.Wiring`.
        enabled: Domains that the session has enabled.
        state: Commands to replay after a reconnect; None: there are none, or there will be no reconnect.
        attached_by: Command and parameters that made it, or None: its parent attaches automatically.
        awaited: That command has been sent again.
        ready: False while it is being set up.
        hidden: Programs do not see it: it is the connection's own, see `_new_tabs`.
    """

    session_id: str
    target_id: str = ""
    target_type: str = "browser"
    parent: Node | None = None
    children: dict[str, Node] = field(default_factory=dict)
    listeners: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    closed: str | None = None
    crash: Crash | None = None
    detaching: bool = False
    dialog: dict[str, Any] | None = None
    paused: dict[str, None] = field(default_factory=dict)
    owner: Any = None
    enabled: set[str] = field(default_factory=set)
    state: SessionState | None = None
    attached_by: tuple[str, dict[str, Any]] | None = None
    awaited: bool = False
    ready: bool = True
    hidden: bool = False

    @property
    def seen_parent(self) -> Node | None:
        """The node that a program sees it attached through."""
        parent = self.parent
        return parent.parent if parent is not None and parent.hidden else parent

    @property
    def seen_children(self) -> list[Node]:
        """Nodes that a program sees attached through it."""
        found: list[Node] = []
        for child in self.children.values():
            if not child.hidden:
                found.append(child)
            elif not self.hidden:
                found += child.seen_children
        return found

    def describe(self) -> str:
        """Return the target in a few words, for messages."""
        return f"{self.target_type} {self.target_id[:8]}".rstrip()

    def error(self, doing: str = "") -> TargetClosed:
        """Return a new error that says why this node, crashed or closed, cannot be used."""
        if self.crash is not None:
            return TargetCrashed(
                target=self.describe(),
                status=self.crash.status,
                error_code=self.crash.error_code,
                doing=doing,
            )
        return TargetClosed(self.closed or "closed", target=self.describe(), doing=doing)

    def hint(self) -> str | None:
        """Return what is known to hold up this target."""
        parts = []
        if self.dialog is not None:
            parts.append(
                f"a JavaScript {self.dialog.get('type', '')} dialog is open: answer it, "
                "e.g. by session.send(Page.handle_java_script_dialog(accept=True))"
            )
        if self.paused:
            parts.append(f"{len(self.paused)} requests are paused by Fetch: continue, fulfill or fail them")
        return "; ".join(parts) or None

    def allows(self, method: str) -> bool:
        """Return True if the browser can answer this command."""
        if self.closed is not None:
            return False
        return self.crash is None or method in _ALLOWED_AFTER_CRASH or method.startswith(_ALLOWED_DOMAINS)

    def sends(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Note a command that is sent: it may free requests that are paused."""
        if method in _ANSWERS_PAUSED and params is not None:
            self.paused.pop(str(params.get("requestId")), None)
        elif method == "Fetch.disable":
            self.paused.clear()

    def dialog_opening(self, payload: Payload) -> None:
        """Note `Page.javascriptDialogOpening`."""
        self.dialog = as_dict(payload)

    def dialog_closed(self, _payload: Payload) -> None:
        """Note `Page.javascriptDialogClosed`."""
        self.dialog = None

    def request_paused(self, payload: Payload) -> None:
        """Note `Fetch.requestPaused` or `Fetch.authRequired`."""
        self.paused[str(as_dict(payload).get("requestId"))] = None


class Targets:
    """All nodes by session id, the root among them under `""`.

    Attributes:
        suspended: Nodes without a valid session id, parents first.
    """

    def __init__(self) -> None:
        self.root = Node("")
        self.nodes: dict[str, Node] = {"": self.root}
        self.suspended: dict[Node, None] = {}

    def attach(self, parent: Node, session_id: str, target_id: str, target_type: str) -> tuple[Node, bool]:
        """Return the node for `session_id`, and True if it is new. A second announcement changes nothing."""
        known = self.nodes.get(session_id)
        if known is not None:
            return known, False
        node = Node(session_id, target_id, target_type, parent)
        self.nodes[session_id] = parent.children[session_id] = node
        return node, True

    def detach(self, session_id: str) -> list[Node]:
        """Take a node and all its descendants out of the tree, parents first. Unknown ids and the root give `[]`."""
        node = self.nodes.get(session_id)
        return self.remove(node) if node is not None else []

    def remove(self, node: Node) -> list[Node]:
        """Do as `detach`, for a node that may be suspended."""
        if node.parent is None or node.closed is not None:
            return []
        _leave(node)
        node.closed = "crashed" if node.crash is not None else "detached" if node.detaching else "closed"
        ended = [node]
        for ancestor in ended:  # grows while it is walked
            self.suspended.pop(ancestor, None)
            if self.nodes.get(ancestor.session_id) is ancestor:
                del self.nodes[ancestor.session_id]
            for child in ancestor.children.values():
                child.closed = "parent"
                ended.append(child)
            ancestor.children = {}
        return ended

    def suspend(self) -> None:
        """Suspend all nodes: the transport is lost, and with it the state of their sessions."""
        nodes = [*self.nodes.values(), *self.suspended]
        self.nodes.clear()
        self.nodes[""] = self.root
        for node in nodes:
            node.dialog = None
            node.paused.clear()
            node.awaited = False
        self.suspended.clear()
        below = list(self.root.children.values())
        for node in below:  # grows while it is walked
            self.suspended[node] = None
            below.extend(node.children.values())

    def absent(self, parent: Node, target_id: str) -> Node | None:
        """Return the suspended node to which a new attachment to a target belongs."""
        for node in self.suspended:
            if (
                node.parent is parent
                and node.target_id == target_id
                and (node.attached_by is None or node.awaited)
            ):
                return node
        return None

    def rebind(self, node: Node, session_id: str) -> None:
        """Give a suspended node its new session id."""
        assert node.parent is not None
        _leave(node)
        self.suspended.pop(node, None)
        node.session_id = session_id
        self.nodes[session_id] = node.parent.children[session_id] = node

    def crash(self, node: Node, crash: Crash) -> bool:
        """Mark a node as crashed; return True if it was not. Later, fuller facts about the same crash are kept."""
        if node.crash is None:
            node.crash = crash
            node.dialog = None
            node.paused.clear()
            return True
        if crash.status is not None:
            node.crash = crash
        return False

    def crash_target(self, target_id: str, crash: Crash) -> list[Node]:
        """Mark every node of a target; return those that were not marked yet."""
        return [
            node
            for node in list(self.nodes.values())
            if node.target_id == target_id and self.crash(node, crash)
        ]

    def revive(self, node: Node) -> None:
        """Note that the target has a new renderer."""
        node.crash = None


def _leave(node: Node) -> None:
    """Remove a node from its parent's children, unless another node has got its old id meanwhile."""
    assert node.parent is not None
    if node.parent.children.get(node.session_id) is node:
        del node.parent.children[node.session_id]
