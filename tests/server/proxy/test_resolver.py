"""Names that resolve late, or never, hold up their own browser only."""

import asyncio
import socket
import threading

import pytest

from cdpbridge.server.proxy import _resolver
from cdpbridge.server.proxy._resolver import Resolver
from tests.conftest import until

uvloop = pytest.importorskip("uvloop")
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))] * 2


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_names_and_what_needs_no_resolver(loop):
    async def main():
        resolver = Resolver()
        assert await resolver.addresses("a.localhost", 80) == ["127.0.0.1", "::1"]
        assert await resolver.addresses("0x7f.1", 80) == ["127.0.0.1"]
        assert await resolver.addresses("2001:db8::1", 80) == ["2001:db8::1"]
        for name in ("no-such-name.invalid", "x" * 64 + ".invalid", "ü" * 300):
            with pytest.raises(OSError):
                await resolver.addresses(name, 80)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main())


def test_a_browser_with_names_that_time_out_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(_resolver, "_AT_ONCE", 3)
    answer, asked = threading.Event(), []

    def getaddrinfo(name, _port, **_options):
        asked.append(name)
        if name.startswith("slow"):
            answer.wait(60)
        return ANSWER

    async def main():
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        bad, good = Resolver(), Resolver()
        slow = [asyncio.ensure_future(bad.addresses(f"slow{number}.example", 80)) for number in range(10)]
        await until(lambda: len(asked) >= 3)
        assert await good.addresses("quick.example", 80) == ["192.0.2.1"]
        # One whose caller has left keeps its place until its thread has ended.
        slow[0].cancel()
        await asyncio.sleep(0)
        assert len(asked) == 4
        answer.set()
        found = await asyncio.gather(*slow, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [["192.0.2.1"]] * 9

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert len(asked) == 11
