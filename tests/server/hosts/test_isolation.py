"""The border around an isolated browser: each attack is run by who drives it, in both builds, and what works goes on working."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cdpbridge.cdp import connect
from cdpbridge.chromium import Isolation, Launcher, UidPool, find, uses_browser_uids
from cdpbridge.errors import CommandError
from cdpbridge.isolation import Means
from cdpbridge.server.hosts._isolation_test import _canaries, breach
from tests.conftest import until
from tests.isolation.kernel import needs_isolation, python_of_all_users
from tests.server.hosts.attacks import downloaded
from tests.user_namespace import run_in_user_namespace

pytestmark = [pytest.mark.chromium, needs_isolation]

BUILDS = pytest.mark.parametrize("build", ["shell", "full"])
REFUSED = {"net::ERR_FILE_NOT_FOUND", "net::ERR_ACCESS_DENIED", "net::ERR_FAILED", "net::ERR_INVALID_URL"}


@pytest.fixture
def isolated(make_server):
    """A server that isolates its browsers, or does not start."""
    return lambda build, **settings: make_server(browser_build=build, isolation="require", **settings)


async def opened(tab, url):
    """The error of a navigation; empty when something was loaded."""
    reply = await tab.send("Page.navigate", {"url": url}, timeout=timedelta(seconds=60))
    return reply.get("errorText", "")


async def text(tab, url):
    """What stands on a page."""
    async with tab.expect("Page.loadEventFired"):
        reply = await tab.send("Page.navigate", {"url": url})
        assert "errorText" not in reply, reply
    asked = await tab.send("Runtime.evaluate", {"expression": "document.documentElement.innerText"})
    return asked["result"]["value"]


async def reads(tab, expected):
    asked = await tab.send("Runtime.evaluate", {"expression": "document.documentElement.innerText"})
    return asked["result"].get("value") == expected


async def chosen(tab, path):
    """How many bytes a page reads of a file that is put into its input."""
    made = await tab.send(
        "Runtime.evaluate", {"expression": "Object.assign(document.createElement('input'), {type: 'file'})"}
    )
    element = made["result"]["objectId"]
    try:
        await tab.send("DOM.setFileInputFiles", {"files": [str(path)], "objectId": element})
    except CommandError:
        return 0
    read = (
        "async function() { return this.files.length ? "
        "(await this.files[0].arrayBuffer().catch(() => new ArrayBuffer(0))).byteLength : 0 }"
    )
    reply = await tab.send(
        "Runtime.callFunctionOn", {"objectId": element, "functionDeclaration": read, "awaitPromise": True}
    )
    return reply["result"]["value"]


@BUILDS
async def test_fault_d01_nothing_of_the_machine_or_of_other_browsers_can_be_read(isolated, build, tmp_path):
    readable = tmp_path / "readable.txt"
    readable.write_text("for all users of the machine")
    async with isolated(build) as server:
        hostile, other = await server.rent(), await server.rent()
        paths = [
            readable,
            server.data_dir / "signing.key",
            server.data_dir / "cdpbridge.sqlite3",
            server.folder(other) / "profile",
            *map(Path, ("/etc/passwd", "/etc/shadow", "/usr/bin/env", "/home", "/root", "/var/log", "/run")),
            *(Path(f"/proc/{pid}/{name}") for pid in (os.getpid(), 1) for name in ("environ", "maps")),
            Path(f"/proc/{server.main_process(other)}/cmdline"),
        ]
        async with connect(hostile["cdpUrl"]) as connection:
            going, choosing = await connection.new_tab(), await connection.new_tab()
            for path in paths:
                for prefix in ("file://", "view-source:file://"):
                    assert await opened(going, f"{prefix}{path}") in REFUSED, path
                assert await chosen(choosing, path) == 0, path
            # The way of the attack is open: its own files can be read.
            own = server.folder(hostile) / "profile" / "own.txt"
            own.write_text("its own")
            own.chmod(0o644)
            assert await text(going, f"file://{own}") == "its own"
            assert await chosen(choosing, own) == len("its own")


@BUILDS
async def test_fault_d02_nothing_is_written_outside_its_own_folders(isolated, build, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for folder in (outside, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    outside.chmod(0o777)
    async with isolated(build) as server:
        browser = await server.rent()
        link = server.folder(browser) / "downloads" / "link"
        link.symlink_to(outside)
        async with connect(browser["cdpUrl"]) as connection:
            for folder in (link, Path("/var/tmp"), Path("/usr/lib")):
                assert await downloaded(connection, await connection.new_tab(), folder) in {
                    "refused",
                    "canceled",
                }, folder
            await downloaded(
                connection, await connection.new_tab(), outside
            )  # its /tmp is a place of its own, and goes with it
            assert (
                await downloaded(
                    connection, await connection.new_tab(), server.folder(browser) / "downloads", "mine.txt"
                )
                == "completed"
            )
        assert (server.folder(browser) / "downloads" / "mine.txt").read_text() == "planted"
    assert not list(outside.iterdir())
    assert not Path("/var/tmp/planted.txt").exists()


@BUILDS
async def test_fault_d04_d05_no_port_of_a_browser_or_of_the_machine_is_reached(isolated, build):
    """By pages, which the forwarder refuses; and in a context without a proxy, which the gateway would not let a client make."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        async with isolated(build, private_network="deny") as server:
            browser, _ = await server.rent(), await server.rent()
            hosts = server.app.state.services.hosts
            own = hosts._browsers[UUID(browser["id"])]._chromium.port
            ports = {service.getsockname()[1], server.http.base_url.port}
            ports |= {each._chromium.port for each in hosts._browsers.values()} - {own}
            inner = await hosts.connection(UUID(browser["id"]))
            context = await inner.root.send("Target.createBrowserContext", {"proxyServer": "direct://"})
            direct = await inner.new_tab(browser_context_id=context["browserContextId"])
            async with connect(browser["cdpUrl"]) as connection:
                tab = await connection.new_tab()
                for each in sorted(ports):
                    assert "private address" in await text(tab, f"http://127.0.0.1:{each}/json/list")
                    reply = await direct.send("Page.navigate", {"url": f"http://127.0.0.1:{each}/"})
                    assert reply.get("errorText") == "net::ERR_CONNECTION_REFUSED"
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()


@BUILDS
async def test_fault_d08_a_port_that_it_binds_is_not_on_this_machine(isolated, build):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with isolated(build) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            try:
                await connection.root.send("Tethering.bind", {"port": port})
            except CommandError:
                pass
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)


@BUILDS
async def test_what_works_today_works_in_a_place(isolated, build):
    """A page of this machine through the forwarder, a profile, an upload, a download that is kept."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with isolated(build) as server, await asyncio.start_server(serve, "127.0.0.1", 0) as site:
        port = site.sockets[0].getsockname()[1]
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "kept")
        async with connect(browser["cdpUrl"]) as connection:
            assert await text(await connection.new_tab(), f"http://127.0.0.1:{port}/") == "hello"
            for proxy in (f"127.0.0.1:{port}", "direct://"):  # the site answers as a proxy does, too
                context = await connection.root.send("Target.createBrowserContext", {"proxyServer": proxy})
                target = await connection.root.send(
                    "Target.createTarget",
                    {"url": f"http://127.0.0.1:{port}/", "browserContextId": context["browserContextId"]},
                )
                tab = await connection.attach(target["targetId"])
                await until(lambda tab=tab: reads(tab, "hello"))
        answer = await server.http.get(f"{browser['cdpUrl']}/json/version")
        assert answer.status_code == 200
        await server.stop(browser)
        assert "kept" in await server.cookies_of_profile(profile)


@BUILDS
async def test_pages_of_one_browser_talk_by_webrtc(isolated, build):
    async with isolated(build) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            reply = await tab.send(
                "Runtime.evaluate",
                {"expression": WEBRTC, "awaitPromise": True},
                timeout=timedelta(seconds=60),
            )
            assert reply["result"].get("value") == "hello", reply


WEBRTC = """
(async () => {
  const one = new RTCPeerConnection(), two = new RTCPeerConnection();
  one.onicecandidate = e => e.candidate && two.addIceCandidate(e.candidate);
  two.onicecandidate = e => e.candidate && one.addIceCandidate(e.candidate);
  const heard = new Promise(done => {
    two.ondatachannel = e => { e.channel.onmessage = m => done(m.data); };
  });
  const channel = one.createDataChannel('x');
  channel.onopen = () => channel.send('hello');
  await one.setLocalDescription(await one.createOffer());
  await two.setRemoteDescription(one.localDescription);
  await two.setLocalDescription(await two.createAnswer());
  await one.setRemoteDescription(two.localDescription);
  return await Promise.race([heard, new Promise(done => setTimeout(() => done('nothing'), 30000))]);
})()
"""


@pytest.mark.one_build("the test of the start is of the builds that the server uses")
async def test_what_the_server_says_of_its_isolation(isolated, make_server, tmp_path):
    async with isolated("shell") as server:
        pressure = (await server.http.get(f"http://127.0.0.1:{server.http.base_url.port}/pressure")).json()
        assert pressure["isolation"].startswith("on")
        # Its first browser does not wait for the start of what it is forked from.
        assert server.app.state.services.hosts._options.isolation.launcher._pid
    async with make_server(isolation="none") as server:
        pressure = (await server.http.get(f"http://127.0.0.1:{server.http.base_url.port}/pressure")).json()
        assert pressure["isolation"] == "off: the setting isolation is none"


NATIVE = """new Promise(done => {
  const port = chrome.runtime.connectNative('com.example.host');
  port.onDisconnect.addListener(() => done(chrome.runtime.lastError.message));
})"""


@pytest.mark.one_build("the headless shell has no extensions")
@pytest.mark.parametrize("isolation", ["none", "require"])
async def test_fault_d03_no_other_program_is_executed(make_server, isolation):
    """An extension of its own names a program of its own as native messaging host. Without isolation the program runs."""
    async with make_server(browser_build="full", isolation=isolation) as server:
        browser = await server.rent()
        folder = server.folder(browser)
        program = folder / "downloads" / "program.sh"
        program.write_text('#!/bin/sh\necho ran > "${0%.sh}.ran"\n')
        extension = folder / "downloads" / "extension"
        extension.mkdir(mode=0o755)
        (extension / "page.html").write_text("<p>page")
        manifest = {"name": "x", "version": "1", "manifest_version": 3, "permissions": ["nativeMessaging"]}
        (extension / "manifest.json").write_text(json.dumps(manifest))
        for path in (program, extension, *extension.iterdir()):
            path.chmod(0o755)
        async with connect(browser["cdpUrl"]) as connection:
            loaded = await connection.root.send("Extensions.loadUnpacked", {"path": str(extension)})
            host = {
                "name": "com.example.host",
                "description": "x",
                "type": "stdio",
                "path": str(program),
                "allowed_origins": [f"chrome-extension://{loaded['id']}/"],
            }
            hosts = folder / "profile" / "NativeMessagingHosts"
            hosts.mkdir(exist_ok=True)
            (hosts / "com.example.host.json").write_text(json.dumps(host))
            (hosts / "com.example.host.json").chmod(0o644)
            tab = await connection.new_tab()
            async with tab.expect("Page.loadEventFired"):
                await tab.send("Page.navigate", {"url": f"chrome-extension://{loaded['id']}/page.html"})
            answer = await tab.send("Runtime.evaluate", {"expression": NATIVE, "awaitPromise": True})
            assert answer["result"]["value"] == "Native host has exited."
        assert program.with_suffix(".ran").exists() == (isolation == "none")


FORBID = "from pathlib import Path\nPath('/proc/sys/user/max_user_namespaces').write_text('0')\n"
SERVE = """
import asyncio, sys
from cdpbridge.server import Settings, serving

async def main(number, isolation, projects):
    keys = {"a": "key-of-project-a", "b": "key-of-project-b"} if projects == "2" else "key-of-tests"
    folder = f"{sys.argv[1]}{number}"
    settings = Settings.load(data_dir=folder, isolation=isolation, api_keys=keys, port=0, browser_build="shell")
    async with serving(settings) as (app, _):
        print("serving:", app.state.services.isolation)
        print("refuses a second project:", app.state.services.sharing_refusal != "")

for number, words in enumerate(sys.argv[2:]):
    print("case", words)
    try:
        asyncio.run(main(number, *words.split()))
    except Exception as error:
        print("refused:", error)
"""
ANSWERS = {
    "require 1": r"refused: isolation = \"require\".*may make no user namespaces",
    "auto 2": r"refused: 2 projects have keys.*may make no user namespaces.*isolation = \"none\"",
    "auto 1": r"serving: off: .*user.max_user_namespaces[^\n]*\nrefuses a second project: True",
    "none 2": r"serving: off: the setting isolation is none\nrefuses a second project: False",
}


@pytest.mark.one_build("no browser is started where the kernel refuses it")
@pytest.mark.skipif(not uses_browser_uids(), reason="only root may make a user namespace with other limits")
async def test_fault_d18_several_projects_are_isolated_or_the_server_does_not_start(tmp_path):
    done = await asyncio.to_thread(
        run_in_user_namespace, "0 0 4294967295", FORBID + SERVE, str(tmp_path / "data"), *ANSWERS
    )
    told = dict(each.partition("\n")[::2] for each in done.stdout.split("case ")[1:])
    assert told.keys() == ANSWERS.keys(), (done.stdout, done.stderr[-2000:])
    for case, answer in ANSWERS.items():
        assert re.search(answer, told[case]), (case, told[case], done.stderr[-2000:])


@pytest.mark.one_build("files of the test at the start")
def test_every_user_may_read_the_files_of_the_test_whatever_the_umask_is():
    """The server's own umask lets only its user read."""
    before = os.umask(0o077)
    try:
        with _canaries() as folders:
            modes = [each.stat().st_mode & 0o777 for each in folders]
            modes += [(each / "canary.txt").stat().st_mode & 0o777 for each in folders]
    finally:
        os.umask(before)
    assert modes == [0o755, 0o755, 0o644, 0o644]


ORDINARY = """
import asyncio, sys
import cdpbridge, cdpbridge.errors

async def main():
    client = cdpbridge.local(data_dir="data", isolation="require", browser_build="shell")
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab()
        for name in ("../beside.html", "data/signing.key", "page.html"):
            try:
                await tab.goto(f"file://{sys.argv[1]}/{name}")
                print(await tab.title())
            except cdpbridge.errors.NavigationError as error:
                print(str(error).rpartition(": ")[2])
        script = "Object.assign(document.createElement('a'), {download: 'a.csv', href: 'data:text/csv,a,b'}).click()"
        async with tab.expect_download() as waiter:
            await tab.evaluate(script)
        print((await waiter.download.save("got")).read_text())

asyncio.run(main())
"""


@pytest.mark.one_build(
    "whose the folders are; an ordinary user's browsers of both builds are in tests/chromium"
)
@pytest.mark.skipif(not uses_browser_uids(), reason="only root may become another user")
async def test_an_ordinary_user_whose_group_has_another_number_rents_from_local():
    """The browser's folders were given to a group with the number of the user, which the user may not do."""
    python = python_of_all_users()
    if python is None:
        pytest.skip("an ordinary user can execute no Python of this version here")
    with tempfile.TemporaryDirectory(prefix="t") as home:
        working = Path(home, "working")
        working.mkdir()
        for name in ("working/page.html", "beside.html"):
            Path(home, name).write_text(f"<title>{name}</title>")
        for path in (Path(home), *Path(home).rglob("*")):
            os.chown(path, 65533, 65532)
        Path(home).parent.chmod(0o711)
        program = ["setpriv", "--reuid=65533", "--regid=65532", "--clear-groups", python, "-c", ORDINARY]
        environment = {
            "HOME": home,
            "TMPDIR": "/tmp",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [*program, str(working)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=working,
            check=False,
            timeout=280,
        )
    missing = "net::ERR_FILE_NOT_FOUND"
    assert done.stdout.splitlines() == [missing, missing, "working/page.html", "a,b"], done.stderr[-2000:]


@BUILDS
async def test_the_test_at_the_start_sees_what_a_place_should_not_show(build):
    launcher, uids = Launcher(), UidPool() if uses_browser_uids() else None
    try:
        open_place = Isolation(launcher, Means(), readable=[Path("/etc/passwd")])
        assert await breach(open_place, find(build), uids) == "/etc/passwd could be read"
    finally:
        await launcher.close()
