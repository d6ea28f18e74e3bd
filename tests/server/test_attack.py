"""The attacks that an operator runs: nothing gets through where browsers are isolated, and much where they are not."""

import json
import subprocess
import sys

import pytest

from cdpbridge import at
from cdpbridge.attack import attack
from cdpbridge.attack._network import _BLIND
from cdpbridge.errors import ConfigurationError
from tests import programs
from tests.conftest import clean_environment, until
from tests.isolation.kernel import needs_isolation
from tests.server.conftest import KEY, OTHER_KEY

pytestmark = pytest.mark.chromium

TWO = {"api_keys": {"tests": KEY, "others": OTHER_KEY}}


def outcomes(report):
    return {each.attack: (each.outcome, each.detail) for each in report.findings}


@pytest.mark.one_build("whose browsers they are")
async def test_a_killed_attack_leaves_no_browser_rented(spawn_server, tmp_path):
    async with spawn_server() as server:
        address = str(server.http.base_url).rstrip("/")
        command = [sys.executable, "-m", "cdpbridge", "doctor", "--attack", address]
        environment = clean_environment() | {"BROWSER_USE_API_KEY": KEY, "HOME": str(tmp_path)}

        async def active(client):
            return [each async for each in client.browsers.list() if each.status == "active"]

        async def attacking(client):
            return len(await active(client)) >= 2

        async def over(client):
            return not await active(client)

        async with at(address, KEY) as client:
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as program:
                try:
                    await until(lambda: attacking(client))
                finally:
                    program.kill()
            await until(lambda: over(client))


QUICK = ("programs", "projects")
ALL = ("files", "network", *QUICK)
# A minute and more: each of 200 attacks waits for what may still come.
SLOW = [pytest.mark.slow, pytest.mark.timeout(500)]


@needs_isolation
@pytest.mark.parametrize(
    ("build", "areas"),
    [("shell", QUICK), pytest.param("shell", ALL, marks=SLOW), pytest.param("full", ALL, marks=SLOW)],
)
async def test_nothing_gets_through_where_browsers_are_isolated(make_server, build, areas):
    """Rows D1 to D8 and the borders between projects, as a customer would try them."""
    async with make_server(browser_build=build, isolation="require", **TWO) as server:
        address = str(server.http.base_url).rstrip("/")
        async with at(address, KEY) as client, at(address, OTHER_KEY) as other:
            report = await attack(client, other=other, paths=[str(server.data_dir)], areas=areas)
            left = [each async for each in client.browsers.list() if each.status == "active"]
            left += [each async for each in other.browsers.list() if each.status == "active"]
    assert report.through == []
    assert left == []
    assert report.isolation.startswith("on")
    found = outcomes(report)
    assert len(found) == len(report.findings) > (150 if "network" in areas else 20)
    # Each way was open as far as the border: nothing failed for want of a page, a port or a neighbour.
    untried = {name: detail for name, (outcome, detail) in found.items() if outcome == "untried"}
    assert untried.pop("signals, ptrace and shared memory of other processes")
    if build == "shell":
        assert untried.pop("execute a program by an extension and native messaging")
    # Names need the internet, and a service worker a site there.
    assert all("the name " in name or ".internal" in name or "service worker" in name for name in untried), (
        untried
    )


@pytest.mark.one_build("what gets through does not depend on the build; both are tried in their places above")
@pytest.mark.parametrize("areas", [("files",), pytest.param(ALL, marks=SLOW)])
async def test_what_gets_through_where_they_are_not(make_server, areas):
    """The control of the test above: the same attacks see what they are after."""
    async with make_server(isolation="none") as server:
        address = str(server.http.base_url).rstrip("/")
        seen = []
        async with at(address, KEY) as client:
            report = await attack(client, areas=areas, on_finding=seen.append)
            with pytest.raises(ConfigurationError, match="nothing to attack called money"):
                await attack(client, areas=["money"])
    assert sorted(seen, key=str) == sorted(report.findings, key=str)
    found = outcomes(report)
    for name in (
        "read /etc/passwd",
        "Browser.setDownloadBehavior to /var/tmp",
        "Page.setDownloadBehavior to /var/tmp",
    ):
        assert found[name][0] == "through", (name, found[name])
    if "network" in areas:
        way = "in a context with direct://, made by a page (Target.exposeDevToolsProtocol)"
        for name in (f"the server's own port, {way}", f"past allowedHosts: {way}"):
            assert found[name][0] == "through", (name, found[name])
        # One project on loopback: pages reach its services, as the settings say; so each of these ways is one.
        allowed = {name.rpartition(" by ")[2] for name, (outcome, _) in found.items() if outcome == "allowed"}
        assert set(_BLIND) <= allowed


@pytest.mark.one_build("the command line does not see the build")
def test_the_command_prints_a_table_and_fails_when_something_got_through(server):
    """Bounded by `--seconds`: what is left then is said to be untried."""
    base, key = server.base_url, server.key
    environment = clean_environment(BROWSER_USE_API_KEY=key, COLUMNS="200")

    def doctor(*arguments):
        command = [sys.executable, "-m", "cdpbridge", "doctor", *arguments]
        return programs.run(
            command, env=environment, capture_output=True, text=True, timeout=280, check=False
        )

    done = doctor("--attack", base, "--seconds", "10", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["counts"]["through"] else 0), done.stderr
    assert key not in done.stdout + done.stderr
    assert {each["area"] for each in report["findings"]} == {"files", "programs", "network", "projects"}
    late = [each for each in report["findings"] if each["detail"] == "the time for all attacks was over"]
    assert late, report["counts"]
    assert all(each["outcome"] == "untried" for each in late)
    for arguments in (
        ["--path", "/srv"],
        ["--attack", base, "--all"],
        ["--attack", base, "--provider", base],
    ):
        assert doctor(*arguments).returncode == 2
