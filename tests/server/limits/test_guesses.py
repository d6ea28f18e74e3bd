"""Fault D14: guessing keys and tokens."""

import asyncio
import re

import httpx
import pytest

from cdpbridge.server.limits import Guesses, KeyGuesses, Peers, peer_name
from tests.cases import cases

ONE_BUILD = pytest.mark.one_build("limits of the server's own port")

KEY = "key-of-tests"
HEADER = "X-Browser-Use-API-Key"
SLOW = {"key_failures": 5, "key_seconds": 2.0, "token_failures": 5, "token_seconds": 2.0}


# --- the tables, without a server -------------------------------------------------------------------------------------


def test_failures_fill_a_bucket_that_time_empties():
    guesses = Guesses(3, 10, peers=100)
    assert [guesses.failed("a", f"wrong {number}", 0) for number in range(3)] == [None, None, None]
    assert guesses.failed("a", "wrong 3", 0) == 10
    assert guesses.retry_after("a", 4) == 6
    assert guesses.retry_after("b", 4) is None
    assert guesses.retry_after("a", 10) is None
    assert guesses.failed("a", "wrong 4", 10) is None
    assert guesses.failed("a", "wrong 5", 10) == 10  # and it does not grow by being refused
    assert guesses.failed("a", "wrong 6", 19) == 1
    assert guesses.failed("a", "wrong 7", 1000) is None


def test_to_repeat_one_wrong_key_is_no_guess():
    guesses = Guesses(3, 10, peers=100)
    assert {guesses.failed("a", "the same", at) for at in range(1000)} == {None}
    assert guesses.retry_after("a", 1000) is None


def test_only_so_many_peers_are_remembered():
    guesses = Guesses(1, 10, peers=50)
    for number in range(1000):
        guesses.failed(f"peer {number}", "wrong", 0)
    assert len(guesses) == 50
    assert guesses.retry_after("peer 0", 0) is None
    assert guesses.retry_after("peer 999", 0) == 10


def test_a_key_that_was_right_from_there_passes_and_no_other():
    keys = KeyGuesses(2, 10, peers=100)
    keys.right("a", "mine")
    for number in range(5):
        keys.failed("a", f"wrong {number}", 0)
    assert keys.refused("a", "mine", 0) is None
    assert keys.refused("a", "another right one", 0) == 10
    assert keys.refused("b", "mine", 0) is None
    assert keys.refused("a", "another right one", 10) is None


@cases(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_peers_are_addresses_and_networks(address, name):
    assert peer_name(address) == name


@cases(
    ("address", "forwarded", "client"),
    [
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),  # nobody we trust
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),  # the client wrote the first itself
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [" "], "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_are_believed(address, forwarded, client):
    assert Peers(["10.0.0.0/8"]).client(address, forwarded) == client


# --- a real server ----------------------------------------------------------------------------------------------------


async def exhausted(attempt, most=40):
    """Attempt until 429; the statuses before, and the seconds to wait."""
    before = []
    for number in range(most):
        answer = await attempt(number)
        if answer.status_code == 429:
            return before, int(answer.headers["retry-after"])
        before.append(answer.status_code)
    raise AssertionError(f"never slowed: {before}")


async def passes(attempt, seconds):
    """It succeeds after the time that it was told, not long after."""
    async with asyncio.timeout(seconds + 60):
        while (answer := await attempt()).status_code == 429:
            assert int(answer.headers["retry-after"]) <= seconds
            await asyncio.sleep(0.1)
    return answer.status_code


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_d14_keys_over_rest_and_sign_in(spawn_server):
    async with spawn_server(limits=SLOW, key=f"{KEY},second-key-of-tests") as server:
        root = f"http://{server.http.base_url.netloc.decode()}"

        async def rest(number, key=None):
            headers = {HEADER: key or f"guess-{number}"}
            return await server.http.get("/billing/account", headers=headers)

        async def sign_in(number=0, key=None):
            return await server.http.post(f"{root}/console/sign-in", json={"key": key or f"guess {number}"})

        assert (await rest(0, KEY)).status_code == 200
        before, wait = await exhausted(rest)
        assert (set(before), wait) == ({401}, 2)
        assert (await sign_in(1)).status_code == 429  # counted together
        # Who used the key from here before goes on; who comes new has to wait a little.
        assert (await rest(0, KEY)).status_code == 200
        assert (await sign_in(key=KEY)).status_code == 200
        assert await passes(lambda: rest(0, "second-key-of-tests"), 2) == 200
        before, _ = await exhausted(sign_in)
        assert set(before) <= {401}
        assert (await rest(1)).status_code == 429
        # Others are not locked out.
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport, base_url=server.http.base_url) as other:
            answer = await other.get("/billing/account", headers={HEADER: "second-key-of-tests"})
            assert answer.status_code == 200
            assert (await other.get("/billing/account", headers={HEADER: "x"})).status_code == 401
        # Nobody gets another address by saying so.
        forged = {"X-Forwarded-For": "203.0.113.1", HEADER: "guess-again"}
        assert (await server.http.get("/billing/account", headers=forged)).status_code == 429


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_d14_behind_a_trusted_proxy_the_client_counts(spawn_server):
    async with spawn_server(limits=SLOW, trusted_proxies='["127.0.0.0/8"]') as server:

        async def guess(number, client="203.0.113.1"):
            headers = {"X-Forwarded-For": client, HEADER: f"guess-{number}"}
            return await server.http.get("/billing/account", headers=headers)

        await exhausted(guess)
        assert (await guess(100, "203.0.113.2")).status_code == 401
        assert (await guess(100, "198.51.100.1, 203.0.113.1")).status_code == 429
        address = str(server.http.base_url).split("/api/")[0]

        async def token(number):
            return await server.http.get(
                f"{address}/cdp/guess-{number}/json/version", headers={"X-Forwarded-For": "2001:db8::1"}
            )

        await exhausted(token)
        other = {"X-Forwarded-For": "2001:db8::2"}  # the same customer
        assert (await server.http.get(f"{address}/cdp/x/json/version", headers=other)).status_code == 429
        other = {"X-Forwarded-For": "2001:db8:0:1::2"}
        assert (await server.http.get(f"{address}/cdp/x/json/version", headers=other)).status_code == 404


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_d14_tokens_shares_and_signatures(spawn_server, attack):
    async with spawn_server(limits=SLOW) as server:
        target = attack(server)
        browser = await server.rent()
        good = "/cdp/" + browser["cdpUrl"].rpartition("/")[2]

        async def upgrade(path):
            peer = await target.connect(target.upgrade(path))
            head = await peer.reader.readuntil(b"\r\n\r\n")
            retry = re.search(rb"(?i)retry-after: (\d+)", head)
            return httpx.Response(
                int(head.split()[1]), headers={"retry-after": retry[1].decode()} if retry else {}
            )

        before, wait = await exhausted(lambda number: upgrade(f"/cdp/guess-{number}"))
        assert (set(before), wait) == ({404}, 2)
        assert (await server.http.get(f"{target.root}/cdp/guess/json/version")).status_code == 429
        # What cannot be guessed passes at all times.
        assert (await upgrade(good)).status_code == 101
        assert (await server.http.get(f"{target.root}{good}/json/version")).status_code == 200
        wrong = f"{target.root}/files/x?expires=99999999999&signature="
        assert await passes(lambda: server.http.get(f"{wrong}0"), 2) == 401
        before, _ = await exhausted(lambda number: server.http.get(f"{wrong}{number}"))
        assert set(before) <= {401}

        async def upload(number):
            fields = {"policy": f"guess {number}", "signature": "x"}
            return await server.http.post(f"{target.root}/files", data=fields, files={"file": b"x"})

        assert (await upload(0)).status_code == 429
        await server.stop(browser)
