"""What is below `data_dir` is for the server's user alone."""

import os
import stat

import pytest

from cdpbridge.server.data_dir import tightened

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the server's own work; it does not see the build")]


def wide(root):
    """Everything below that other users may read, write, or list."""
    found = []
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o066:
                found.append((oct(stat.S_IMODE(status.st_mode)), path))
    return found


async def work(server):
    """A rental with a profile, cookies, a file each way, and a recording."""
    browser = await server.rent(profileId=await server.profile(), enableRecording=True)
    await server.set_cookies(browser, "mine")
    body = {"fileName": "a.csv", "contentType": "text/csv", "sizeBytes": 3}
    signed = (await server.http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)).json()
    sent = await server.http.post(signed["url"], data=signed["fields"], files={"file": b"1;2"})
    assert sent.status_code == 204
    assert not wide(server.data_dir)
    await server.stop(browser)


@pytest.mark.parametrize("existing", [False, True])
async def test_the_modes_of_everything_in_the_data_dir(spawn_server, tmp_path, existing):
    """Finding 21: a folder that was there before was taken as it was."""
    old = os.umask(0)
    try:
        data_dir = tmp_path / "data"
        if existing:
            (data_dir / "files" / "browsers").mkdir(parents=True)
            (data_dir / "files" / "browsers" / "old.csv").write_text("1")
            (data_dir / "signing.key").write_text("ab" * 32)
            (data_dir / "cdpbridge.sqlite3-wal").touch()
        async with spawn_server() as server:
            await work(server)
            assert not wide(data_dir)
            assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
            _, errors = await server.end()
            assert "data_dir" not in errors  # nothing was left for the operator to correct
            assert "can be read by other users" not in errors
        assert not wide(data_dir)
    finally:
        os.umask(old)


def test_a_folder_that_others_use_is_reported_and_ours_in_it_is_tightened(tmp_path, caplog):
    (tmp_path / "profiles" / "x").mkdir(parents=True)
    (tmp_path / "profiles" / "x" / "cookies.json").write_text("[]")
    (tmp_path / "profiles" / "x" / "link").symlink_to("/etc/hostname")
    (tmp_path / "somebody's").write_text("theirs")
    (tmp_path / "lock").symlink_to(tmp_path / "somebody's")
    for path in (tmp_path, tmp_path / "profiles", tmp_path / "profiles" / "x"):
        path.chmod(0o755)
    (tmp_path / "somebody's").chmod(0o644)
    tightened(tmp_path)
    assert [path for _, path in wide(tmp_path)] == [str(tmp_path / "somebody's")]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert "chmod 700" in caplog.text
    assert stat.S_IMODE(os.stat("/etc/hostname").st_mode) & 0o044


def test_a_folder_that_can_only_be_passed_through_stays(tmp_path):
    (tmp_path / "browsers").mkdir()
    for path in (tmp_path, tmp_path / "browsers"):
        path.chmod(0o711)
    tightened(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711
