"""Who is signed in, on every server of a database."""

import pytest

from cdpbridge.server.console._sign_ins import SIGN_IN_LASTS, SignIns
from cdpbridge.server.store import Store
from tests.server.store.conftest import NOW


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'test.sqlite3'}")
    yield store
    await store.close()


async def hash_of(sign_ins, made):
    return await sign_ins.key_hash(made.token, made.proof)


async def test_a_token_and_its_proof_lead_to_the_hash_they_were_given_for(store):
    sign_ins, elsewhere = SignIns(store, lambda: NOW), SignIns(store, lambda: NOW)
    one, two = await sign_ins.add("hash 1"), await sign_ins.add("hash 2")
    assert len({one.token, one.proof, two.token, two.proof}) == 4
    assert [await hash_of(elsewhere, each) for each in (one, two)] == ["hash 1", "hash 2"]
    assert await sign_ins.key_hash("a guess", one.proof) is None
    assert await sign_ins.key_hash("\udc80", "\udc80") is None  # what a broken cookie can hold
    for proof in ("", "1", one.token, two.proof, "\udc80"):
        assert await sign_ins.key_hash(one.token, proof) is None


async def test_it_ends_when_signing_out_and_after_its_time(store):
    now = NOW
    sign_ins = SignIns(store, lambda: now)
    one, two = await sign_ins.add("hash"), await sign_ins.add("hash")
    assert not await sign_ins.remove(one.token, two.proof)
    assert await hash_of(sign_ins, one) == "hash"
    assert await SignIns(store, lambda: now).remove(one.token, one.proof)  # on another server
    assert await hash_of(sign_ins, one) is None
    assert await sign_ins.remove(one.token, one.proof)  # it may be repeated
    now += SIGN_IN_LASTS * 0.999
    assert await hash_of(sign_ins, two) == "hash"
    now += SIGN_IN_LASTS * 0.001
    assert await hash_of(sign_ins, two) is None


async def test_the_oldest_is_removed_when_there_are_too_many(store, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.store._sign_ins._MOST", 2)
    now = NOW
    sign_ins = SignIns(store, lambda: now)
    made = []
    for number in range(3):
        made.append(await sign_ins.add(f"hash {number}"))
        now += SIGN_IN_LASTS * 0.001
    assert [await hash_of(sign_ins, each) for each in made] == [None, "hash 1", "hash 2"]
