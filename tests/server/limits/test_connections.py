"""Which connections make way, without a server."""

import pytest

from cdpbridge.server.limits import Connections, Descriptors


class Peer:
    def __init__(self):
        self.dropped = False

    def drop(self):
        self.dropped = True


class Table:
    """1000 descriptors: from 920 on those that wait make way, from 980 no client stays, from 990 nobody comes in."""

    def __init__(self, held_bytes=10**9):
        self.now = 0
        table = self

        class Counted(Descriptors):
            __slots__ = ()

            def used(self):
                return table.now

        self.connections = Connections(Counted(1000, 80), held_bytes)

    def arrive(self):
        peer = Peer()
        return peer, self.connections.arrived(peer)


def test_below_the_limit_nobody_makes_way():
    table = Table()
    table.now = 900
    peers = [table.arrive() for _ in range(15)]
    assert all(taken and not peer.dropped for peer, taken in peers)


def test_at_the_limit_who_has_waited_longest_makes_way():
    table = Table()
    peers = [table.arrive()[0] for _ in range(50)]
    table.connections.waits(peers[0])  # it did something
    table.connections.served(peers[1])
    table.now = 930
    table.connections._used = 930
    last, taken = table.arrive()
    assert taken
    batch = (1000 - 80) // 64
    assert [peer.dropped for peer in peers[2 : 2 + batch]] == [True] * batch
    assert not any(peer.dropped for peer in (last, *peers[:2], *peers[2 + batch :]))


@pytest.mark.parametrize(
    ("used", "stays", "comes"),
    [(919, True, True), (975, True, True), (985, False, True), (995, False, False)],
)
def test_clients_stay_away_before_requests_do(used, stays, comes):
    table = Table()
    table.now = used
    table.connections._used = used
    assert table.connections.may_stay() is stays
    assert table.arrive()[1] is comes


def test_a_waiting_connection_makes_way_for_a_client_that_stays():
    table = Table()
    peer, _ = table.arrive()
    table.now = table.connections._used = 985
    assert table.connections.may_stay()
    assert peer.dropped


def test_memory_of_all_that_wait_is_bounded():
    table = Table(held_bytes=10 * 8192)
    peers = [table.arrive()[0] for _ in range(11)]
    assert [peer.dropped for peer in peers] == [True] + [False] * 10
    table.connections.holds(peers[10], 8192)
    assert peers[1].dropped
    assert not peers[2].dropped
    table.connections.served(peers[10])
    table.connections.holds(peers[10], 10**9)  # served: it counts no more
    table.connections.served(peers[10])
    assert len(table.connections) == 8
    assert not any(table.arrive()[0].dropped or peers[2].dropped for _ in range(2))


def test_browsers_are_refused_while_there_is_place_for_their_clients():
    table = Table()
    waiting = [table.arrive()[0] for _ in range(100)]
    table.now = 980  # 100 of them wait, and would make way
    assert table.connections.problem() is None
    for peer in waiting:
        table.connections.served(peer)
    assert "0 of 1000 file descriptors are left" in table.connections.problem()
    table.now = 889
    assert "31 of" in table.connections.problem()
    table.now = 888
    assert table.connections.problem() is None
