"""Chromium never runs as root: who its processes are, in both builds, and what is said where that cannot be."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Build, Chromium, uses_browser_uids
from cdpbridge.chromium import _processes as launching
from cdpbridge.errors import BrowserNotFound, ConfigurationError
from tests.user_namespace import run_in_user_namespace

ONE_BUILD = pytest.mark.one_build("no Chromium of a certain build is started")

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(not uses_browser_uids(), reason="only root may take another uid"),
]


def status(pid):
    """Fields of /proc/PID/status, proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def family(pid):
    """A process and all that it started, with their kinds."""
    found = {}
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        command = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        kind = re.search(r"--type=(\S+)", command)
        found[each] = kind[1] if kind else "browser"
        for task in Path(f"/proc/{each}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return found


def confined(pid):
    return status(pid)["Seccomp"] == ["2"]


async def test_no_process_is_root_and_renderers_are_in_the_sandbox(build, wait_until):
    async with (
        await Chromium.start(build=build) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        tab = await connection.new_tab()
        await tab.send("Runtime.evaluate", {"expression": "1"})
        # A spare renderer may be on its way into the sandbox.
        await wait_until(
            lambda: all(confined(pid) for pid, kind in family(chromium.pid).items() if kind == "renderer")
        )
        kinds = family(chromium.pid)
        assert set(kinds.values()) >= {"browser", "zygote", "renderer"}
        for pid, kind in kinds.items():
            fields = status(pid)
            assert fields["Uid"] == fields["Gid"] == [str(chromium.uid)] * 4, kind
            assert fields["Groups"] == []
            assert fields["NoNewPrivs"] == ["1"]
            if kind == "renderer":
                assert confined(pid)
                assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
            if kind in {"browser", "renderer"}:
                assert {fields[name][0].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
                    ""
                }
        command = Path(f"/proc/{chromium.pid}/cmdline").read_bytes()
        assert b"--no-sandbox" not in command


async def test_each_browser_has_a_uid_and_folders_of_its_own(build):
    async with await Chromium.start(build=build) as one, await Chromium.start(build=build) as other:
        assert one.uid != other.uid
        for chromium in (one, other):
            folder = chromium.user_data_dir.stat()
            assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (
                chromium.uid,
                chromium.uid,
                0o700,
            )


async def test_without_setpriv(build, monkeypatch):
    monkeypatch.setattr(launching, "_SETPRIV", ())
    async with await Chromium.start(build=build) as chromium:
        fields = status(chromium.pid)
        assert fields["Uid"] == fields["Gid"] == [str(chromium.uid)] * 4
        assert (fields["Groups"], fields["NoNewPrivs"]) == ([], ["1"])


async def test_without_the_sandbox_it_is_no_root_either(build):
    async with await Chromium.start(build=build, sandbox=False) as chromium:
        assert status(chromium.pid)["Uid"] == [str(chromium.uid)] * 4
        assert b"--no-sandbox" in Path(f"/proc/{chromium.pid}/cmdline").read_bytes()


async def test_a_profile_belongs_to_its_owner_before_and_after(build, tmp_path):
    profile = tmp_path / "profile"
    profile.mkdir()
    for _ in range(2):
        async with await Chromium.start(build=build, user_data_dir=profile) as chromium:
            assert profile.stat().st_uid == chromium.uid
        owners = {each.lstat().st_uid for each in (profile, *profile.rglob("*"))}
        assert owners == {0}


@ONE_BUILD
async def test_a_binary_below_a_closed_folder_is_named_with_the_way_out(tmp_path):
    closed = tmp_path / "cache"
    closed.mkdir(mode=0o700)
    binary = closed / "chrome"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    with pytest.raises(ConfigurationError) as caught:
        await Chromium.start(build=Build(binary, "full"))
    for words in (str(binary), f"{closed} is closed to other users (mode 0700)", "CDPBRIDGE_CHROMIUM"):
        assert words in str(caught.value)


@ONE_BUILD
async def test_a_link_to_a_binary_that_others_may_not_run(tmp_path):
    binary = tmp_path / "chrome"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(binary)
    with pytest.raises(ConfigurationError, match="may not read and execute it"):
        await Chromium.start(build=Build(link, "full"))
    binary.unlink()
    with pytest.raises(BrowserNotFound):
        await Chromium.start(build=Build(link, "full"))


@ONE_BUILD
async def test_a_profile_below_a_closed_folder_is_named_with_the_way_out(tmp_path):
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=f"{closed} is closed to other users.*chmod o\\+x"):
        await Chromium.start(user_data_dir=closed / "profile")


START = """
import asyncio, sys
from cdpbridge.chromium import Chromium, find

async def main():
    for sandbox in map(int, sys.argv[2:]):
        try:
            async with await Chromium.start(build=find(sys.argv[1]), sandbox=bool(sandbox)) as chromium:
                print("started", chromium.uid)
        except Exception as error:
            print(type(error).__name__, str(error).splitlines()[0])

asyncio.run(main())
"""


async def in_namespace(id_map, program, *arguments):
    done = await asyncio.to_thread(run_in_user_namespace, id_map, program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_in_a_rootless_container_the_uids_are_of_its_map(build):
    [line] = await in_namespace("0 0 65536", START, build.kind, "1")
    assert re.fullmatch(r"started 6[01]\d{3}", line)


async def test_a_kernel_that_refuses_user_namespaces_is_named_with_the_setting(build):
    """Never a silent `--no-sandbox`. The limit is that of the namespace alone, user_namespaces(7)."""
    forbid = "from pathlib import Path\nPath('/proc/sys/user/max_user_namespaces').write_text('0')\n"
    refused, started = await in_namespace("0 0 4294967295", forbid + START, build.kind, "1", "0")
    if refused.startswith("started"):
        assert (build.path.resolve().parent / "chrome-sandbox").exists()
    else:
        assert re.match("BrowserStartFailed .* no sandbox here: .*chromium_sandbox = false", refused)
    assert started.startswith("started")


@ONE_BUILD
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv(1)")
async def test_a_root_without_the_right_to_change_its_uid_is_told():
    program = "from cdpbridge.chromium import UidPool\nUidPool()"
    command = ["setpriv", "--bounding-set=-setuid,-setgid", sys.executable, "-c", program]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert "CAP_SETGID, CAP_SETUID missing" in done.stderr
    assert "run as an ordinary user" in done.stderr


async def test_an_ordinary_user_runs_it_as_itself(build, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)
    # Once all is imported: the interpreter may lie where only root can go.
    drop = "import os\nos.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
    program = START.replace("asyncio.run(main())", f"{drop}asyncio.run(main())").replace(
        "chromium.uid)", "chromium.uid, Path(f'/proc/{chromium.pid}/cmdline').read_bytes().split(b'/')[1])"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [
            sys.executable,
            "-c",
            f"import concurrent.futures.thread\nfrom pathlib import Path\n{program}",
            build.kind,
            "1",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(folder), "TMPDIR": str(folder)},
    )
    assert done.stdout == "started None b'usr'\n", done.stderr
