"""Shares of the processors between projects: who goes behind, by what was used; and a real browser that does."""

import asyncio
import sys
from uuid import UUID, uuid4

import pytest

from cdpbridge.cdp import connect
from cdpbridge.server.hosts._cgroups import Cgroup, CgroupPool, find_cgroups
from cdpbridge.server.hosts._shares import ProcessorShares, Use, heavy
from tests.conftest import until
from tests.isolation.kernel import needs_isolation

FOUND = find_cgroups() if sys.platform == "linux" else "no Linux"
GOOD, BAD, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)


def used(**by_project):
    """Uses of browsers, by the name of their project."""
    ids = {"good": GOOD, "bad": BAD, "other": OTHER}
    return [
        Use(UUID(int=100 * ids[name].int + number), ids[name], processors)
        for name, own in by_project.items()
        for number, processors in enumerate(own)
    ]


def behind(uses, **given):
    return [(each.project, each.processors) for each in uses if each.browser in heavy(uses, **given)]


def test_a_project_that_uses_much_goes_behind_one_that_uses_little():
    uses = used(bad=[1.4], good=[0.2])
    assert behind(uses, projects=2, processors=2) == [(BAD, 1.4)]


def test_a_project_alone_has_the_whole_machine():
    assert behind(used(bad=[2.0, 2.0]), projects=1, processors=2) == []


def test_a_project_whose_first_browser_is_being_started_counts():
    assert behind(used(bad=[2.0]), projects=2, processors=2) == [(BAD, 2.0)]


def test_many_browsers_of_one_project_are_one_users():
    uses = used(bad=[0.1] * 20, good=[0.4])
    found = behind(uses, projects=2, processors=2)
    assert {project for project, _ in found} == {BAD}
    assert len(found) == 15  # what is left uses half of a processor


def test_of_a_project_those_that_use_most_go_behind():
    uses = used(bad=[0.05, 1.5, 0.1], good=[0.0])
    assert behind(uses, projects=2, processors=2) == [(BAD, 1.5)]


@pytest.mark.parametrize("processors", [1, 2, 64])
def test_what_stays_in_front_leaves_half_of_the_machine(processors):
    uses = used(bad=[processors] * 3, good=[processors / 7] * 4, other=[processors / 3])
    back = heavy(uses, projects=3, processors=processors)
    front = sum(use.processors for use in uses if use.browser not in back)
    assert front <= processors / 2 + 1e-9


class Browser:
    """A browser of a folder that looks as a group of version 2."""

    def __init__(self, folder, project):
        self.id, self.project_id = uuid4(), project
        self.folder = folder / str(self.id)
        self.folder.mkdir()
        self.cgroup = Cgroup(2, {"cpu": self.folder})
        (self.folder / "cpu.idle").write_text("0")
        self.uses(0)

    def uses(self, seconds):
        (self.folder / "cpu.stat").write_text(f"usage_usec {int(seconds * 1e6)}\nuser_usec 0\n")

    @property
    def idle(self):
        return (self.folder / "cpu.idle").read_text() == "1"


async def test_who_has_gone_behind_comes_back_when_it_is_quiet(tmp_path):
    now = 0.0
    good, bad = Browser(tmp_path, GOOD), Browser(tmp_path, BAD)
    running = [good, bad]
    shares = ProcessorShares(lambda: running, 2, clock=lambda: now)
    shares._look(running, 2)
    assert not bad.idle
    now = 0.5
    bad.uses(0.9)
    shares._look(running, 2)
    assert (good.idle, bad.idle) == (False, True)
    assert (shares.is_behind(GOOD), shares.is_behind(BAD)) == (False, True)
    now = 2.0
    shares._look(running, 2)
    assert bad.idle
    now = 4.0
    shares._look(running, 2)
    assert not bad.idle
    assert (bad.folder / "cpu.weight").read_text() == "25"
    assert not shares.is_behind(BAD)


async def test_an_older_kernel_has_a_small_weight_instead(tmp_path):
    browser = Browser(tmp_path, BAD)
    (browser.folder / "cpu.idle").unlink()
    browser.cgroup.go_behind(True)
    assert (browser.folder / "cpu.weight").read_text() == "1"
    browser.cgroup.go_behind(False)
    assert (browser.folder / "cpu.weight").read_text() == "25"


async def test_one_project_is_not_looked_at_and_the_look_ends_with_the_second_one(tmp_path):
    running = [Browser(tmp_path, GOOD)]
    shares = ProcessorShares(lambda: running, 2)
    with shares.starts(GOOD):
        assert not list(shares._work)
    with shares.starts(BAD):
        [look] = shares._work
    async with asyncio.timeout(10):
        await look
    await shares.close()


def test_a_start_of_who_is_behind_does_not_go_first(tmp_path):
    pool = CgroupPool(2, {"cpu": tmp_path})
    for name, first, weight in (("one", True, "100"), ("other", False, "25")):
        group = pool.make(name, memory=None, processes=None, first=first)
        assert (group.folders["cpu"] / "cpu.weight").read_text() == weight


@needs_isolation
@pytest.mark.skipif(
    not isinstance(FOUND, CgroupPool) or "cpu" not in FOUND.parents,
    reason="no control group can be made here",
)
@pytest.mark.chromium
@pytest.mark.one_build("what is shared out are processors")
async def test_fault_d11_a_page_that_computes_without_end_goes_behind_the_other_project(
    make_server, monkeypatch
):
    # Little is much: on a loaded machine it does not get more.
    monkeypatch.setattr("cdpbridge.server.hosts._shares._FRONT", 0.02)
    keys = {"bad": "key-of-the-bad-one", "good": "key-of-the-good-one"}
    async with make_server(api_keys=keys, isolation="require") as server:

        async def rent(name):
            answer = await server.http.post(
                "/browsers", json={}, headers={"X-Browser-Use-API-Key": keys[name]}
            )
            return answer.raise_for_status().json()

        def behind():
            files = FOUND.parents["cpu"].glob("cdpb-*/cpu.idle")
            return {each.parent.name for each in files if each.read_text().strip() == "1"}

        before = behind()
        bad = await rent("bad")
        async with connect(bad["cdpUrl"]) as connection:
            for _ in range(4):
                page = "data:text/html,<script>setTimeout(() => { for (;;); }, 10)</script>"
                await connection.root.send("Target.createTarget", {"url": page})
            await rent("good")
            await until(lambda: len(behind() - before) == 1, timeout=60)
