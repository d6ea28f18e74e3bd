"""Control groups of browsers: where they can be made, what they say, and that none is left."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import CDPError
from cdpbridge.server.hosts._cgroups import CgroupPool, find_cgroups
from tests.conftest import until
from tests.isolation.kernel import needs_isolation
from tests.server.hosts.test_limits import HOARD, ended

FOUND = find_cgroups() if sys.platform == "linux" else "no Linux"


def machine(folder, own, mounts):
    """The kernel's own files, as far as they are read."""
    proc = folder / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(own)
    lines = [
        f"31 23 0:29 / {point} rw,relatime - {kind} {kind} rw,{options}" for point, kind, options in mounts
    ]
    (proc / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return folder / "proc"


def version_2(folder, *, given="", inside=()):
    """A group of version 2, of this process."""
    own = folder / "cgroup" / "service"
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (own / "cgroup.subtree_control").write_text(given)
    (own / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in inside))
    proc = machine(folder, "0::/service\n", [(folder / "cgroup", "cgroup2", "nsdelegate")])
    return own, proc


def test_version_1_has_a_folder_for_each_controller(tmp_path):
    for name in ("memory/a", "pids", "cpu"):
        (tmp_path / name).mkdir(parents=True)
    mounts = [(tmp_path / name, "cgroup", name) for name in ("memory", "pids", "cpu", "freezer")]
    own = "8:pids:/\n4:memory:/a\n2:cpu,cpuacct:/\n6:freezer:/\n0::/\n"
    pool = find_cgroups(proc=machine(tmp_path, own, mounts))
    assert str(pool) == "memory, processes, processors by cgroup v1"
    assert pool.parents == {
        "memory": tmp_path / "memory" / "a",
        "pids": tmp_path / "pids",
        "cpu": tmp_path / "cpu",
    }


def test_version_2_is_used_where_the_server_has_a_group_of_its_own(tmp_path):
    own, proc = version_2(tmp_path, inside=[41, 42])
    pool = find_cgroups(proc=proc, family=[41, 42, 43])
    assert (pool.version, set(pool.parents)) == (2, {"memory", "pids", "cpu"})
    assert (own / "cdpb-server").is_dir()
    assert set((own / "cgroup.subtree_control").read_text().split()) == {"+cpu", "+memory", "+pids"}
    group = pool.make("x", memory=1 << 30, processes=10)
    written = {each.name: each.read_text() for each in (own / "cdpb-x").iterdir()}
    assert written == {"memory.max": str(1 << 30), "pids.max": "640", "cpu.weight": "100"}
    group.settle()
    assert (own / "cdpb-x" / "cpu.weight").read_text() == "25"
    assert group.joined_by == [own / "cdpb-x" / "cgroup.procs"]
    assert group.passed() is None
    (own / "cdpb-x" / "memory.events").write_text("oom 3\noom_kill 1\n")
    assert group.passed() == "memory"
    (own / "cdpb-x" / "memory.events").write_text("oom 0\noom_kill 0\n")
    (own / "cdpb-x" / "pids.events").write_text("max 2\n")
    assert group.passed() == "processes"


def test_version_2_is_left_alone_where_others_are_in_the_group(tmp_path):
    """Their processes are none of ours to move."""
    own, proc = version_2(tmp_path, inside=[41, 99])
    reason = find_cgroups(proc=proc, family=[41, 42])
    assert "has processes of other programs" in reason
    assert not (own / "cdpb-server").exists()


def test_version_2_that_was_delegated_below_the_servers_own_leaf(tmp_path):
    own, proc = version_2(tmp_path, given="cpu memory pids\n", inside=[])
    (own / "cdpb-server").mkdir()
    (proc / "self" / "cgroup").write_text("0::/service/cdpb-server\n")
    pool = find_cgroups(proc=proc, family=[])
    assert set(pool.parents.values()) == {own}


@pytest.mark.parametrize(
    ("own", "point"), [("4:memory:/../other\n", "memory"), ("4:memory:/absent\n", "memory"), ("", "memory")]
)
def test_groups_that_are_not_ours_to_make(tmp_path, own, point):
    (tmp_path / point).mkdir()
    reason = find_cgroups(proc=machine(tmp_path, own, [(tmp_path / point, "cgroup", point)]))
    assert reason.startswith("no cgroup can be made")


def test_groups_of_killed_servers_are_removed_those_that_may_be_used_stay(tmp_path, monkeypatch):
    pool = CgroupPool(2, {"memory": tmp_path, "pids": tmp_path})
    for name in ("cdpb-old", "cdpb-full", "cdpb-server", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "cdpb-full" / "cgroup.procs").touch()  # as the kernel refuses one with processes
    pool.sweep()
    assert (tmp_path / "cdpb-old").exists()
    later = (tmp_path / "cdpb-old").stat().st_ctime + 100
    monkeypatch.setattr("cdpbridge.server.hosts._cgroups.time.time", lambda: later)
    pool.sweep()
    assert {each.name for each in tmp_path.iterdir()} == {"cdpb-full", "cdpb-server", "other"}


def processes(group):
    """Of a group; none when it was removed meanwhile."""
    try:
        return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


@needs_isolation
@pytest.mark.skipif(isinstance(FOUND, str), reason="no control group can be made here")
@pytest.mark.chromium
@pytest.mark.one_build("what is limited are processes of the system")
async def test_fault_d09_the_kernel_keeps_a_browser_to_its_memory_and_none_of_its_groups_is_left(
    make_server, caplog
):
    caplog.set_level(logging.WARNING, "cdpbridge.server")
    async with make_server(isolation="require", memory_mb_per_browser=300, health_check_seconds=5) as server:
        pressure = await server.http.get(f"http://127.0.0.1:{server.http.base_url.port}/pressure")
        assert pressure.json()["limits"].startswith("memory, processes, ")
        browser = await server.rent()
        # Other servers of the machine have theirs beside it.
        groups = {each: processes(each) for each in FOUND.parents["memory"].glob("cdpb-*")}
        [group] = [each for each, inside in groups.items() if server.main_process(browser) in inside]
        assert set(server.processes()) <= groups[group]
        assert os.getpid() not in groups[group]
        command = Path(f"/proc/{server.main_process(browser)}/cmdline").read_text()
        assert "\0--renderer-process-limit=" in command
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            # Its page is killed at once, its browser with the next look.
            with suppress(CDPError):
                await tab.send("Runtime.evaluate", {"expression": HOARD})
            await connection.wait_closed()
        assert (await ended(server, browser))["endReason"] == "memory_limit"
        await until(lambda: not group.exists())
    assert "has met its limit of memory" in caplog.text
