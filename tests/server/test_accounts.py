"""Keys, projects and credits while the server runs: the admin API, and what a revocation ends."""

import logging
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server import Settings, offline_accounts
from tests.cases import cases

ADMIN = "key-of-the-operator"
ROOT = "http://test"
ROUTES = [
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", "/keys/00000000-0000-4000-8000-000000000000"),
    ("GET", "/projects"),
    ("POST", "/projects"),
    ("PATCH", "/projects/00000000-0000-4000-8000-000000000000"),
    ("POST", "/projects/00000000-0000-4000-8000-000000000000/credits"),
    ("GET", "/workers"),
    ("POST", "/workers/00000000-0000-4000-8000-000000000000/drain"),
]


@pytest.fixture
async def api(make_api):
    async with make_api(admin_keys=[ADMIN]) as api:
        yield api


async def operate(api, method, path, body=None, *, status=200, key=ADMIN, **options):
    answer = await api.request(method, f"{ROOT}/admin/v1{path}", key=key, json=body, **options)
    assert answer.status_code == status, answer.text
    return answer.json()


async def signed_in(api, key):
    """The header of a console that has signed in, besides its cookie."""
    answer = await api.client.post(f"{ROOT}/console/sign-in", json={"key": key})
    assert answer.status_code == 200, answer.text
    return {"X-Cdpbridge-Console": answer.json()["proof"]}


async def make_key(api, **body):
    return await operate(api, "POST", "/keys", {"project": "tests"} | body, status=201)


@cases(("method", "path"), ROUTES)
async def test_no_key_of_a_project_may_manage(api, method, path):
    body = b"{broken"  # no body is read without an admin key
    for key, status in (("", 401), ("unknown-key", 401), ("key-of-tests", 403), ("key-of-others", 403)):
        answer = await api.request(method, f"{ROOT}/admin/v1{path}", key=key, content=body)
        assert answer.status_code == status, f"{method} {path} {key!r}"
    listed = (await operate(api, "GET", "/keys"))["items"]
    assert sorted(key["project"] for key in listed) == ["default", "others", "tests"]


async def test_a_console_without_the_proof_header_may_not_manage(api):
    proof = await signed_in(api, ADMIN)
    path = f"{ROOT}/admin/v1/projects"
    assert (await api.client.get(path)).status_code == 401
    assert (await api.client.get(path, headers={"X-Cdpbridge-Console": "1"})).status_code == 401
    assert (await api.client.get(path, headers=proof)).status_code == 200
    api.client.cookies.clear()
    proof = await signed_in(api, "key-of-tests")
    assert (await api.client.get(path, headers=proof)).status_code == 403


async def test_a_key_is_shown_once_and_kept_as_a_hash(api, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    made = await make_key(api, name="crawler")
    assert made["key"].startswith("cdpb_")
    assert (await api.get("/billing/account", key=made["key"])).json()["name"] == "tests"
    listed = await operate(api, "GET", "/keys")
    [shown] = [key for key in listed["items"] if key["id"] == made["id"]]
    assert (shown["name"], shown["admin"], shown["configured"]) == ("crawler", False, False)
    assert shown["lastUsedAt"] is not None
    assert made["key"] not in str(listed)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert made["key"].encode() not in file.read_bytes(), file
    assert f"key {made['id']} was made" in caplog.text
    assert made["key"] not in caplog.text


async def test_a_revoked_key_ends_what_was_rented_with_it_and_nothing_else(api):
    one, other = await make_key(api), await make_key(api)
    rented = await api.rent(key=one["key"])
    session = await api.open_session(key=one["key"])
    kept = await api.rent(key=other["key"])
    revoked = await operate(api, "DELETE", f"/keys/{one['id']}")
    assert sorted(revoked["stoppedBrowsers"]) == sorted([rented["id"], session["browserSessionId"]])
    assert (await api.get("/browsers", key=one["key"])).status_code == 401
    assert (await api.browser(rented))["status"] == "stopped"
    assert (await api.session(session))["status"] == "stopped"
    assert (await api.browser(kept))["status"] == "active"
    assert [kind for kind, entry, _ in await api.entries()].count("refund") == 2
    again = await operate(api, "DELETE", f"/keys/{one['id']}")
    assert (again["stoppedBrowsers"], again["revokedAt"]) == ([], revoked["revokedAt"])
    await operate(api, "DELETE", f"/keys/{other['id']}?allBrowsers=true")
    assert (await api.browser(kept))["status"] == "stopped"


async def test_a_browser_that_is_starting_when_its_key_is_revoked_never_runs(api):
    import asyncio

    made = await make_key(api)
    api.hosts.may_start.clear()
    renting = asyncio.create_task(api.post("/browsers", {}, key=made["key"]))
    async with asyncio.timeout(60):
        while not api.hosts.starting:
            await asyncio.sleep(0.005)
    await operate(api, "DELETE", f"/keys/{made['id']}")
    api.hosts.may_start.set()
    assert (await renting).status_code == 503
    assert not api.hosts.running
    assert (await api.account())["activeSessionCount"] == 0


async def test_nothing_is_reserved_with_a_key_that_was_revoked_after_the_request_came(api):
    from cdpbridge.server.store import KeyRevoked, key_hash_of

    made = await make_key(api)
    key = await api.services.store.key_of_hash(key_hash_of(made["key"]))
    await operate(api, "DELETE", f"/keys/{made['id']}")
    from dataclasses import replace

    from cdpbridge.api._models import CreateBrowserSessionRequest
    from cdpbridge.server.routes._fields import Unused
    from cdpbridge.server.routes._orders import browser_order

    order = await browser_order(
        api.services, key.project_id, CreateBrowserSessionRequest(), unused=Unused(strict=False), key_id=None
    )

    async def never():
        import asyncio

        await asyncio.Event().wait()

    with pytest.raises(KeyRevoked):
        await api.services.rentals.create(key.project_id, replace(order, key_id=key.id), client_left=never)
    assert api.hosts.starts == 0


async def test_a_revoked_key_of_the_configuration_stays_revoked(make_api, caplog):
    async with make_api(admin_keys=[ADMIN]) as api:
        keys = (await operate(api, "GET", "/keys"))["items"]
        [mine] = [key for key in keys if key["project"] == "tests"]
        await operate(api, "DELETE", f"/keys/{mine['id']}")
    async with make_api(admin_keys=[ADMIN]) as api:
        assert (await api.get("/browsers")).status_code == 401
        assert f"key {mine['id']} of the configuration was revoked" in caplog.text
        keys = (await operate(api, "GET", "/keys"))["items"]
        assert [key["id"] for key in keys if key["project"] == "tests"] == [mine["id"]]


async def test_a_console_that_signed_in_with_a_revoked_key_is_signed_out(api):
    made = await make_key(api)
    proof = await signed_in(api, made["key"])
    path = f"{ROOT}/api/v2/billing/account"
    assert (await api.client.get(path, headers=proof)).status_code == 200
    await operate(api, "DELETE", f"/keys/{made['id']}")
    assert (await api.client.get(path, headers=proof)).status_code == 401
    assert (await api.client.get(f"{ROOT}/console/events", headers=proof)).status_code == 401


async def test_projects_have_plans_limits_and_credits_of_their_own(api, caplog):
    made = await operate(
        api,
        "POST",
        "/projects",
        {"name": "small", "plan": "free", "maxBrowsers": 1, "creditsUsd": "0.10"},
        status=201,
    )
    assert (made["plan"], made["maxBrowsers"], made["balanceUsd"]) == ("free", 1, "0.1")
    key = (await operate(api, "POST", "/keys", {"project": "small"}, status=201))["key"]
    assert (await api.post("/browsers", {"timeout": 16}, key=key)).status_code == 403
    first = await api.rent(key=key)
    account = (await api.get("/billing/account", key=key)).json()
    assert (account["planInfo"]["planName"], account["rateLimit"]) == ("free", 1)
    assert (await api.post("/browsers", {}, key=key)).status_code == 429
    changed = await operate(api, "PATCH", f"/projects/{made['id']}", {"maxBrowsers": 5, "plan": "paid"})
    assert (changed["maxBrowsers"], changed["activeBrowsers"], changed["keys"]) == (5, 1, 1)
    await api.rent(key=key, timeout=240)
    assert (await api.post("/browsers", {}, key=key)).status_code == 402
    granted = await operate(
        api,
        "POST",
        f"/projects/{made['id']}/credits",
        {"amountUsd": "0.050001", "note": "invoice 7"},
        status=201,
    )
    assert granted == {"projectId": made["id"], "amountUsd": "0.050001", "balanceUsd": "0.050001"}
    await api.rent(key=key)
    assert f"project {made['id']} was granted 0.050001 USD: 'invoice 7'" in caplog.text
    project = await api.project(key)
    grants = [
        (row.entry, row.amount_micro_usd)
        for row in await api.services.store.ledger(project)
        if row.kind == "grant"
    ]
    assert grants == [("first credits", 100_000), ("invoice 7", 50_001)]
    assert first["status"] == "active"
    back = await operate(api, "PATCH", f"/projects/{made['id']}", {"maxBrowsers": None})
    assert back["maxBrowsers"] == 10


@cases(
    "body",
    [
        {"amountUsd": 0},
        {"amountUsd": -1},
        {"amountUsd": "0.0000001"},
        {"amountUsd": "NaN"},
        {"amountUsd": "many"},
        {"amountUsd": 10**10},
        {"amountUsd": 1, "note": "x" * 41},
        {"amount": 1},
        {},
    ],
)
async def test_grants_that_are_none(api, body):
    projects = (await operate(api, "GET", "/projects"))["items"]
    await operate(api, "POST", f"/projects/{projects[0]['id']}/credits", body, status=422)
    assert {each["balanceUsd"] for each in (await operate(api, "GET", "/projects"))["items"]} == {"100"}


async def test_what_is_not_there_or_there_already(api):
    await operate(api, "POST", "/projects", {"name": "tests"}, status=409)
    await operate(api, "POST", "/keys", {"project": "nothing"}, status=404)
    nothing = "00000000-0000-4000-8000-000000000000"
    await operate(api, "DELETE", f"/keys/{nothing}", status=404)
    await operate(api, "PATCH", f"/projects/{nothing}", {"plan": "free"}, status=404)
    await operate(api, "POST", f"/projects/{nothing}/credits", {"amountUsd": 1}, status=404)
    await operate(api, "POST", "/projects", {"name": "x", "planName": "free"}, status=201)
    await operate(api, "POST", "/projects", {"name": "y", "max_browsers": 3}, status=422)


async def test_a_second_project_with_a_key_closes_private_addresses(make_api):
    async with make_api(api_keys="key-of-tests", admin_keys=[ADMIN]) as api:
        accounts = api.services.accounts
        assert accounts.network_rules.private
        await operate(api, "POST", "/projects", {"name": "second"}, status=201)
        assert accounts.network_rules.private
        made = await operate(api, "POST", "/keys", {"project": "second"}, status=201)
        assert not accounts.network_rules.private
        await operate(api, "DELETE", f"/keys/{made['id']}")
        assert accounts.network_rules.private


async def test_fault_d18_a_second_project_gets_no_key_where_browsers_are_not_isolated(make_api):
    """The server would not start again, and until then its projects could read each other's files."""
    async with make_api(api_keys="key-of-tests", admin_keys=[ADMIN]) as api:
        for name in ("second", "third"):
            await operate(api, "POST", "/projects", {"name": name}, status=201)
        services = api.app.state.services
        api.app.state.services = replace(
            services, sharing_refusal="browsers cannot be kept from each other here"
        )
        refused = await operate(api, "POST", "/keys", {"project": "second"}, status=409)
        assert "another project has keys, and browsers cannot be kept" in refused["detail"]
        await operate(api, "POST", "/keys", {"project": "default"}, status=201)
        api.app.state.services = services
        await operate(api, "POST", "/keys", {"project": "second"}, status=201)


async def test_without_a_running_server_the_data_folder_is_enough(tmp_path):
    from cdpbridge.api.admin import CreateKeyRequest

    settings = Settings.load(data_dir=tmp_path / "data", credits_usd=Decimal(3))
    async with offline_accounts(settings) as accounts:
        made = await accounts.create_key(CreateKeyRequest(admin=True))
        assert [project.balance_usd for project in (await accounts.list_projects()).items] == [3]
        with pytest.raises(ConfigurationError, match="is used by another server"):
            async with offline_accounts(settings):
                pass
    async with offline_accounts(settings) as accounts:
        assert [key.id for key in (await accounts.list_keys()).items] == [made.id]


def test_a_key_that_is_the_operators_and_a_projects_is_refused():
    with pytest.raises(ConfigurationError, match="given twice"):
        Settings.load(api_keys="one-long-key", admin_keys="one-long-key")
    with pytest.raises(ConfigurationError, match="at least 8"):
        Settings.load(admin_keys=["short"])


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("203.0.113.9", {}, 401),
        ("10.0.0.9", {}, 401),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, 401),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.9"}, 401),
    ],
)
async def test_the_key_of_the_data_folder_is_good_on_this_machine_only(api, peer, headers, status):
    api.services.accounts.accept_local("key-in-the-folder")
    transport = httpx.ASGITransport(api.app, client=(peer, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=ROOT) as client:
        keys = {"X-Browser-Use-API-Key": "key-in-the-folder"} | headers
        assert (await client.get("/admin/v1/keys", headers=keys)).status_code == status
        assert (await client.get("/api/v2/browsers", headers=keys)).status_code == 401
        keys["X-Browser-Use-API-Key"] = ADMIN
        assert (await client.get("/admin/v1/keys", headers=keys)).status_code == 200
