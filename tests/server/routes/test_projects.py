"""Two projects never see each other's objects, on any route there is or will be."""

import asyncio
import re

import pytest
from fastapi.routing import APIRoute

from tests.server.conftest import HEADER, OTHER_KEY

UNKNOWN = "00000000-0000-4000-8000-000000000000"

# Pages and states that all may see, and addresses that are a secret themselves.
KEY_FREE = re.compile(
    r"^/($|openapi\.json$|profile\.sh$|healthz$|readyz$|metrics$|pressure$|console/static/|console/sign-|cdp/|files(/|$)|live/|share/|internal/workers$)"
)
# Bodies that are right, so that nothing is refused before the project is looked at.
BODIES = {
    ("PATCH", "/browsers/{session_id}"): {"action": "stop"},
    ("PATCH", "/sessions/{session_id}"): {"action": "stop"},
    ("PATCH", "/tasks/{task_id}"): {"action": "stop_task_and_session"},
    ("PATCH", "/profiles/{profile_id}"): {"name": "theirs"},
    ("POST", "/files/sessions/{session_id}/presigned-url"): None,
    ("POST", "/files/browsers/{session_id}/presigned-url"): None,
}
UPLOAD = {"fileName": "a.txt", "contentType": "text/plain", "sizeBytes": 1}


def routes(app):
    """Every method and path template below the API's base."""
    found = []
    for path, methods in app.openapi()["paths"].items():
        found += [(method.upper(), path) for method in methods if path.startswith("/api/v2")]
    return found


async def objects(api):
    """One of each, of the first project: ids by the name of the parameter and the beginning of the path."""
    profile = (await api.post("/profiles", {"name": "mine"})).json()
    browser = await api.rent(metadata={"of": "mine"})
    session = await api.open_session()
    done, run = await api.give(sessionId=session["id"])
    await run.step()
    run.finish(files={"mine.txt": b"mine"})
    await api.over(done)
    await api.give(sessionId=session["id"])
    file = (await api.task(done))["outputFiles"][0]
    await api.post(f"/sessions/{session['id']}/public-share")
    return {
        "profile": profile["id"],
        "browser": browser["id"],
        "session": session["id"],
        "task": done["id"],
        "file": file["id"],
    }


def address(path, ids):
    path = path.removeprefix("/api/v2")
    session = "browser" if "/browsers/" in path else "session"
    for name, kind in {
        "session_id": session,
        "task_id": "task",
        "file_id": "file",
        "profile_id": "profile",
    }.items():
        path = path.replace(f"{{{name}}}", ids[kind])
    assert "{" not in path, f"{path} has a parameter that this test does not know: teach it"
    return path


async def snapshot(api, ids):
    shown = [
        await api.get(path)
        for path in (
            f"/browsers/{ids['browser']}",
            f"/sessions/{ids['session']}",
            f"/profiles/{ids['profile']}",
            f"/tasks/{ids['task']}/status",
            "/billing/account",
            "/tasks",
        )
    ]
    assert {answer.status_code for answer in shown} == {200}
    return [answer.json() for answer in shown]


async def test_every_operation_across_projects(api):
    ids = await objects(api)
    before = await snapshot(api, ids)
    tried = 0
    for method, template in routes(api.app):
        path = address(template, ids)
        body = BODIES.get((method, template.removeprefix("/api/v2")), {})
        options = {"json": UPLOAD if body is None else body} if method in {"POST", "PATCH", "PUT"} else {}
        answer = await api.request(method, path, key="key-of-others", **options)
        if "{" in template:
            tried += 1
            if (method, template) == ("DELETE", "/api/v2/profiles/{profile_id}"):
                assert answer.status_code == 204  # the reference has no 404 there
            else:
                assert answer.status_code == 404, f"{method} {template}: {answer.status_code} {answer.text}"
        text = answer.text.replace(path, "")
        assert not [kind for kind, value in ids.items() if value in text], f"{method} {template}: {text}"
        assert "mine" not in text, f"{method} {template}"
    assert tried >= 20
    assert await snapshot(api, ids) == before
    assert api.agents.runs[1].calls == []


async def test_ids_of_others_in_bodies_and_filters(api):
    ids = await objects(api)
    other = {"key": "key-of-others"}
    for path, body, text in (
        ("/browsers", {"profileId": ids["profile"]}, "Profile not found"),
        ("/sessions", {"profileId": ids["profile"]}, "Profile not found"),
        ("/tasks", {"task": "x", "sessionId": ids["session"]}, "Session not found"),
        ("/tasks", {"task": "x", "sessionSettings": {"profileId": ids["profile"]}}, "Profile not found"),
    ):
        answer = await api.post(path, body, **other)
        assert (answer.status_code, answer.json()) == (404, {"detail": text})
    for path in (
        f"/tasks?sessionId={ids['session']}",
        f"/browsers?agentSessionId={ids['session']}",
        "/browsers?metadata=of:mine",
        "/profiles?query=mine",
        "/sessions",
    ):
        assert (await api.get(path, **other)).json()["totalItems"] == 0
    own = (await api.post("/tasks", {"task": "x"}, **other)).json()
    answer = await api.get(f"/files/tasks/{own['id']}/output-files/{ids['file']}", **other)
    assert answer.status_code == 404


async def test_every_route_wants_a_key(api):
    ids = dict.fromkeys(("profile", "browser", "session", "task", "file"), "x")
    for method, template in routes(api.app):
        path = address(template, ids)
        for key in ("", "wrong-key-1"):
            answer = await api.request(method, path, key=key, content=b"{broken")
            assert answer.status_code == 401, f"{method} {template}"
    others = [
        route
        for route in api.app.routes
        if isinstance(route, APIRoute) and not route.path.startswith("/api/v2/")
    ]
    assert {"/", "/cdp/{token}", "/live/{token}", "/admin/v1/keys"} <= {route.path for route in others}
    for route in others:  # whatever is outside of the API is known here
        if not KEY_FREE.match(route.path):
            path = re.sub(r"\{\w+\}", UNKNOWN, route.path.replace("{folder}", "downloads"))
            for method in route.methods:
                for headers in ({}, {HEADER: "wrong-key-1"}):
                    answer = await api.client.request(method, f"http://test{path}", headers=headers)
                    assert answer.status_code == 401, f"{method} {route.path}"


@pytest.mark.parametrize(("plan", "text"), [("paid", "max_profiles"), ("free", "Subscription required")])
async def test_the_number_of_profiles_has_a_limit(make_api, contract, plan, text):
    limit = 3 if plan == "paid" else 1
    async with make_api(max_profiles=3, plan=plan) as api:
        answers = await asyncio.gather(*(api.post("/profiles", {"name": str(n)}) for n in range(8)))
        for answer in answers:
            contract.check("POST", "/profiles", answer)
        assert sorted(answer.status_code for answer in answers) == [201] * limit + [402] * (8 - limit)
        assert all(text in answer.json()["detail"] for answer in answers if answer.status_code == 402)
        assert (await api.post("/profiles", {}, key=OTHER_KEY)).status_code == 201
        [profile, *_] = (await api.get("/profiles")).json()["items"]
        await api.request("DELETE", f"/profiles/{profile['id']}")
        assert (await api.post("/profiles", {})).status_code == 201
