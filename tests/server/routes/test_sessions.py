"""Sessions and their public shares; and what browsers and profiles have gained since the reference."""

import asyncio
from datetime import datetime

from tests.cases import cases

UNKNOWN = "00000000-0000-4000-8000-000000000000"
SESSION = "/sessions/{session_id}"


async def test_sessions(api, checked):
    profile = (await api.post("/profiles", {"name": "p"})).json()
    created = (
        await checked(
            api, "POST", "/sessions", json={"profileId": profile["id"], "startUrl": "https://a.test/"}
        )
    ).json()
    assert (created["status"], created["persistMemory"], created["keepAlive"]) == ("active", True, True)
    [spec] = api.hosts.specs
    assert (spec.start_url, str(spec.profile_id)) == ("https://a.test/", profile["id"])
    shown = (await checked(api, "GET", f"/sessions/{created['id']}", SESSION)).json()
    assert shown["tasks"] == []
    assert shown["publicShareUrl"] is None
    assert (await checked(api, "GET", "/sessions?filterBy=active")).json()["items"] == [created]
    browsers = (await checked(api, "GET", f"/browsers?agentSessionId={created['id']}")).json()
    assert [browser["id"] for browser in browsers["items"]] == [created["browserSessionId"]]
    assert browsers["items"][0]["agentSessionId"] == created["id"]
    stopped = (
        await checked(api, "PATCH", f"/sessions/{created['id']}", SESSION, json={"action": "stop"})
    ).json()
    assert (stopped["status"], stopped["endReason"]) == ("stopped", "stopped_by_caller")
    assert datetime.fromisoformat(stopped["finishedAt"]) >= datetime.fromisoformat(stopped["startedAt"])
    again = await checked(api, "PATCH", f"/sessions/{created['id']}", SESSION, json={"action": "stop"})
    assert again.json() == stopped
    assert (await api.get("/sessions?filterBy=active")).json()["totalItems"] == 0
    assert (await api.get("/sessions?filterBy=stopped")).json()["totalItems"] == 1
    assert (await api.entries())[-1][:2] == ("refund", "refund")


async def test_a_session_without_a_body(api, checked):
    assert (await checked(api, "POST", "/sessions")).status_code == 201


async def test_stopping_a_session_stops_its_task(api):
    session = await api.open_session()
    created, run = await api.give(sessionId=session["id"])
    await api.patch(f"/sessions/{session['id']}", {"action": "stop"})
    assert run.calls == ["stop"]
    task = await api.over(created)
    assert (task["status"], task["endReason"]) == ("stopped", "session_stopped")


async def test_stopping_the_browser_of_a_session_stops_the_session(api):
    session = await api.open_session()
    await api.stop({"id": session["browserSessionId"]})
    assert (await api.session(session))["status"] == "stopped"


async def test_sessions_that_never_started_are_not_listed(api, start_failure):
    api.hosts.failure = start_failure
    assert (await api.post("/sessions", {})).status_code == 503
    assert (await api.get("/sessions")).json()["totalItems"] == 0


async def test_pages_of_sessions(api):
    ids = []
    for _ in range(3):
        ids.append((await api.open_session())["id"])
        api.clock.advance(1)
    seen = []
    for number in (1, 2, 3):
        page = (await api.get(f"/sessions?pageSize=1&pageNumber={number}")).json()
        assert page["totalItems"] == 3
        seen += [item["id"] for item in page["items"]]
    assert seen == ids[::-1]


async def test_deleting_a_session(api):
    session = await api.open_session()
    created, run = await api.give(sessionId=session["id"])
    await run.step()
    picture = (await api.task(created))["steps"][0]["screenshotUrl"]
    cut = []

    async def cut_share(token):
        cut.append(token)

    api.services.shares._cut = cut_share
    share = (await api.post(f"/sessions/{session['id']}/public-share")).json()
    answer = await api.request("DELETE", f"/sessions/{session['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert run.calls == ["stop"]
    for path in (f"/sessions/{session['id']}", f"/tasks/{created['id']}"):
        assert (await api.get(path)).status_code == 404
    assert (await api.request("DELETE", f"/sessions/{session['id']}")).status_code == 404
    assert (await api.client.get(picture)).status_code == 404
    assert not run.spec.folder.exists()
    assert cut == [share["shareToken"]]
    browser = (await api.get(f"/browsers/{session['browserSessionId']}")).json()
    assert (browser["status"], browser["agentSessionId"]) == ("stopped", None)  # the ledger knows it


async def test_purging_a_session(api):
    session = await api.open_session()
    created, run = await api.give("my secret task", sessionId=session["id"], metadata={"a": "b"})
    await run.step()
    run.finish("my secret answer", files={"out.txt": b"secret"})
    await api.over(created)
    assert (await api.post(f"/sessions/{session['id']}/purge")).status_code == 204
    task = await api.task(created)
    assert (task["status"], task["steps"], task["outputFiles"], task["metadata"]) == ("finished", [], [], {})
    assert "secret" not in str(task)
    assert not run.spec.folder.exists()
    assert (await api.session(session))["status"] == "stopped"
    assert (await api.post(f"/sessions/{UNKNOWN}/purge")).status_code == 404


async def test_shares(api, checked):
    session = await api.open_session()
    path, template = f"/sessions/{session['id']}/public-share", f"{SESSION}/public-share"
    missing = await checked(api, "GET", path, template)
    assert (missing.status_code, missing.json()) == (404, {"detail": "Public share not found"})
    answers = [await checked(api, "POST", path, template) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    share = answers[0].json()
    assert share["shareUrl"] == f"http://test/share/{share['shareToken']}"
    assert (share["viewCount"], share["lastViewedAt"]) == (0, None)
    assert (await api.session(session))["publicShareUrl"] == share["shareUrl"]
    api.clock.advance(60)
    for _ in range(3):
        viewed = await api.services.store.view_share(share["shareToken"], now=api.wall())
        assert str(viewed) == session["browserSessionId"]
    shown = (await checked(api, "GET", path, template)).json()
    assert (shown["viewCount"], datetime.fromisoformat(shown["lastViewedAt"])) == (3, api.wall())
    for _ in range(2):
        assert (await checked(api, "DELETE", path, template)).status_code == 204
    assert await api.services.store.view_share(share["shareToken"], now=api.wall()) is None
    assert (await checked(api, "GET", path, template)).status_code == 404
    new = (await checked(api, "POST", path, template)).json()
    assert new["shareToken"] != share["shareToken"]
    assert len(new["shareToken"]) >= 32


async def test_many_shares_at_once_are_one(api):
    session = await api.open_session()
    answers = await asyncio.gather(*(api.post(f"/sessions/{session['id']}/public-share") for _ in range(8)))
    assert len({answer.json()["shareToken"] for answer in answers}) == 1
    views = await asyncio.gather(
        *(api.services.store.view_share(answers[0].json()["shareToken"], now=api.wall()) for _ in range(8))
    )
    assert len(set(views)) == 1
    share = (await api.get(f"/sessions/{session['id']}/public-share")).json()
    assert share["viewCount"] == 8


@cases("method", ["GET", "POST", "DELETE"])
async def test_shares_of_no_session(api, checked, method):
    answer = await checked(api, method, f"/sessions/{UNKNOWN}/public-share", f"{SESSION}/public-share")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Session not found"})
    answer = await checked(api, method, "/sessions/x/public-share", f"{SESSION}/public-share")
    assert answer.status_code == 422


@cases(
    ("method", "path", "template", "body", "status"),
    [
        ("GET", "/sessions?pageSize=101", "/sessions", None, 422),
        ("GET", "/sessions?filterBy=asleep", "/sessions", None, 422),
        ("POST", "/sessions", "/sessions", {"profileId": UNKNOWN}, 404),
        ("POST", "/sessions", "/sessions", {"startUrl": "file:///etc/passwd"}, 422),
        ("POST", "/sessions", "/sessions", {"proxyCountryCode": "fr"}, 422),
        ("POST", "/sessions", "/sessions", {"browserScreenHeight": 3457}, 422),
        ("GET", f"/sessions/{UNKNOWN}", SESSION, None, 404),
        ("PATCH", f"/sessions/{UNKNOWN}", SESSION, {"action": "stop"}, 404),
        ("PATCH", f"/sessions/{UNKNOWN}", SESSION, {"action": "pause"}, 422),
    ],
)
async def test_refusals(api, checked, method, path, template, body, status):  # noqa: PLR0917  # a row of the table
    answer = await checked(api, method, path, template, json=body)
    assert answer.status_code == status
    assert api.hosts.starts == 0


async def test_plans_of_projects(make_api):
    async with make_api(plan="paid", plans={"others": "free"}) as api:
        for key, minutes in (("key-of-tests", 240), ("key-of-others", 15)):
            session = await api.open_session(key=key)
            lasts = datetime.fromisoformat(session["timeoutAt"]) - datetime.fromisoformat(
                session["startedAt"]
            )
            assert lasts.total_seconds() == minutes * 60
            asked = await api.post("/browsers", {"timeout": 16}, key=key)
            profiles = [(await api.post("/profiles", {}, key=key)).status_code for _ in range(2)]
            plan = (await api.get("/billing/account", key=key)).json()["planInfo"]["planName"]
            expected = (201, [201, 201], "paid") if minutes == 240 else (403, [201, 402], "free")
            assert (asked.status_code, profiles, plan) == expected


# --- newer than the reference -----------------------------------------------------------------------------------------


async def test_screens_and_proxies_of_the_callers_own(api):
    proxy = {
        "host": "proxy.example",
        "port": 3128,
        "username": "u@x",
        "password": "p:/",
        "ignoreCertErrors": True,
    }
    browser = await api.rent(browserScreenWidth=800, browserScreenHeight=600, customProxy=proxy)
    spec = api.hosts.specs[-1]
    assert (spec.screen, spec.ignore_certificate_errors) == ((800, 600), True)
    assert spec.proxy == "http://u%40x:p%3A%2F@proxy.example:3128"
    assert browser["proxyCountryCode"] is None
    assert "u@x" not in str(browser)
    await api.rent(browserScreenWidth=800, customProxy={"host": "socks5://2606:4700::1111", "port": 1080})
    assert api.hosts.specs[-1].screen == (800, 800)
    assert api.hosts.specs[-1].proxy == "socks5://[2606:4700::1111]:1080"
    for wrong in (
        {"host": "", "port": 1},
        {"host": "a b", "port": 1},
        {"host": "ftp://a", "port": 1},
        {"host": "a"},
    ):
        answer = await api.post("/browsers", {"customProxy": wrong})
        assert answer.status_code == 422
    answer = await api.post("/browsers", {"customProxy": {"host": "a", "port": 1, "password": "geheim"}})
    assert answer.status_code == 422
    assert "geheim" not in answer.text


async def test_metadata_of_browsers(api):
    one = await api.rent(metadata={"team": "a", "run": "1"})
    two = await api.rent(metadata={"team": "a", "run": "2"})
    assert one["metadata"] == {"team": "a", "run": "1"}
    both = (await api.get("/browsers?metadata=team:a")).json()
    assert both["totalItems"] == 2
    found = (await api.get("/browsers", params={"metadata": ["team:a", "run:2"]})).json()
    assert [browser["id"] for browser in found["items"]] == [two["id"]]
    assert (await api.get("/browsers?metadata=team:b")).json()["totalItems"] == 0
    assert (await api.get('/browsers?metadata=te"am:b')).json()["totalItems"] == 0
    assert (await api.get("/browsers?metadata=team")).status_code == 422
    many = {str(number): "label" for number in range(500)}
    assert (await api.rent(metadata=many))["metadata"] == many
    assert (await api.post("/browsers", {"metadata": {"a": "\N{EURO SIGN}" * 5_500}})).status_code == 422


async def test_profiles_by_name(api):
    for name in ("Work", "homework", "play 100%", None):
        await api.post("/profiles", {"name": name})
    found = (await api.get("/profiles?query=WORK")).json()
    assert {profile["name"] for profile in found["items"]} == {"Work", "homework"}
    assert (await api.get("/profiles?query=%25")).json()["totalItems"] == 1
    assert (await api.get("/profiles?query=_")).json()["totalItems"] == 0
