"""The forwarding proxy of a rented browser: adds the upstream's credentials, counts bytes, filters addresses."""

from __future__ import annotations

from ._block_list import BlockList
from ._forwarder import ForwardingProxy
from ._network import BrowserNetwork, Listen
from ._patterns import HostLists
from ._relay import Relay
from ._rules import Rules
from ._traffic import HostTraffic
from ._upstream import Upstream
from ._user_ports import UserPorts

__all__ = [
    "BlockList",
    "BrowserNetwork",
    "ForwardingProxy",
    "HostLists",
    "HostTraffic",
    "Listen",
    "Relay",
    "Rules",
    "Upstream",
    "UserPorts",
]
