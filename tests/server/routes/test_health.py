"""What balancers and monitoring read."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from cdpbridge.server.profiles import ProfileVersion
from tests.cases import cases

ROOT = "http://test"


async def scraped(api):
    answer = await api.client.get(f"{ROOT}/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@cases("path", ["/healthz", "/readyz", "/pressure", "/metrics"])
async def test_no_key_is_needed(api, path):
    assert (await api.client.get(ROOT + path)).status_code == 200


async def test_ready_as_long_as_the_database_answers(api, monkeypatch):
    assert (await api.client.get(f"{ROOT}/readyz")).json() == {
        "ready": True,
        "checks": {"database": "ok", "server": "ok"},
    }

    async def broken():
        raise OperationalError("select", None, Exception("disk I/O error at postgresql://user:secret@host"))

    monkeypatch.setattr(api.services.store, "has_keys", broken)
    answer = await api.client.get(f"{ROOT}/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "checks": {"database": "OperationalError", "server": "ok"}}


async def test_not_ready_on_the_way_out(api):
    await api.services.rentals.close()
    assert (await api.client.get(f"{ROOT}/readyz")).json()["checks"]["server"] == "stopping"
    pressure = (await api.client.get(f"{ROOT}/pressure")).json()
    assert (pressure["accepting"], pressure["reason"]) == (False, "stopping")


async def test_pressure_counts_browsers_by_state(api, wait_until):
    await api.rent()
    api.hosts.may_start.clear()
    order = asyncio.create_task(api.rent())
    await wait_until(lambda: api.hosts.starting)
    assert (await api.client.get(f"{ROOT}/pressure")).json()["browsers"] == {
        "starting": 1,
        "active": 1,
        "stopping": 0,
    }
    api.hosts.may_start.set()
    await order
    api.hosts.ready = 2
    pressure = (await api.client.get(f"{ROOT}/pressure")).json()
    assert (pressure["readyBrowsers"], pressure["engine"]) == (2, None)
    assert (await scraped(api))["cdpbridge_ready_browsers",] == 2


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("min_free_memory_mb", "memory"), ("min_free_disk_mb", "disk"), ("max_load_per_cpu", "cpu")],
)
async def test_what_pressure_says_is_what_an_order_meets(make_api, setting, reason, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 1.0, 1.0))
    value = 1e-6 if setting == "max_load_per_cpu" else 10**9
    async with make_api(**{setting: value}) as api:
        pressure = (await api.client.get(f"{ROOT}/pressure")).json()
        assert (pressure["accepting"], pressure["reason"]) == (False, reason)
        answer = await api.post("/browsers", {})
        assert answer.status_code == 503
        kept = pressure["message"].partition(", ")[2]  # what is left moves between the two
        assert kept in answer.json()["detail"]
        assert (await api.account())["totalCreditsBalanceUsd"] == 100
        assert api.hosts.starts == 0


async def test_copies_of_profiles_make_way_when_the_disk_is_short(make_api, tmp_path, monkeypatch):
    from cdpbridge.server.limits import read_machine

    async with make_api() as api:
        profiles, profile, folder = api.services.profiles, uuid4(), tmp_path / "browser"
        folder.mkdir()
        (folder / "Local State").touch()
        saved = profiles.save(profile, folder, None)
        profiles.keep_ready(profile, folder, ProfileVersion(saved.version))
        [ready] = (api.services.settings.data_dir / "profiles" / "ready").iterdir()

        def machine(*folders):
            found = read_machine(*folders)
            return replace(found, disk_free=0) if ready.exists() else found

        monkeypatch.setattr("cdpbridge.server.rentals._pressure.read_machine", machine)
        assert (await api.client.get(f"{ROOT}/pressure")).json()["reason"] == "disk"
        await api.rent()
        assert not ready.exists()


async def test_metrics_follow_a_browser(api, start_failure):
    browser = await api.rent()
    during = await scraped(api)
    assert during["cdpbridge_browsers", "active"] == 1
    assert during["cdpbridge_browser_start_seconds_count",] == 1
    assert during["cdpbridge_ledger_usd", "charge"] == -0.05
    api.clock.advance(90)
    await api.stop(browser)
    api.hosts.failure = start_failure
    await api.post("/browsers", {})
    after = await scraped(api)
    assert after["cdpbridge_browsers", "active"] == 0
    assert after["cdpbridge_browser_used_seconds_sum", "stopped_by_caller"] == 90
    assert after["cdpbridge_browser_start_failures_total",] == 1
    assert after["cdpbridge_ledger_usd", "refund"] == pytest.approx(0.048333)
    assert after["cdpbridge_accepting",] == 1
    assert after["process_open_fds",] > 0


async def test_requests_are_counted_by_pattern_not_by_path(api):
    browser = await api.rent()
    await api.browser(browser)
    await api.get("/profiles", key="nobody")
    await api.get("/no/such/route")
    text = (await api.client.get(f"{ROOT}/metrics")).text
    counts = await scraped(api)
    name = "cdpbridge_http_request_seconds_count"
    assert counts[name, *sorted(["GET", "/browsers/{session_id}", "200"])] == 1
    assert counts[name, *sorted(["GET", "unknown", "401"])] == 1
    assert counts[name, *sorted(["GET", "unknown", "404"])] == 1
    assert browser["id"] not in text


async def test_no_secret_in_what_anybody_may_read(api):
    browser = await api.rent()
    token = browser["cdpUrl"].rsplit("/", 1)[1]
    for path in ("/healthz", "/readyz", "/pressure", "/metrics"):
        text = (await api.client.get(ROOT + path)).text
        assert token not in text
        assert browser["id"] not in text
