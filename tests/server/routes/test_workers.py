"""What an operator and monitoring see of workers."""

import asyncio
import json
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from cdpbridge.server.workers._protocol import encoded
from cdpbridge.server.workers._register import PROOF_HEADER, REGISTRATION_PATH, Registration, proof_of
from tests.conftest import until
from tests.server.store.conftest import NOW

ROOT = "http://test"
ADMIN = "key-of-the-operator"
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def api(make_api):
    async with make_api(browsers="workers", worker_secret="s" * 32, admin_keys=[ADMIN]) as api:
        yield api


@pytest.fixture
def add_worker(api):
    async def add_worker(name, slots):
        worker = await api.services.store.register_worker(
            uuid4(), name=name, address=f"{name}:1", protocol=1, slots=slots, now=NOW
        )
        await api.services.store.beat(timedelta(0), [worker.id])  # it is heard from
        return str(worker.id)

    return add_worker


async def operate(api, method, path, *, status=200):
    answer = await api.request(method, f"{ROOT}/admin/v1{path}", key=ADMIN)
    assert answer.status_code == status, answer.text
    return answer.json()


async def take(api, count):
    """Browsers that start, each with a slot if there is one; else they wait."""
    api.hosts.may_start.clear()
    # They end with the server.
    api.creating = [asyncio.create_task(api.post("/browsers", {})) for _ in range(count)]

    async def begun():
        rows = await api.services.store.unfinished()
        return rows if len(rows) >= count else None

    for row in await until(begun):
        if await api.services.store.reserve_slot(row.id) is None:
            await api.services.store.join_queue(row.id, now=NOW)


async def test_who_does_not_know_the_secret_registers_no_worker(api):
    way = f"{ROOT}{REGISTRATION_PATH}"
    asked = (await api.client.get(way)).json()["challenge"]
    body = json.dumps(encoded(Registration(uuid4(), "w", "10.0.0.5:8710", 2))).encode()
    good = proof_of(b"s" * 32, asked, body)
    for proof in (
        "",
        "x",
        asked,
        proof_of(b"x" * 32, asked, body),
        good[:-1],
        proof_of(b"s" * 32, asked, b"{}"),
    ):
        answer = await api.client.post(way, content=body, headers={PROOF_HEADER: proof})
        assert answer.status_code == 401, proof
    assert await api.services.store.workers() == []
    assert (await api.client.post(way, content=body, headers={PROOF_HEADER: good})).status_code == 201
    assert [each.name for each in await api.services.store.workers()] == ["w"]


async def test_a_server_without_workers_registers_none(make_api):
    async with make_api() as api:
        for method in ("GET", "POST"):
            answer = await api.client.request(method, f"{ROOT}{REGISTRATION_PATH}", content=b"{}")
            assert answer.status_code == 404


async def pressure(api):
    return (await api.client.get(f"{ROOT}/pressure")).json()


async def scraped(api):
    text = (await api.client.get(f"{ROOT}/metrics")).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_workers_are_listed_and_drained(api, add_worker):
    assert await operate(api, "GET", "/workers") == {"items": [], "waitingOrders": 0}
    second, first = await add_worker("b", 2), await add_worker("a", 1)
    await take(api, 1)
    listed = (await operate(api, "GET", "/workers"))["items"]
    assert [each["id"] for each in listed] == [first, second]
    assert sum(each["running"] for each in listed) == sum(each["starting"] for each in listed) == 1
    assert {name: listed[0][name] for name in ("name", "address", "slots", "draining")} == {
        "name": "a",
        "address": "a:1",
        "slots": 1,
        "draining": False,
    }
    for _ in range(2):
        assert (await operate(api, "POST", f"/workers/{second}/drain"))["draining"]
    assert (await operate(api, "POST", f"/workers/{MISSING}/drain", status=404))[
        "detail"
    ] == "Worker not found"


async def test_pressure_and_metrics_are_of_the_whole_cluster(api, add_worker):
    shown = await pressure(api)
    assert (shown["accepting"], shown["reason"]) == (False, "slots")
    await add_worker("a", 2)
    draining = await add_worker("b", 5)
    await operate(api, "POST", f"/workers/{draining}/drain")
    shown = await pressure(api)
    assert (shown["accepting"], shown["workers"]) == (True, {"accepting": 1, "draining": 1})
    assert shown["slots"] == {"total": 2, "free": 2, "running": 0, "starting": 0}
    await take(api, 3)
    shown = await pressure(api)
    assert (shown["accepting"], shown["reason"], shown["waitingOrders"]) == (False, "slots", 1)
    assert shown["slots"] == {"total": 2, "free": 0, "running": 2, "starting": 2}
    metrics = await scraped(api)
    assert metrics["cdpbridge_workers", "accepting"] == metrics["cdpbridge_workers", "draining"] == 1
    assert metrics["cdpbridge_worker_slots", "free"] == 0
    assert metrics["cdpbridge_worker_slots", "starting"] == 2
    assert metrics["cdpbridge_waiting_orders",] == 1
    assert metrics["cdpbridge_accepting",] == 0


async def test_pressure_says_so_when_the_database_that_knows_the_workers_is_away(api, monkeypatch):
    async def broken():
        raise OperationalError("select", None, Exception("away"))

    monkeypatch.setattr(api.services.store, "workers", broken)
    shown = await pressure(api)
    assert (shown["accepting"], shown["reason"]) == (False, "database")


async def test_without_workers_pressure_counts_who_waits_for_a_turn(make_api):
    async with make_api() as api:
        api.hosts.waiting = 3
        shown = await pressure(api)
        assert (shown["accepting"], shown["waitingOrders"]) == (True, 3)
        assert "slots" not in shown
        metrics = await scraped(api)
        assert metrics["cdpbridge_waiting_orders",] == 3
        assert ("cdpbridge_workers", "accepting") not in metrics
