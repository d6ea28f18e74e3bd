"""What a uid of its own keeps a browser from without isolation, in both builds, and what is left of one when everything is killed."""

import asyncio
import os
import random
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cdpbridge.cdp import connect
from cdpbridge.chromium import uses_browser_uids
from cdpbridge.chromium._processes import living_uids
from cdpbridge.chromium._uid_ranges import parse_uid_range
from cdpbridge.chromium._uids import STATE_FOLDER
from cdpbridge.errors import CommandError, CommandTimeout
from tests.folders import browsers_folder
from tests.server.hosts.attacks import downloaded

ONE_BUILD = pytest.mark.one_build(
    "uids and folders are the host's; what a browser can read has both builds below"
)

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(not uses_browser_uids(), reason="only root may take another uid"),
]

BUILDS = pytest.mark.parametrize("build", ["shell", "full"])
SECRET = "secret-of-the-other-browser"
# The shell's page about a folder that may not be listed sometimes loads for ever: what stands there by then counts.
LOADED = """location.href !== 'about:blank' && (document.readyState === 'complete' || performance.now() > 3000)
  ? document.documentElement.innerText : null"""
READ = """file => new Promise(done => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => done('refused: ' + reader.error.name);
  reader.readAsText(file.slice(0, 100));
})"""


async def navigated(connection, url):
    """What stands on a page of its own, or Chromium's reason for having none."""
    for _ in range(
        4
    ):  # a question to a document that is replaced meanwhile may have no answer, and none later
        tab = await connection.new_tab()
        reply = await tab.send("Page.navigate", {"url": url})
        if "errorText" in reply:
            return f"refused: {reply['errorText']}"
        with suppress(CommandTimeout):
            while True:
                with suppress(CommandError):
                    asked = await tab.send(
                        "Runtime.evaluate", {"expression": LOADED}, timeout=timedelta(seconds=20)
                    )
                    if (text := asked["result"].get("value")) is not None:
                        return text
                await asyncio.sleep(0.05)
    raise AssertionError(f"no page of {url} answers")


async def chosen(tab, path):
    """What a page reads of a file that was put into its input."""
    made = await tab.send(
        "Runtime.evaluate", {"expression": "Object.assign(document.createElement('input'), {type: 'file'})"}
    )
    element = made["result"]["objectId"]
    try:
        await tab.send("DOM.setFileInputFiles", {"files": [str(path)], "objectId": element})
    except CommandError as error:
        return f"refused: {error}"
    reply = await tab.send(
        "Runtime.callFunctionOn",
        {
            "objectId": element,
            "functionDeclaration": f"function() {{ return this.files.length ? ({READ})(this.files[0]) : 'refused: no file' }}",
            "awaitPromise": True,
        },
    )
    # A file that cannot be opened is one of no bytes.
    return reply["result"]["value"] or "refused: no bytes"


@BUILDS
async def test_fault_d01_the_servers_files_and_other_browsers_cannot_be_read(make_server, build):
    async with make_server(browser_build=build, isolation="none") as server:
        hostile, other = await server.rent(), await server.rent(profileId=await server.profile())
        secret = server.folder(other) / "profile" / "secret.txt"
        secret.write_text(SECRET)
        (server.data_dir / "server.log").write_text("a line of the log")
        paths = [
            *(server.data_dir / name for name in ("signing.key", "cdpbridge.sqlite3", "server.log", "lock")),
            *server.data_dir.glob("cdpbridge.sqlite3-*"),
            secret,
            Path("/etc/shadow"),
            Path(f"/proc/{os.getpid()}/environ"),
        ]
        async with connect(hostile["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            for path in paths:
                assert path.exists(), path
                for prefix in ("file://", "view-source:file://"):
                    answer = await navigated(connection, f"{prefix}{path}")
                    assert answer.startswith("refused: ") or (SECRET not in answer and not answer.strip()), (
                        path,
                        answer,
                    )
                assert (await chosen(tab, path)).startswith("refused: "), path
            for folder, inside in (
                (server.data_dir, "signing.key"),
                (browsers_folder(server.data_dir), other["id"]),
                (server.folder(other), "cookies.json"),
                (server.folder(other) / "profile", "secret.txt"),
            ):
                assert inside not in await navigated(connection, f"file://{folder}/")
            # The way of the attack is open: what all users may read can be read.
            if build == "full":  # the shell lists no folder
                assert "passwd" in await navigated(connection, "file:///etc/")
            assert "root:" in await navigated(connection, "file:///etc/passwd")
            assert "root:" in await chosen(tab, "/etc/passwd")


@BUILDS
async def test_fault_d02_nothing_is_written_outside_the_browsers_own_folders(make_server, build, tmp_path):
    target = tmp_path / "of root"
    target.mkdir(mode=0o755)
    async with make_server(browser_build=build, isolation="none") as server:
        hostile, other = await server.rent(), await server.rent()
        folders = [
            server.data_dir,
            server.data_dir / "files",
            server.data_dir / "made",
            server.folder(other) / "profile",
            server.folder(other),
            server.folder(hostile),
            browsers_folder(server.data_dir),
            target,
            Path("/etc"),
        ]
        async with connect(hostile["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            for folder in folders:
                assert await downloaded(connection, tab, folder) != "completed", folder
                assert not (folder / "planted.txt").exists(), folder
            assert not (server.data_dir / "made").exists()
            # The way of the attack is open.
            own = server.folder(hostile) / "downloads"
            assert await downloaded(connection, tab, own) == "completed"
            assert (own / "planted.txt").read_text() == "planted"


@BUILDS
async def test_downloads_and_uploads_pass_through_the_api_while_it_runs_and_afterwards(
    make_server, build, tmp_path
):
    async with make_server(browser_build=build) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            kept = server.app.state.services.files.downloads(_id(browser))
            assert await downloaded(connection, tab, kept, "report.txt") == "completed"
            uploaded = await put(server, browser, "note.txt", b"from the client")
            assert await chosen(tab, uploaded["path"]) == "from the client"
        listed = await server.http.get(f"/browsers/{browser['id']}/downloads?includeUrls=true")
        [file] = listed.json()["files"]
        assert (await server.http.get(file["url"])).content == b"planted"
        await server.stop(browser)
        await server.stopped(browser)
        kept = server.data_dir / "files" / "browsers" / browser["id"]
        assert {each.relative_to(kept).as_posix() for each in kept.rglob("*.txt")} == {
            "downloads/report.txt",
            "uploads/note.txt",
        }
        for each in (kept, *kept.rglob("*")):
            assert (each.stat().st_uid, each.stat().st_mode & 0o077) == (0, 0), each
        # Signed while it ran, still valid.
        assert (await server.http.get(file["url"])).content == b"planted"


def _id(browser):
    return UUID(browser["id"])


async def put(server, browser, name, content):
    body = {"fileName": name, "contentType": "text/plain", "sizeBytes": len(content)}
    answer = await server.http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)
    assert answer.status_code == 200, answer.text
    signed = answer.json()
    sent = await server.http.post(
        signed["url"], data=signed["fields"], files={"file": (name, content, "text/plain")}
    )
    assert sent.status_code == 204, sent.text
    return signed


@ONE_BUILD
async def test_what_a_client_carries_to_the_browser_can_be_read_by_it(spawn_server):
    """By the tunnel's way and by the API's, in a server with its own umask; and by no other browser."""
    async with spawn_server() as server:
        browser, other = await server.rent(), await server.rent()
        folders = (await server.http.get(f"{browser['cdpUrl']}/files")).json()
        carried = f"{folders['uploads']}/deep/er/note.txt"
        sent = await server.http.put(
            f"{browser['cdpUrl']}/files/content", params={"path": carried}, content=b"carried"
        )
        assert sent.status_code == 204, sent.text
        uploaded = (await put(server, browser, "note.txt", b"uploaded"))["path"]
        async with connect(browser["cdpUrl"]) as own, connect(other["cdpUrl"]) as foreign:
            tab, strange = await own.new_tab(), await foreign.new_tab()
            for path, content in ((carried, "carried"), (uploaded, "uploaded")):
                assert await chosen(tab, path) == content
                assert (await chosen(strange, path)).startswith("refused: ")


@ONE_BUILD
async def test_links_that_a_browsers_user_puts_among_its_downloads_lead_nowhere(make_server, tmp_path):
    """Whoever runs code as the browser's uid may make them; the server reads as root."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    async with make_server() as server:
        browser = await server.rent(profileId=await server.profile())
        downloads = server.app.state.services.files.downloads(_id(browser))
        (downloads / "real.txt").write_text("real")
        os.chown(downloads / "real.txt", *[downloads.stat().st_uid] * 2)
        (downloads / "link.txt").symlink_to(secret)
        os.link(secret, downloads / "second name.txt")
        os.mkfifo(downloads / "pipe.txt")
        (server.folder(browser) / "profile" / "Default" / "link").symlink_to(secret)
        listed = (await server.http.get(f"/browsers/{browser['id']}/downloads?includeUrls=true")).json()[
            "files"
        ]
        for file in listed:
            answer = await server.http.get(file["url"])
            assert SECRET not in answer.text
        # Signed as a file, and a link when it is fetched.
        real = next(file for file in listed if file["path"] == "real.txt")
        (downloads / "real.txt").unlink()
        (downloads / "real.txt").symlink_to(secret)
        assert (await server.http.get(real["url"])).status_code == 404
        await server.stop(browser)
        await server.stopped(browser)
        for each in server.data_dir.rglob("*"):
            if each.is_file():
                assert SECRET.encode() not in each.read_bytes(), each
        assert secret.stat().st_uid == 0


# --- what is left -----------------------------------------------------------------------------------------------------


def left_of(uids):
    """Processes and locks of `uids`."""
    return living_uids() & uids, {each for each in uids if (STATE_FOLDER / "uids" / str(each)).exists()}


def uids_of(server):
    return {each.stat().st_uid for each in browsers_folder(server.data_dir).glob("*/profile")}


@ONE_BUILD
@pytest.mark.parametrize(
    "strikes",
    [
        pytest.param(2, marks=pytest.mark.timeout(600)),
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_random_kills_leave_no_process_no_folder_and_no_uid(spawn_server, strikes, wait_until):
    """Of the server, of a browser, of one of its helpers; each time the next start finds and removes what is left."""
    chance = random.Random(strikes)
    uids = set()
    for _ in range(strikes):
        async with spawn_server() as server:
            browsers = [await server.rent() for _ in range(2)]
            uids |= uids_of(server)
            victim = chance.choice(["server", "browser", "helper", "stopped"])
            pid = server.main_process(browsers[0])
            if victim == "server":
                server.process.kill()
            elif victim == "stopped":  # it will not leave by itself
                os.kill(pid, signal.SIGSTOP)
                server.process.kill()
            elif victim == "browser":
                os.kill(pid, signal.SIGKILL)
            else:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(server.processes(browsers[0])), signal.SIGKILL)
    async with spawn_server() as server:
        assert not server.folders()
        await wait_until(lambda: left_of(uids) == (set(), set()))
    assert not browsers_folder(server.data_dir).exists()
    assert len(uids) >= strikes


@ONE_BUILD
async def test_two_servers_with_one_range_have_other_uids(make_server, spawn_server):
    uids = "700000-700009"
    async with (
        make_server(browser_uids=uids) as one,
        spawn_server(folder="other", browser_uids=uids) as other,
    ):
        await asyncio.gather(*(server.rent() for server in (one, other) for _ in range(4)))
        found = [uids_of(one), uids_of(other)]
        assert [len(each) for each in found] == [4, 4]
        assert not found[0] & found[1]
        assert found[0] | found[1] <= set(parse_uid_range(uids))


@ONE_BUILD
async def test_no_free_uid_is_a_503_that_names_the_setting(make_server):
    async with make_server(browser_uids="700000-700000") as server:
        browser = await server.rent()
        answer = await server.http.post("/browsers", json={})
        assert answer.status_code == 503
        assert "widen browser_uids" in answer.json()["detail"]
        assert (await server.account())["activeSessionCount"] == 1
        await server.stop(browser)
        await server.stop(await server.rent())
