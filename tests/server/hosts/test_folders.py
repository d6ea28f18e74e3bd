"""What a killed server was just removing: the next one goes on with it."""

import shutil
from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserOptions, Builds, Leftover, LocalHosts
from cdpbridge.server.hosts._folders import remove_folder, scratch_folder
from cdpbridge.server.profiles import ProfileStore

SECOND = timedelta(seconds=1)


@pytest.mark.one_build("the host's own folders, whichever browser was in them")
@pytest.mark.chromium
@pytest.mark.parametrize("renamed", ["", ".gone"])
async def test_fault_b18_folders_that_a_killed_server_had_renamed_are_removed(tmp_path, renamed):
    browser_id = uuid4()
    root, scratch = tmp_path / "browsers", scratch_folder(browser_id)
    for folder in (root / str(browser_id), scratch.with_name(scratch.name + renamed)):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_text("left")
    hosts = LocalHosts(
        root,
        ProfileStore(tmp_path / "profiles"),
        Registry(),
        BrowserOptions(Builds.found(None, None), (), SECOND, SECOND, SECOND, SECOND, SECOND),
        concurrent_starts=1,
        queue_timeout=SECOND,
    )
    try:
        await hosts.recover([Leftover(browser_id, None, profile_writable=False)])
        assert list(root.iterdir()) == []
        assert list(scratch.parent.glob(f"{scratch.name}*")) == []
    finally:
        await hosts.close()
        for each in scratch.parent.glob(f"{scratch.name}*"):
            shutil.rmtree(each)


async def test_a_folder_that_is_not_there_is_removed_already(tmp_path):
    await remove_folder(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
