"""The closing handshake with a client: each row of its table, and what must hold for every order of events."""

import itertools

from cdpbridge.server.gateway._closing import TRANSITIONS, Phase, Signal, next_phase
from tests.cases import cases

ROWS = [
    (Phase.OPEN, Signal.DUE, Phase.DUE),
    (Phase.OPEN, Signal.SENT, Phase.SENT),
    (Phase.OPEN, Signal.RECEIVED, Phase.RECEIVED),
    (Phase.DUE, Signal.SENT, Phase.SENT),
    (Phase.DUE, Signal.RECEIVED, Phase.ANSWERING),
    (Phase.SENT, Signal.RECEIVED, Phase.CLOSED),
    (Phase.RECEIVED, Signal.DUE, Phase.ANSWERING),
    (Phase.RECEIVED, Signal.SENT, Phase.CLOSED),
    (Phase.ANSWERING, Signal.SENT, Phase.CLOSED),
    *((phase, Signal.LOST, Phase.LOST) for phase in Phase if phase is not Phase.LOST),
]


@cases(("phase", "signal", "following"), ROWS)
def test_each_transition(phase, signal, following):
    assert next_phase(phase, signal) is following


def test_the_table_has_no_other_rows():
    assert {(phase, signal): following for phase, signal, following in ROWS} == TRANSITIONS


@cases(("phase", "signal"), list(itertools.product(Phase, Signal)))
def test_what_is_not_in_the_table_changes_nothing(phase, signal):
    if (phase, signal) not in TRANSITIONS:
        assert next_phase(phase, signal) is phase


@cases("signals", list(itertools.product(Signal, repeat=4)))
def test_the_phase_knows_what_passed(signals):
    phase, passed = Phase.OPEN, set()
    for signal in signals:
        following = next_phase(phase, signal)
        assert not (phase.has_sent and not following.has_sent) or following is Phase.LOST
        phase = following
        passed.add(signal)
        if phase is Phase.LOST:
            assert Signal.LOST in passed
            return
        assert phase.has_sent == (Signal.SENT in passed)
        assert phase.has_received == (Signal.RECEIVED in passed)
        assert not (phase.is_due and phase.has_sent)
