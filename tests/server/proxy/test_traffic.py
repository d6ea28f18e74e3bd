"""Bytes by host."""

from cdpbridge.server.proxy import HostTraffic
from cdpbridge.server.proxy._traffic import Traffic


def test_hosts_are_counted_one_by_one():
    traffic = Traffic()
    traffic.add("a.example", 1, 0)
    traffic.add("b.example", 0, 5)
    traffic.add("a.example", 2, 1)
    assert traffic.hosts() == [HostTraffic("b.example", 0, 5), HostTraffic("a.example", 3, 1)]


def test_a_page_with_endless_hosts_takes_bounded_memory_and_hides_none_with_much_traffic():
    traffic = Traffic()
    for number in range(10_000):
        traffic.add(f"h{number}.example", 1, 0)
        if number % 100 == 0:
            traffic.add("much.example", 10, 20)
    found = traffic.hosts()
    assert len(found) <= 201
    assert found[0] == HostTraffic("much.example", 1000, 2000)
    assert found[-1].host is None
    assert sum(each.bytes_sent for each in found) == 11_000
