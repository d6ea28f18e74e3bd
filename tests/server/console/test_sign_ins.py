"""Who is signed in."""

from cdpbridge.server.console import SignIns
from cdpbridge.server.console._sign_ins import SIGN_IN_LASTS


def test_a_token_leads_to_the_hash_it_was_given_for():
    sign_ins = SignIns(lambda: 0.0)
    one, two = sign_ins.add("hash 1"), sign_ins.add("hash 2")
    assert one != two
    assert (sign_ins.key_hash(one), sign_ins.key_hash(two)) == ("hash 1", "hash 2")
    assert sign_ins.key_hash("a guess") is None
    assert sign_ins.key_hash("\udc80") is None  # what a broken cookie can hold


def test_it_ends_when_signing_out_and_after_its_time():
    now = 100.0
    sign_ins = SignIns(lambda: now)
    one, two = sign_ins.add("hash"), sign_ins.add("hash")
    sign_ins.remove(one)
    assert sign_ins.key_hash(one) is None
    now += SIGN_IN_LASTS.total_seconds() - 1
    assert sign_ins.key_hash(two) == "hash"
    now += 1
    assert sign_ins.key_hash(two) is None


def test_the_oldest_goes_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("cdpbridge.server.console._sign_ins._MOST", 2)
    sign_ins = SignIns(lambda: 0.0)
    tokens = [sign_ins.add(f"hash {number}") for number in range(3)]
    assert [sign_ins.key_hash(token) for token in tokens] == [None, "hash 1", "hash 2"]
