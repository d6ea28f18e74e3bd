"""An isolated environment for one browser: what it sees, how it is entered, and the small process that attends to it.

    _plan, _system, _protocol, _steps, _explain   logic: what is mounted, what is said, what a refusal means
    _zygote, _tend, _enter                the processes
    _probe                                a program that finds out what the kernel offers
    _kernel, _landlock                    the system calls

The server's side is in `cdpbridge.chromium`. Nothing here imports asyncio: the zygote is small, so that its forks are.
"""

from __future__ import annotations

from ._explain import explain, remedy
from ._plan import PROXY_PORT, Folders, Found, Means, Mount, Plan, make_plan
from ._protocol import ASK_SOCKET, CHANNEL, MAX_BYTES, MAX_GROUPS, Descriptors, Launch, Report, zygote_command
from ._steps import Step, probe_command, read_steps

__all__ = [
    "ASK_SOCKET",
    "CHANNEL",
    "MAX_BYTES",
    "MAX_GROUPS",
    "PROXY_PORT",
    "Descriptors",
    "Folders",
    "Found",
    "Launch",
    "Means",
    "Mount",
    "Plan",
    "Report",
    "Step",
    "explain",
    "make_plan",
    "probe_command",
    "read_steps",
    "remedy",
    "zygote_command",
]
