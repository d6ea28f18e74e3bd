"""The closing handshake of a relayed WebSocket with its client, as a table. Pure: no clock, no I/O.

Theory (RFC 6455 section 7). Each side sends one close frame, and the connection is closed when both have passed. The frame that goes
to the client is the browser's, which is relayed, or ours, which may go out only where a frame of the browser ends. So ours may have to
wait (`due`), and the browser's frame that is running may turn out to be its own close frame, which then counts as ours. The client's
frame may come at any time, also while ours is due. A pair of phase and signal that is not in the table changes nothing, which makes
each frame go out once.

                 due             sent
          open ──────▶ due ──────────────▶ sent
            │ │         │                   │ ▲
   received │ └─────────┼──────── sent ─────┼─┘
            ▼           ▼ received          ▼ received
         received ──▶ answering ─────────▶ closed
                 due             sent

The client's socket may end in any phase; the phase is `lost` then, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "Phase", "Signal", "next_phase"]


class Phase(Enum):
    """A phase of the closing handshake with the client.

    Attributes:
        OPEN: No close frame has passed.
        DUE: Ours waits for the end of the browser's running frame.
        SENT: One went to the client.
        RECEIVED: One came from the client.
        ANSWERING: One came from the client, and ours waits for the end of the browser's running frame.
        CLOSED: One went each way.
        LOST: The client's socket has ended.
    """

    OPEN = auto()
    DUE = auto()
    SENT = auto()
    RECEIVED = auto()
    ANSWERING = auto()
    CLOSED = auto()
    LOST = auto()

    @property
    def has_sent(self) -> bool:
        """True once a close frame went to the client."""
        return self in {Phase.SENT, Phase.CLOSED}

    @property
    def has_received(self) -> bool:
        """True once a close frame came from the client."""
        return self in {Phase.RECEIVED, Phase.ANSWERING, Phase.CLOSED}

    @property
    def is_due(self) -> bool:
        """True while our close frame waits for the end of the browser's running frame."""
        return self in {Phase.DUE, Phase.ANSWERING}


class Signal(Enum):
    """An event of the closing handshake.

    Attributes:
        DUE: We want to close, within a frame of the browser.
        SENT: A close frame, ours or the browser's, went to the client.
        RECEIVED: The client's close frame came.
        LOST: The client's socket has ended.
    """

    DUE = auto()
    SENT = auto()
    RECEIVED = auto()
    LOST = auto()


TRANSITIONS: Final[Mapping[tuple[Phase, Signal], Phase]] = MappingProxyType(
    {
        (Phase.OPEN, Signal.DUE): Phase.DUE,
        (Phase.OPEN, Signal.SENT): Phase.SENT,
        (Phase.OPEN, Signal.RECEIVED): Phase.RECEIVED,
        (Phase.DUE, Signal.SENT): Phase.SENT,
        (Phase.DUE, Signal.RECEIVED): Phase.ANSWERING,
        (Phase.SENT, Signal.RECEIVED): Phase.CLOSED,
        (Phase.RECEIVED, Signal.DUE): Phase.ANSWERING,
        (Phase.RECEIVED, Signal.SENT): Phase.CLOSED,
        (Phase.ANSWERING, Signal.SENT): Phase.CLOSED,
        **{(phase, Signal.LOST): Phase.LOST for phase in Phase if phase is not Phase.LOST},
    }
)


def next_phase(phase: Phase, signal: Signal) -> Phase:
    """Return the phase that `signal` leads to; `phase` itself when it changes nothing."""
    return TRANSITIONS.get((phase, signal), phase)
