"""The table of addresses."""

import asyncio

import pytest

from cdpbridge.server.gateway import Registry, Upstream, Usage

UPSTREAM = Upstream("127.0.0.1", 1, "/devtools/browser/x")


class Client:
    def __init__(self):
        self.ended = asyncio.get_running_loop().create_future()
        self.told = []

    def finish(self, code, reason):
        self.told.append((code, reason))


def test_tokens_are_found_and_not_kept():
    registry = Registry()
    registry.add("secret", UPSTREAM)
    assert registry.find("secret").upstream is UPSTREAM
    assert registry.find("secre") is None
    assert registry.find("\ud800") is None
    assert "secret" not in repr(vars(registry))


def test_a_token_is_used_once():
    registry = Registry()
    registry.add("secret", UPSTREAM)
    with pytest.raises(ValueError) as error:
        registry.add("secret", Upstream("127.0.0.1", 2, "/"))
    assert "secret" not in str(error.value)
    assert registry.find("secret").upstream is UPSTREAM


@pytest.mark.parametrize(("host", "authority"), [("127.0.0.1", "127.0.0.1:9"), ("::1", "[::1]:9")])
def test_the_authority_of_an_upstream(host, authority):
    assert Upstream(host, 9, "/").authority == authority


def test_allowed_hosts_are_lower_case_and_add_up():
    registry = Registry()
    registry.allow_hosts(["A.Example."])
    registry.allow_hosts(["b.example"])
    assert registry.allowed_hosts == {"a.example", "b.example"}


def test_usage():
    registry = Registry()
    assert registry.usage("secret") is None
    registry.add("secret", UPSTREAM)
    assert registry.usage("secret") == Usage(0, 0, 0, None)


async def test_close_forgets_tells_and_waits():
    registry = Registry()
    registry.add("secret", UPSTREAM)
    clients = [Client(), Client()]
    registry.find("secret").clients.update(clients)
    closing = asyncio.create_task(registry.close("secret", 1001, "session stopped"))
    await asyncio.sleep(0)
    assert registry.find("secret") is None
    assert [client.told for client in clients] == [[(1001, "session stopped")]] * 2
    clients[0].ended.set_result(None)
    await asyncio.sleep(0)
    assert not closing.done()
    clients[1].ended.set_result(None)
    await closing


async def test_close_of_what_nobody_knows_or_uses():
    registry = Registry()
    await registry.close("", 1001, "")
    registry.add("secret", UPSTREAM)
    await registry.close("secret", 1001, "")
    assert registry.find("secret") is None


def test_browsers_of_one_build_share_the_protocol():
    registry = Registry()
    bodies = [b"one build", b"one build", b"another"]
    for number, body in enumerate(bodies):
        registry.add(f"token-{number}", UPSTREAM)
        registry.keep_protocol(registry.find(f"token-{number}"), bytes(bytearray(body)))
    first, second, third = (registry.find(f"token-{number}").protocol for number in range(3))
    assert first is second
    assert (first, third) == (b"one build", b"another")


async def test_what_was_relayed_stays_counted_when_the_browser_is_gone():
    registry = Registry()
    for token in ("one", "two"):
        registry.add(token, Upstream("127.0.0.1", 1, "/devtools/browser/x"))
        entry = registry.find(token)
        entry.messages_sent, entry.messages_received, entry.active_at = 3, 5, 7.0
    await registry.close("one", 1000, "")
    assert registry.total_usage() == Usage(0, 6, 10, 7.0)
