"""The introduction and the quickstart of the document."""

import httpx

from .conftest import ADMIN, FREE, HEADER


def test_one_browser_per_session(api):
    """Line 13: a session has one browser, open as long as the session."""
    session = api.session()
    found = api.http.get("/browsers", params={"agentSessionId": session["id"]}).json()["items"]
    assert [browser["id"] for browser in found] == [session["browserSessionId"]]
    assert found[0]["timeoutAt"] == session["timeoutAt"]
    api.stop_session(session)
    assert api.http.get(f"/browsers/{found[0]['id']}").json()["status"] == "stopped"


def test_one_agent_at_a_time(api):
    """Line 13: a session runs one agent at a time, and another one after that."""
    session = api.session()
    waiting = api.call("POST", "/tasks", {"task": "Wait", "sessionId": session["id"]}, status=202)
    refused = api.call("POST", "/tasks", {"task": "More", "sessionId": session["id"]}, status=400)
    assert "already has a running task" in refused["detail"]
    api.call("PATCH", "/tasks/{task_id}", {"action": "stop"}, status=200, task_id=waiting["id"])
    assert api.done(sessionId=session["id"])["isSuccess"] is True


def test_a_browser_has_an_address_to_drive_it(api):
    """Line 14: a browser is driven through its CDP address by any program."""
    browser = api.browser()
    assert browser["cdpUrl"].startswith("http")
    assert api.stop_browser(browser)["cdpUrl"] is None


def test_steps_and_result(api):
    """Line 15: an agent works in steps, each with a picture of the page, and ends with text, files and a verdict."""
    task = api.done()
    assert [step["number"] for step in task["steps"]] == [1, 2]
    assert httpx.get(task["steps"][0]["screenshotUrl"]).headers["content-type"] == "image/png"
    assert task["output"].startswith("did 'Look around'")
    assert [file["fileName"] for file in task["outputFiles"]] == ["answer.txt"]
    assert task["isSuccess"] is True


def test_a_judge_is_asked_by_default(api):
    """Line 15: a judge gives its verdict after completion, unless the request says no."""
    api.done()
    assert api.background.agents.run.spec.judge is True
    api.done(judge=False)
    assert api.background.agents.run.spec.judge is False


def test_the_session_stays_open_after_its_task(api):
    """Line 43: by default the session is open when its task is done."""
    task = api.done()
    session = api.call("GET", "/sessions/{session_id}", status=200, session_id=task["sessionId"])
    assert (session["status"], session["liveUrl"] is not None) == ("active", True)


def test_credits_and_keys(api):
    """Line 22: keys are generated and credits added, while the server runs."""
    other = api.small_project("line 22", creditsUsd="0.05")
    assert other.call("GET", "/billing/account", status=200)["totalCreditsBalanceUsd"] == 0.05
    other.browser()
    other.call("GET", "/browsers", status=200)
    assert other.http.post("/browsers", json={}).status_code == 402
    project = other.call("GET", "/billing/account", status=200)["projectId"]
    root = api.base_url.removesuffix("/api/v2")
    granted = httpx.post(
        f"{root}/admin/v1/projects/{project}/credits", json={"amountUsd": "1"}, headers={HEADER: ADMIN}
    )
    assert granted.status_code == 201
    for browser in other.call("GET", "/browsers", status=200)["items"]:
        other.stop_browser(browser)
    other.browser()
    for browser in other.call("GET", "/browsers", status=200, params={"filterBy": "active"})["items"]:
        other.stop_browser(browser)


def test_starter_credits(free):
    """Line 22: an account begins with credits."""
    assert free.call("GET", "/billing/account", status=200)["totalCreditsBalanceUsd"] > 0


def test_first_task(api):
    """Lines 28-36: the first task's answer has an id and a session."""
    created = api.call("POST", "/tasks", {"task": "Search for the top Hacker News post"}, status=202)
    assert set(created) == {"id", "sessionId"}
    api.over(created["id"])


def test_live_url_of_the_session(api):
    """Lines 37-42: the session has an address to watch it."""
    created = api.call("POST", "/tasks", {"task": "Wait"}, status=202)
    session = api.call("GET", "/sessions/{session_id}", status=200, session_id=created["sessionId"])
    assert session["status"] == "active"
    page = httpx.get(session["liveUrl"])
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]


def test_a_key_is_needed(api):
    """Line 83: the key travels in a header; without it nothing is answered."""
    for method, template in api.contract.operations:
        path = template.replace("{", "").replace("}", "")
        for key in ("", "unknown-key"):
            answer = api.http.request(method, path, headers={HEADER: key})
            assert answer.status_code == 401
            api.contract.check_problem(answer)


def test_projects_see_their_own(api, free):
    """Line 8: what is used is attributed to the key's project."""
    before = free.call("GET", "/billing/account", status=200)
    browser = api.browser()
    free.call("GET", "/browsers/{session_id}", status=404, session_id=browser["id"])
    assert free.key == FREE
    assert free.call("GET", "/billing/account", status=200) == before


def test_fields_without_effect_are_named(api):
    """All: a field that the server does not act on is named, and a misspelt one refused."""
    browser = api.browser(extensionIds=[], timeout=5)
    assert browser["ignoredFields"] == ["extensionIds"]
    api.refused("POST", "/browsers", {"profileID": None}, "profileID")
