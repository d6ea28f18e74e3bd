"""Lists of hosts in requests and profiles, and bytes by host in answers."""

from cdpbridge.server.proxy import HostLists, HostTraffic
from tests.cases import cases
from tests.server.conftest import OTHER_KEY


async def test_lists_of_an_order_reach_the_machine_and_come_back(api):
    lists = {"allowedHosts": ["*.example.com", "10.0.0.0/8:80"], "deniedHosts": []}
    browser = await api.rent(**lists)
    assert {name: browser[name] for name in lists} == lists | {"deniedHosts": None}
    [spec] = api.hosts.specs
    assert spec.hosts == (HostLists(lists["allowedHosts"]),)
    plain = await api.rent()
    assert (plain["allowedHosts"], plain["deniedHosts"], api.hosts.specs[-1].hosts) == (None, None, ())
    # An empty list is not the same as none: nothing may be reached.
    nothing = await api.rent(allowedHosts=[])
    assert (nothing["allowedHosts"], api.hosts.specs[-1].hosts) == ([], (HostLists([]),))
    for each in (browser, plain, nothing):
        await api.stop(each)


async def test_lists_of_a_session_are_its_browsers(api):
    answer = await api.post("/sessions", {"allowedHosts": ["a.example"], "deniedHosts": ["b.example"]})
    assert answer.status_code == 201, answer.text
    session = answer.json()
    assert api.hosts.specs[-1].hosts == (HostLists(["a.example"], ["b.example"]),)
    browser = (await api.get(f"/browsers/{session['browserSessionId']}")).json()
    assert (browser["allowedHosts"], browser["deniedHosts"]) == (["a.example"], ["b.example"])


@cases("name", ["allowedHosts", "deniedHosts"])
@cases(
    ("value", "why"),
    [
        (["http://example.com"], "is not a host; write example.com"),
        (["10.0.0.1/8"], "did you mean 10.0.0.0/8?"),
        (["x" * 301], "300"),
        (["a"] * 1001, "1000"),
        ("example.com", "list"),
        ([1], "string"),
    ],
)
async def test_what_is_no_list_of_hosts_is_refused_in_words(api, name, value, why):
    for path in ("/browsers", "/sessions", "/profiles"):
        answer = await api.post(path, {name: value})
        assert answer.status_code == 422, path
        [problem] = answer.json()["detail"]
        assert problem["loc"][:2] == ["body", name]
        assert why in problem["msg"]
    assert api.hosts.starts == 0


async def test_a_field_with_a_typing_error_is_no_order_without_limits(api):
    answer = await api.post("/browsers", {"allowedHost": ["example.com"]})
    assert answer.status_code == 422
    assert "allowedHosts" in answer.json()["detail"][0]["msg"]


async def test_lists_of_a_profile(api):
    made = (await api.post("/profiles", {"name": "one", "allowedHosts": ["a.example"]})).json()
    path = f"/profiles/{made['id']}"
    assert (made["allowedHosts"], made["deniedHosts"]) == (["a.example"], None)
    browser = await api.rent(profileId=made["id"], deniedHosts=["b.example"])
    assert browser["allowedHosts"] is None  # its own are shown: of the order
    assert api.hosts.specs[-1].hosts == (HostLists(None, ["b.example"]), HostLists(["a.example"]))
    await api.stop(browser)
    # What is left out stays, and null takes it away.
    changed = (await api.patch(path, {"deniedHosts": ["c.example"]})).json()
    assert (changed["name"], changed["allowedHosts"], changed["deniedHosts"]) == (
        "one",
        ["a.example"],
        ["c.example"],
    )
    changed = (await api.patch(path, {"name": "two", "allowedHosts": None})).json()
    assert (changed["name"], changed["allowedHosts"], changed["deniedHosts"]) == ("two", None, ["c.example"])
    assert (await api.patch(path, {"allowedHosts": ["a b"]})).status_code == 422
    assert (await api.patch(path, {"deniedHosts": []}, key=OTHER_KEY)).status_code == 404
    assert (await api.get(path)).json() == changed


async def test_bytes_by_host_while_it_runs_and_after_its_end(api):
    browser = await api.rent()
    assert browser["hostTraffic"] == []
    api.hosts.by_host = [HostTraffic("a.example", 10, 2000), HostTraffic(None, 1, 2)]
    shown = [
        {"host": "a.example", "bytesSent": 10, "bytesReceived": 2000},
        {"host": None, "bytesSent": 1, "bytesReceived": 2},
    ]
    assert (await api.browser(browser))["hostTraffic"] == shown
    assert (await api.stop(browser))["hostTraffic"] == shown
    api.hosts.by_host = []
    assert (await api.browser(browser))["hostTraffic"] == shown
