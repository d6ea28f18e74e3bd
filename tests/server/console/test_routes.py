"""The console's addresses, and the cookie that stands for a key."""

import json

import pytest

from cdpbridge.server._app import snapshots_of
from tests.cases import cases

ROOT = "http://test"
KEY, OTHER_KEY = "key-of-tests", "key-of-others"
PROOF = "X-Cdpbridge-Console"


async def signed_in(api, key=KEY):
    """Sign in as the page does: with a cookie, and a proof in a header from then on."""
    answer = await api.client.post(f"{ROOT}/console/sign-in", json={"key": key})
    assert answer.status_code == 200, answer.text
    api.client.headers[PROOF] = answer.json()["proof"]
    return answer


async def test_the_page_loads_nothing_from_elsewhere(api):
    page = await api.client.get(f"{ROOT}/")
    assert page.status_code == 200
    assert '<base href="http://test/">' in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    for name in ("app.js", "console.css", "icon.svg", "views/browsers.js"):
        answer = await api.client.get(f"{ROOT}/console/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        for word in ("http:", "https:"):
            assert word not in answer.text.replace("http://www.w3.org/2000/svg", "").replace(
                "https://example.com", ""
            )


@cases("path", ["nothing.js", "../_routes.py", "%2e%2e/_routes.py", "index.html", "views", ""])
async def test_only_its_own_files_are_served(api, path):
    assert (await api.client.get(f"{ROOT}/console/static/{path}")).status_code == 404


async def test_behind_a_prefix_everything_stays_below_it(make_api):
    async with make_api(public_url="https://browsers.example.com/pool") as api:
        assert '<base href="https://browsers.example.com/pool/">' in (await api.client.get(f"{ROOT}/")).text
        cookie = (await signed_in(api)).headers["set-cookie"]
        assert cookie.startswith(
            "__Host-cdpbridge_console_"
        )  # a browser takes it from https, and for "/", alone
        assert "Path=/;" in cookie
        assert "Secure" in cookie


async def test_a_key_is_exchanged_for_a_cookie_that_scripts_cannot_read(api):
    cookie = (await signed_in(api)).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # over plain HTTP it would be lost
    assert KEY not in cookie


@cases("key", ["", "nobody's", "\udc80", "x" * 1001])
async def test_a_wrong_key(api, key):
    body = json.dumps({"key": key})
    answer = await api.client.post(
        f"{ROOT}/console/sign-in", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {401, 422}
    assert "set-cookie" not in answer.headers
    if len(key) > 1:
        assert key.encode("utf-8", "replace").decode()[:500] not in answer.text


async def test_the_cookie_opens_the_api_to_the_page_and_to_no_other(api):
    account = "http://test/api/v2/billing/account"
    assert (await api.client.get(account, headers={PROOF: "1"})).status_code == 401
    await signed_in(api)
    assert (await api.client.get(account)).status_code == 200
    proof = api.client.headers.pop(PROOF)
    # A form of another site sends the cookie of an old browser along, and no header of its own.
    assert (await api.client.get(account)).status_code == 401
    assert (await api.client.get(account, params={"proof": proof})).status_code == 401
    assert (await api.client.post("http://test/api/v2/browsers", json={})).status_code == 401


async def test_fault_d13_the_cookie_alone_opens_nothing(api):
    """Cookies know no port: a server on another port of this host is sent it, and the proof is not."""
    await signed_in(api)
    browser = await api.rent()
    proof = api.client.headers.pop(PROOF)
    paths = [
        "/console/events",
        "/console/ledger",
        "/console/files",
        f"/console/thumbnails/{browser['id']}",
        f"/console/files/browsers/{browser['id']}/uploads/x",
        f"/console/files/tasks/{browser['id']}/{browser['id']}",
        "/api/v2/browsers",
    ]
    for given in ({}, {PROOF: "1"}, {PROOF: proof[:-1]}):
        for path in paths:
            assert (await api.client.get(f"{ROOT}{path}", headers=given)).status_code == 401, (path, given)
    assert (await api.client.get(f"{ROOT}/console/ledger", params={"proof": proof})).status_code == 200


@pytest.mark.parametrize("proof", [None, "", "1", "of another sign-in"])
async def test_fault_d13_signing_out_needs_its_proof(api, proof):
    await signed_in(api, OTHER_KEY)
    others = api.client.headers.pop(PROOF)
    api.client.cookies.clear()
    await signed_in(api)
    mine = api.client.headers.pop(PROOF)
    given = {} if proof is None else {PROOF: others if proof.startswith("of") else proof}
    refused = await api.client.post(f"{ROOT}/console/sign-out", headers=given)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    assert (await api.client.get(f"{ROOT}/console/ledger", headers={PROOF: mine})).status_code == 200


async def test_signing_out_ends_it_on_the_server_too(api):
    cookie = (await signed_in(api)).cookies["cdpbridge_console"]
    assert (await api.client.get("http://test/api/v2/billing/account")).status_code == 200
    await api.client.post(f"{ROOT}/console/sign-out", json={})
    api.client.cookies.clear()
    api.client.cookies.set("cdpbridge_console", cookie)
    assert (await api.client.get("http://test/api/v2/billing/account")).status_code == 401
    assert (await api.client.get(f"{ROOT}/console/events")).status_code == 401


async def test_a_key_that_is_given_wins_over_the_cookie(api):
    await signed_in(api, OTHER_KEY)
    mine = await api.get("/billing/account")
    assert mine.json()["name"] == "tests"


async def test_the_state_of_a_project_is_its_own_and_holds_no_address(api):
    browser = await api.rent(timeout=60, proxyCountryCode=None)
    api.clock.advance(90)
    ended = await api.rent()
    await api.stop(ended)
    await api.post("/profiles", {"name": "work"})
    project = await api.services.store.project_of(KEY)
    other = await api.services.store.project_of(OTHER_KEY)
    snapshots = snapshots_of(api.app)
    found = await snapshots.of(project)
    states = {each["id"]: each["state"] for each in found["browsers"]}
    assert states == {browser["id"]: "active", ended["id"]: "stopped"}
    assert found["account"]["active"] == 1
    assert [profile["name"] for profile in found["profiles"]] == ["work"]
    assert browser["cdpUrl"].rsplit("/", 1)[1] not in json.dumps(found)
    nothing = await snapshots.of(other)
    assert (nothing["browsers"], nothing["profiles"], nothing["account"]["active"]) == ([], [], 0)


async def test_cost_per_day_is_the_ledgers(api):
    browser = await api.rent(timeout=240)
    api.clock.advance(30 * 60)
    await api.stop(browser)
    api.clock.advance(24 * 3600)
    await api.rent(timeout=240)
    project = await api.services.store.project_of(KEY)
    days = (await snapshots_of(api.app).of(project))["days"]
    assert len(days) == 30
    assert [day["day"] for day in days] == sorted(day["day"] for day in days)
    assert days[-2] == {"day": "2026-11-02", "chargedUsd": "0.05", "refundedUsd": "0.025"}
    assert days[-1] == {"day": "2026-11-03", "chargedUsd": "0.05", "refundedUsd": "0"}
    assert all(day["chargedUsd"] in {"0", "-0"} for day in days[:-2])


async def test_the_ledger_tells_what_each_entry_was_for_and_what_was_left(api):
    await signed_in(api)
    browser = await api.rent(timeout=240)
    api.clock.advance(30 * 60)
    await api.stop(browser)
    found = (await api.client.get(f"{ROOT}/console/ledger")).json()
    assert found["total"] == 3
    entries = [
        (entry["kind"], entry["entry"], entry["amountUsd"], entry["balanceUsd"], entry["browserId"])
        for entry in found["entries"]
    ]
    assert entries == [
        ("refund", "refund", "0.025", "99.975", browser["id"]),
        ("charge", "hour 1", "-0.05", "99.95", browser["id"]),
        ("grant", "start", "100", "100", None),
    ]
    newest = (await api.client.get(f"{ROOT}/console/ledger?limit=1")).json()
    assert (newest["entries"], newest["total"]) == (found["entries"][:1], 3)
    await signed_in(api, OTHER_KEY)
    [mine] = (await api.client.get(f"{ROOT}/console/ledger")).json()["entries"]
    assert (mine["kind"], mine["browserId"]) == ("grant", None)
    api.client.cookies.clear()
    assert (await api.client.get(f"{ROOT}/console/ledger")).status_code == 401
