"""Nothing of a request is dropped in silence."""

from cdpbridge.api._models import CreateBrowserSessionRequest
from cdpbridge.api._task_models import CreateTaskRequest
from cdpbridge.server.routes._fields import misspelling, unknown_fields
from tests.cases import cases

HEADER = "X-Cdpbridge-Ignored-Fields"
KNOWN = ("profileId", "proxyCountryCode", "timeout", "llm", "task")


@cases(
    ("name", "meant"),
    [
        ("profileID", "profileId"),
        ("profile_id", "profileId"),
        ("ProfileId", "profileId"),
        ("profileld", "profileId"),
        ("porfileId", "profileId"),
        ("proxyContryCode", "proxyCountryCode"),
        ("proxy-country-code", "proxyCountryCode"),
        ("time_out", "timeout"),
        ("timeuot", "timeout"),
        ("llms", "llm"),
        ("LLM", "llm"),
        ("tasks", "task"),
        ("name", None),
        ("mode", None),
        ("extensionIds", None),
        ("", None),
        ("ll", None),
        ("x" * 100_000, None),
        ("\ud800", None),
    ],
)
def test_what_looks_like_a_misspelling(name, meant):
    assert misspelling(name, KNOWN) == meant


def test_names_of_the_newer_cloud_are_no_misspellings_of_each_other():
    for model in (CreateBrowserSessionRequest, CreateTaskRequest):
        names = [field.alias for field in model.model_fields.values()]
        assert list(unknown_fields(model, dict.fromkeys(names))) == []
        for name in names:
            others = [other for other in names if other != name]
            assert misspelling(name, others) is None, name


@cases(
    ("path", "body", "named"),
    [
        ("/browsers", {"extensionIds": [], "solveCaptchas": True}, ["extensionIds", "solveCaptchas"]),
        ("/browsers", {"allowResizing": False, "pdfRendererEnabled": True, "mood": 1}, None),
        (
            "/browsers",
            {"customProxy": {"host": "proxy.example.com", "port": 9, "region": "x"}},
            ["customProxy.region"],
        ),
        (
            "/browsers",
            {"customProxy": {"host": "proxy.example.com", "port": 9}, "proxyCountryCode": "de"},
            ["proxyCountryCode"],
        ),
        ("/sessions", {"task": "look", "metadata": {}}, ["task", "metadata"]),
        ("/tasks", {"task": "x", "skillIds": [], "thinkingLevel": "high"}, None),
        ("/tasks", {"task": "x", "sessionSettings": {"metadata": {}, "weather": 1}}, None),
        ("/tasks?mood=1", {"task": "x"}, ["mood"]),
        ("/browsers", {"säule\n": 1}, ["säule\n"]),
    ],
)
async def test_fields_without_effect_are_named_in_header_and_record(api, path, body, named):
    from urllib.parse import unquote

    if named is None:
        inner = body.get("sessionSettings")
        named = (
            [f"sessionSettings.{name}" for name in inner]
            if inner
            else [name for name in body if name != "task"]
        )
    answer = await api.post(path, body)
    assert answer.status_code in {201, 202}, answer.text
    assert [unquote(name) for name in answer.headers[HEADER].split(", ")] == named
    made = answer.json()
    record = await api.task(made) if path.startswith("/tasks") else made
    assert record["ignoredFields"] == named
    if any(name.startswith("sessionSettings.") for name in named):
        session = await api.session({"id": made["sessionId"]})
        assert session["ignoredFields"] == [name.removeprefix("sessionSettings.") for name in named]


async def test_a_session_of_its_own_takes_no_settings(api):
    session = await api.open_session()
    answer = await api.post(
        "/tasks", {"task": "x", "sessionId": session["id"], "sessionSettings": {"enableRecording": False}}
    )
    assert answer.headers[HEADER] == "sessionSettings"
    assert (await api.task(answer.json()))["ignoredFields"] == ["sessionSettings"]
    assert (await api.session(session))["ignoredFields"] == []


async def test_requests_without_such_fields_have_no_header(api):
    browser = await api.post("/browsers", {"timeout": 5})
    assert HEADER not in browser.headers
    assert browser.json()["ignoredFields"] == []
    assert HEADER not in (await api.get("/browsers?pageSize=5&filterBy=active")).headers


async def test_other_requests_name_them_in_the_header(api):
    browser = await api.rent()
    session = await api.open_session()
    for method, path, body, named in (
        ("GET", "/browsers?sort=up", None, "sort"),
        ("PATCH", f"/browsers/{browser['id']}", {"action": "stop", "reason": "tired"}, "reason"),
        ("POST", "/profiles", {"name": "x", "userId": "u"}, "userId"),
        ("POST", f"/sessions/{session['id']}/public-share", {"password": "x"}, "password"),
        ("DELETE", f"/sessions/{session['id']}/public-share?force=1", None, "force"),
    ):
        answer = await api.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        assert answer.headers[HEADER] == named


@cases(
    ("method", "path", "body", "loc", "right"),
    [
        ("POST", "/browsers", {"profileID": "nonsense"}, ["body", "profileID"], "profileId"),
        ("POST", "/browsers", {"profile_id": None}, ["body", "profile_id"], "profileId"),
        ("POST", "/browsers", {"proxyCountry_code": "de"}, ["body", "proxyCountry_code"], "proxyCountryCode"),
        ("POST", "/browsers", {"solve_captchas": True}, ["body", "solve_captchas"], "solveCaptchas"),
        ("POST", "/sessions", {"startURL": "x"}, ["body", "startURL"], "startUrl"),
        ("POST", "/tasks", {"task": "x", "maxStep": 1}, ["body", "maxStep"], "maxSteps"),
        ("POST", "/tasks", {"Task": "x"}, ["body", "Task"], "task"),
        (
            "POST",
            "/tasks",
            {"task": "x", "sessionSettings": {"profileid": None}},
            ["body", "sessionSettings", "profileid"],
            "profileId",
        ),
        (
            "POST",
            "/browsers",
            {"customProxy": {"host": "h", "port": 1, "user_name": "u"}},
            ["body", "customProxy", "user_name"],
            "username",
        ),
        ("GET", "/browsers?page_size=5", None, ["query", "page_size"], "pageSize"),
        ("GET", "/tasks?sessionID=x", None, ["query", "sessionID"], "sessionId"),
        ("POST", "/profiles", {"Name": "x"}, ["body", "Name"], "name"),
    ],
)
async def test_misspelt_fields_are_refused_with_the_right_name(
    api, checked, *, method, path, body, loc, right
):
    answer = await checked(api, method, path, json=body)
    assert answer.status_code == 422
    [problem] = answer.json()["detail"]
    assert problem["loc"] == loc
    assert repr(right) in problem["msg"]
    assert api.hosts.starts == 0


async def test_strict_fields_refuse_what_has_no_effect(make_api):
    async with make_api(strict_fields=True) as api:
        custom = {"host": "proxy.example.com", "port": 9}
        for path, body, name in (
            ("/browsers", {"extensionIds": []}, "extensionIds"),
            ("/browsers?mood=1", {}, "mood"),
            ("/browsers", {"customProxy": custom, "proxyCountryCode": "de"}, "proxyCountryCode"),
            ("/tasks", {"task": "x", "sessionSettings": {"weather": 1}}, "weather"),
        ):
            answer = await api.post(path, body)
            assert answer.status_code == 422, answer.text
            assert answer.json()["detail"][0]["loc"][-1] == name
        assert api.hosts.starts == 0
        assert (await api.post("/browsers", {"timeout": 5})).status_code == 201


async def test_a_long_list_of_names_is_cut(api):
    answer = await api.post("/browsers", {f"zz{number:03}{'y' * 200}": 1 for number in range(80)})
    assert answer.status_code == 201
    assert len(answer.json()["ignoredFields"]) == 51
    assert answer.json()["ignoredFields"][-1] == "(30 more)"
    assert len(answer.headers[HEADER]) < 8000


@cases("content", [b"{broken", b"[1]", b'"text"', b"null", b"\xff", b"[" * 50_000])
async def test_bodies_that_are_no_objects_are_refused_as_before(api, content):
    answer = await api.request(
        "POST", "/tasks", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
