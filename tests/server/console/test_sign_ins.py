"""Who is signed in."""

from cdpbridge.server.console import SignIns
from cdpbridge.server.console._sign_ins import SIGN_IN_LASTS


def hash_of(sign_ins, made):
    return sign_ins.key_hash(made.token, made.proof)


def test_a_token_and_its_proof_lead_to_the_hash_they_were_given_for():
    sign_ins = SignIns(lambda: 0.0)
    one, two = sign_ins.add("hash 1"), sign_ins.add("hash 2")
    assert len({one.token, one.proof, two.token, two.proof}) == 4
    assert (hash_of(sign_ins, one), hash_of(sign_ins, two)) == ("hash 1", "hash 2")
    assert sign_ins.key_hash("a guess", one.proof) is None
    assert sign_ins.key_hash("\udc80", "\udc80") is None  # what a broken cookie can hold
    for proof in ("", "1", one.token, two.proof, "\udc80"):
        assert sign_ins.key_hash(one.token, proof) is None


def test_it_ends_when_signing_out_and_after_its_time():
    now = 100.0
    sign_ins = SignIns(lambda: now)
    one, two = sign_ins.add("hash"), sign_ins.add("hash")
    assert not sign_ins.remove(one.token, two.proof)
    assert hash_of(sign_ins, one) == "hash"
    assert sign_ins.remove(one.token, one.proof)
    assert hash_of(sign_ins, one) is None
    assert sign_ins.remove(one.token, one.proof)  # it may be repeated
    now += SIGN_IN_LASTS.total_seconds() - 1
    assert hash_of(sign_ins, two) == "hash"
    now += 1
    assert hash_of(sign_ins, two) is None


def test_the_oldest_is_removed_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("cdpbridge.server.console._sign_ins._MOST", 2)
    sign_ins = SignIns(lambda: 0.0)
    made = [sign_ins.add(f"hash {number}") for number in range(3)]
    assert [hash_of(sign_ins, each) for each in made] == [None, "hash 1", "hash 2"]
