"""Every operation and every documented status, valid against the reference; and what the reference leaves open."""

import asyncio
import uuid
from datetime import datetime
from decimal import Decimal

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from tests.cases import cases

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_the_server_has_every_operation_of_the_reference(api, contract):
    ours = {
        (method.upper(), path.removeprefix("/api/v2"))
        for path, methods in api.app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/api/v2")
    }
    assert set(contract.operations) <= ours
    newer = {
        ("GET", "/tasks/{task_id}/status"),
        ("DELETE", "/sessions/{session_id}"),
        ("POST", "/sessions/{session_id}/purge"),
        ("GET", "/browsers/{session_id}/downloads"),
        ("GET", "/browsers/{session_id}/recording"),
        ("DELETE", "/browsers/{session_id}/files"),
    }
    assert ours - set(contract.operations) == newer


async def test_account(api, checked):
    answer = await checked(api, "GET", "/billing/account")
    assert answer.status_code == 200
    account = answer.json()
    assert account["totalCreditsBalanceUsd"] == 100
    assert (
        account["monthlyCreditsBalanceUsd"] + account["additionalCreditsBalanceUsd"]
        == account["totalCreditsBalanceUsd"]
    )
    assert account["rateLimit"] == account["concurrentSessionLimit"] == 10
    assert account["activeSessionCount"] == 0
    assert account["planInfo"]["planName"] == "paid"
    assert isinstance(account["totalCreditsBalanceUsd"], float)


async def test_account_of_a_project_that_is_gone(api, checked):
    async def none(_project_id):
        return None

    api.services.store.account = none
    answer = await checked(api, "GET", "/billing/account")
    assert (answer.status_code, answer.json()) == (
        404,
        {"detail": "Project for a given API key not found"},
    )


ROUTES = [
    ("GET", "/billing/account"),
    ("GET", "/profiles"),
    ("POST", "/profiles"),
    ("GET", f"/profiles/{UNKNOWN}"),
    ("PATCH", f"/profiles/{UNKNOWN}"),
    ("DELETE", f"/profiles/{UNKNOWN}"),
    ("GET", "/browsers"),
    ("POST", "/browsers"),
    ("GET", f"/browsers/{UNKNOWN}"),
    ("PATCH", f"/browsers/{UNKNOWN}"),
    ("GET", "/nothing-here"),
]


@cases(("method", "path"), ROUTES)
@cases("key", ["", "wrong-key-1", "key-of-tests2"])
async def test_without_a_known_key(api, method, path, key):
    for content in (b"", b"{broken"):  # the key comes first, whatever else is wrong
        headers = {"X-Browser-Use-API-Key": key} if key else {"X-Browser-Use-API-Key": ""}
        answer = await api.client.request(method, path, headers=headers, content=content)
        assert answer.status_code == 401
        assert isinstance(answer.json()["detail"], str)
        assert "key-of-tests" not in answer.text


async def test_profiles(api, checked):
    created = []
    for name in ("one", None, "three"):
        answer = await checked(api, "POST", "/profiles", json={"name": name})
        assert answer.status_code == 201
        created.append(answer.json())
    assert [profile["name"] for profile in created] == ["one", None, "three"]
    first = created[0]["id"]
    template = "/profiles/{profile_id}"
    assert (await checked(api, "GET", f"/profiles/{first}", template)).json() == created[0]
    renamed = await checked(api, "PATCH", f"/profiles/{first}", template, json={"name": "new"})
    assert renamed.json()["name"] == "new"
    same = await checked(api, "PATCH", f"/profiles/{first}", template, json={})
    assert same.json()["name"] == "new"
    for _ in range(2):  # the second time there is none
        assert (await checked(api, "DELETE", f"/profiles/{first}", template)).status_code == 204
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("PATCH", {})):
        missing = await checked(api, method, f"/profiles/{first}", template, json=body)
        assert (missing.status_code, missing.json()) == (404, {"detail": "Profile not found"})
    listed = (await checked(api, "GET", "/profiles?pageSize=1&pageNumber=2")).json()
    assert (listed["totalItems"], listed["pageNumber"], listed["pageSize"]) == (2, 2, 1)
    assert len(listed["items"]) == 1


async def test_profile_without_a_body(api, checked):
    assert (await checked(api, "POST", "/profiles")).json()["name"] is None


@cases(
    ("method", "path", "template", "body"),
    [
        ("GET", "/profiles?pageSize=0", "/profiles", None),
        ("GET", "/profiles?pageSize=101", "/profiles", None),
        ("GET", "/profiles?pageNumber=0", "/profiles", None),
        ("GET", "/profiles?pageNumber=99999999999999999999", "/profiles", None),
        ("GET", "/browsers?pageSize=x", "/browsers", None),
        ("GET", "/browsers?filterBy=sleeping", "/browsers", None),
        ("POST", "/profiles", "/profiles", {"name": "x" * 101}),
        ("POST", "/profiles", "/profiles", {"name": 7}),
        ("POST", "/profiles", "/profiles", []),
        ("PATCH", f"/profiles/{UNKNOWN}", "/profiles/{profile_id}", {"name": "x" * 101}),
        ("GET", "/profiles/x", "/profiles/{profile_id}", None),
        ("DELETE", "/profiles/x", "/profiles/{profile_id}", None),
        ("GET", "/browsers/x", "/browsers/{session_id}", None),
        ("PATCH", f"/browsers/{UNKNOWN}", "/browsers/{session_id}", {}),
        ("PATCH", f"/browsers/{UNKNOWN}", "/browsers/{session_id}", {"action": "pause"}),
        ("POST", "/browsers", "/browsers", {"profileId": "x"}),
        ("POST", "/browsers", "/browsers", {"proxyCountryCode": "zz"}),
        ("POST", "/browsers", "/browsers", {"proxyCountryCode": "fr"}),
        ("POST", "/browsers", "/browsers", {"proxyCountryCode": 7}),
    ],
)
async def test_invalid_requests(api, checked, method, path, template, body):  # noqa: PLR0917  # a row of the table
    answer = await checked(api, method, path, template, json=body)
    assert answer.status_code == 422


@cases("timeout", [0, -1, 241, 10**30, 1.5, "5", None, True])
async def test_fault_b11_timeouts_out_of_range(api, checked, timeout):
    answer = await checked(api, "POST", "/browsers", json={"timeout": timeout})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "timeout"]
    assert api.hosts.starts == 0


async def test_fault_b11_timeouts_over_the_plan(make_api, checked):
    async with make_api(plan="free") as api:
        answer = await checked(api, "POST", "/browsers", json={"timeout": 16})
        for minutes in (16, 240, 241, 10**30, 16.0):
            answer = await checked(api, "POST", "/browsers", json={"timeout": minutes})
            assert answer.status_code == 403
            assert "free users" in answer.json()["detail"]
        browser = (await checked(api, "POST", "/browsers", json={"timeout": 15})).json()
        minutes = datetime.fromisoformat(browser["timeoutAt"]) - datetime.fromisoformat(browser["startedAt"])
        assert minutes.total_seconds() == 900
        silent = (await checked(api, "POST", "/browsers")).json()  # no timeout asked: what the plan allows
        assert datetime.fromisoformat(silent["timeoutAt"]) == datetime.fromisoformat(browser["timeoutAt"])


async def test_a_timeout_is_an_integer_as_json_schema_has_it(api, checked):
    for minutes in (b"5", b"5.0", b"5e0"):
        headers = {"Content-Type": "application/json"}
        content = b'{"timeout": ' + minutes + b"}"
        answer = await checked(api, "POST", "/browsers", content=content, headers=headers)
        assert answer.status_code == 201
        browser = answer.json()
        lasts = datetime.fromisoformat(browser["timeoutAt"]) - datetime.fromisoformat(browser["startedAt"])
        assert lasts.total_seconds() == 300


async def test_above_four_hours_the_text_is_the_clouds(api):
    answer = await api.post("/browsers", {"timeout": 241})
    assert answer.json()["detail"][0]["msg"] == "Maximum session timeout is 4 hours (240 minutes)."


async def test_the_free_plan_has_one_profile(make_api, checked):
    async with make_api(plan="free") as api:
        assert (await checked(api, "POST", "/profiles", json={})).status_code == 201
        answer = await checked(api, "POST", "/profiles", json={})
        assert (answer.status_code, answer.json()) == (
            402,
            {"detail": "Subscription required for additional profiles"},
        )
        account = (await checked(api, "GET", "/billing/account")).json()
        assert account["planInfo"]["subscriptionStatus"] is None


async def test_browsers(api, checked):
    template = "/browsers/{session_id}"
    created = (await checked(api, "POST", "/browsers", json={"timeout": 5})).json()
    assert created["cdpUrl"].startswith("http://test/cdp/")
    assert created["finishedAt"] is None
    assert created["browserCost"] == "0.05"
    assert (await checked(api, "GET", f"/browsers/{created['id']}", template)).json() == created
    listed = (await checked(api, "GET", "/browsers?filterBy=active")).json()
    assert listed["items"] == [created]
    stopped = await checked(api, "PATCH", f"/browsers/{created['id']}", template, json={"action": "stop"})
    assert stopped.json()["status"] == "stopped"
    assert (await checked(api, "GET", "/browsers?filterBy=active")).json()["totalItems"] == 0
    assert (await checked(api, "GET", "/browsers?filterBy=stopped")).json()["items"] == [stopped.json()]
    for method, body in (("GET", None), ("PATCH", {"action": "stop"})):
        missing = await checked(api, method, f"/browsers/{UNKNOWN}", template, json=body)
        assert (missing.status_code, missing.json()) == (404, {"detail": "Session not found"})
    profile = await checked(api, "POST", "/browsers", json={"profileId": UNKNOWN})
    assert (profile.status_code, profile.json()) == (404, {"detail": "Profile not found"})


async def test_too_many(make_api, checked):
    async with make_api(max_browsers=1) as api:
        await checked(api, "POST", "/browsers")
        assert (await checked(api, "POST", "/browsers")).status_code == 429


async def test_pages_are_newest_first_and_complete(api):
    ids = []
    for _ in range(3):
        ids.append((await api.rent())["id"])
        api.clock.advance(1)
    seen = []
    for number in (1, 2, 3):
        page = (await api.get(f"/browsers?pageSize=1&pageNumber={number}")).json()
        assert page["totalItems"] == 3
        seen += [item["id"] for item in page["items"]]
    assert seen == ids[::-1]
    assert (await api.get("/browsers?pageNumber=4&pageSize=1")).json()["items"] == []


async def test_other_projects_see_nothing(api, checked):
    browser = await api.rent()
    profile = (await api.post("/profiles", {"name": "mine"})).json()
    other = {"key": "key-of-others"}
    for method, path, template, body in (
        ("GET", f"/browsers/{browser['id']}", "/browsers/{session_id}", None),
        ("PATCH", f"/browsers/{browser['id']}", "/browsers/{session_id}", {"action": "stop"}),
        ("GET", f"/profiles/{profile['id']}", "/profiles/{profile_id}", None),
        ("PATCH", f"/profiles/{profile['id']}", "/profiles/{profile_id}", {"name": "theirs"}),
        ("POST", "/browsers", "/browsers", {"profileId": profile["id"]}),
    ):
        answer = await checked(api, method, path, template, json=body, **other)
        assert answer.status_code == 404
    assert (await api.request("DELETE", f"/profiles/{profile['id']}", **other)).status_code == 204
    assert (await api.get(f"/profiles/{profile['id']}")).json() == profile
    for path in ("/browsers", "/profiles"):
        assert (await api.get(path, **other)).json()["totalItems"] == 0
    account = (await api.get("/billing/account", **other)).json()
    assert (account["totalCreditsBalanceUsd"], account["activeSessionCount"]) == (100, 0)
    assert (await api.browser(browser))["status"] == "active"


async def test_countries(make_api, checked):
    proxies = {"uk": "http://u:p@127.0.0.1:1", "se": "direct"}
    async with make_api(proxies=proxies) as api:
        for asked, sent in (("gb", "uk"), ("GB", "uk"), ("uk", "uk"), ("se", "se"), (None, None)):
            browser = (await checked(api, "POST", "/browsers", json={"proxyCountryCode": asked})).json()
            assert browser["proxyCountryCode"] == sent
        assert [spec.proxy for spec in api.hosts.specs] == [proxies["uk"]] * 3 + ["direct", None]
        refused = (await checked(api, "POST", "/browsers", json={"proxyCountryCode": "fr"})).json()
        assert "`proxies`" in refused["detail"][0]["msg"]
        assert refused["detail"][0]["loc"] == ["body", "proxyCountryCode"]
        assert "u:p" not in str(refused)


async def test_countries_without_an_upstream_are_simulated_when_that_is_asked_for(make_api, checked, caplog):
    async with make_api(proxies="simulate") as api:
        for country in ("us", "gb", "fr", "it", "jp", "au", "de", "fi", "ca", "in"):
            browser = (await checked(api, "POST", "/browsers", json={"proxyCountryCode": country})).json()
            assert (browser["proxyCountryCode"], browser["proxySimulated"]) == (
                country.replace("gb", "uk"),
                True,
            )
            assert f"browser {browser['id']}: its proxy country" in caplog.text
            await api.stop(browser)
            assert (await api.browser(browser))["proxySimulated"] is True
        assert {spec.proxy for spec in api.hosts.specs} == {"direct"}
        session = (await checked(api, "POST", "/sessions", json={"proxyCountryCode": "de"})).json()
        assert (session["proxyCountryCode"], session["proxySimulated"]) == ("de", True)
        for unknown in ("br", "xx", "nonsense"):
            refused = await checked(api, "POST", "/browsers", json={"proxyCountryCode": unknown})
            assert refused.status_code == 422
            assert "au, ca, de, fi, fr, in, it, jp, uk, us" in refused.json()["detail"][0]["msg"]


async def test_any_country_of_iso_3166_can_be_configured(make_api, checked):
    async with make_api(proxies={"br": "direct", "ZA": "simulate"}) as api:
        brazil = (await checked(api, "POST", "/browsers", json={"proxyCountryCode": "BR"})).json()
        assert (brazil["proxyCountryCode"], brazil["proxySimulated"]) == ("br", False)
        africa = (await checked(api, "POST", "/browsers", json={"proxyCountryCode": "za"})).json()
        assert africa["proxySimulated"] is True


async def test_behind_a_proxy_with_a_prefix(make_api):
    async with make_api(public_url="https://browsers.example.com/pool/") as api:
        browser = await api.rent()
        assert browser["cdpUrl"].startswith("https://browsers.example.com/pool/cdp/")


async def test_unknown_fields_are_ignored_and_unknown_paths_are_404(api):
    assert (await api.rent(solveCaptchas=True))["status"] == "active"
    answer = await api.get("/nothing")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@cases("path", ["/skills", "/skills/x/execute", "/marketplace/skills"])
async def test_skills_are_the_clouds(api, path):
    answer = await api.post(path, {})
    assert answer.status_code == 501
    assert "Browser Use Cloud only" in answer.json()["detail"]


async def test_costs_are_decimal_strings(api):
    browser = await api.rent()
    for name in ("browserCost", "proxyCost", "proxyUsedMb"):
        assert isinstance(browser[name], str)
        assert Decimal(browser[name]) >= 0


@pytest.mark.parametrize("key", ["x" * 256, ""])
async def test_an_idempotency_key_has_a_size(api, key):
    answer = await api.post("/browsers", {}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


async def test_concurrent_requests_of_every_kind(api):
    """Many at once on one database: each is answered, and the counts agree."""
    browsers = await asyncio.gather(*(api.rent() for _ in range(10)))
    profiles = await asyncio.gather(*(api.post("/profiles", {"name": str(n)}) for n in range(10)))
    assert {answer.status_code for answer in profiles} == {201}
    await asyncio.gather(
        *(api.stop(browser) for browser in browsers[:5]),
        *(api.get(f"/browsers/{browser['id']}") for browser in browsers),
        *(api.get("/billing/account") for _ in range(10)),
    )
    assert (await api.account())["activeSessionCount"] == 5
    assert uuid.UUID(browsers[0]["id"])


@cases("content", [b"\xff\xfe{", b"{", b"\x00", b'{"name": "\xff"}', b'{"name": "\\ud800"}'])
async def test_a_body_that_is_no_json(api, checked, content):
    headers = {"Content-Type": "application/json"}
    for method, path, template in (
        ("POST", "/profiles", "/profiles"),
        ("PATCH", f"/profiles/{UNKNOWN}", "/profiles/{profile_id}"),
    ):
        answer = await checked(api, method, path, template, content=content, headers=headers)
        assert answer.status_code == 422


async def test_a_fault_of_ours_is_a_plain_500(api):
    async def broken(*_arguments, **_options):
        raise RuntimeError("secret cause")

    api.services.store.account = broken
    transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
    headers = {"X-Browser-Use-API-Key": "key-of-tests"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        answer = await client.get("/api/v2/billing/account")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})


async def test_a_database_that_fails_is_503(api):
    async def broken(*_arguments, **_options):
        raise OperationalError("SELECT secret", {}, Exception("disk full"))

    api.services.store.account = broken
    answer = await api.get("/billing/account")
    assert answer.status_code == 503
    assert "secret" not in answer.text
