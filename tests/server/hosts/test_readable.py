"""What isolated browsers may read of the user's own: chosen files, the working directory, fonts and certificates."""

import asyncio
import shutil
import ssl
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs
import pytest
import trustme

from cdpbridge.cdp import connect
from cdpbridge.chromium import uses_browser_uids
from cdpbridge.errors import ConfigurationError
from cdpbridge.server import Settings
from cdpbridge.server.hosts import readable_paths
from cdpbridge.server.hosts._readable import copy_certificates, hidden_folders, home_files
from tests.isolation.kernel import needs_isolation
from tests.own_user import open_way

ONE_BUILD = pytest.mark.one_build("no browser is started")
BUILDS = pytest.mark.parametrize("build", ["shell", "full"])


@pytest.fixture
def place(tmp_path):
    """A folder that browsers can be shown, whoever runs the server."""
    folder = tmp_path / "place"
    folder.mkdir(mode=0o755)
    open_way(folder / "x")
    folder.chmod(0o755)
    return folder


@pytest.fixture
def outside(tmp_path, tmp_path_factory):
    """A folder that browsers could be shown, as they could `tmp_path`, and are not."""
    folder = tmp_path_factory.mktemp("outside")
    open_way(folder / "x")
    for each in (folder, tmp_path):
        each.chmod(0o755)
    return folder


def load(tmp_path, **settings):
    return Settings.load(data_dir=tmp_path / "data", **settings)


@ONE_BUILD
def test_what_is_readable_is_what_was_given(tmp_path, place):
    (place / "one.txt").touch(mode=0o644)
    assert readable_paths(load(tmp_path)) == ()
    given = load(tmp_path, files=[place / "one.txt"], working_dir=place)
    assert readable_paths(given) == (place / "one.txt", place)
    link = place.with_name("link")
    link.symlink_to(place)
    assert readable_paths(load(tmp_path, files=[link])) == (link,)


@ONE_BUILD
def test_what_chromium_is_told_to_read_is_readable(tmp_path, place, monkeypatch):
    for name in ("one", "two"):
        (place / name).mkdir(mode=0o755)
    (place / "fonts.conf").touch(mode=0o644)
    monkeypatch.setenv("FONTCONFIG_FILE", str(place / "fonts.conf"))
    arguments = [f"--load-extension={place}/one,{place}/two", "--log-file=/absent/log", "--lang=de"]
    given = load(tmp_path, files=[place / "two"], browser_args=arguments)
    assert readable_paths(given) == (place / "two", place / "one", place / "fonts.conf")


@ONE_BUILD
def test_a_path_is_of_the_server_and_may_begin_at_home(tmp_path, place, monkeypatch):
    monkeypatch.chdir(place.parent)
    monkeypatch.setenv("HOME", str(place.parent))
    settings = load(tmp_path, files=["place", "~/place"], working_dir="place")
    assert (settings.files, settings.working_dir) == ([place, place], place)


@ONE_BUILD
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "the temporary files of other programs"),
        (tempfile.gettempdir(), "the temporary files of other programs"),
        ("/proc/self", "a browser has its own"),
        ("/dev", "a browser has its own"),
        ("/absent/file", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_shown_is_named_at_the_start(tmp_path, path, words, caplog):
    with pytest.raises(ConfigurationError, match=f"files: {path} cannot be shown to browsers: .*{words}"):
        readable_paths(load(tmp_path, files=[path]))
    # The working directory was not asked for by name: the server starts without it.
    with caplog.at_level("INFO"):
        assert readable_paths(load(tmp_path, working_dir=path)) == ()
    assert words in caplog.text


@ONE_BUILD
@pytest.mark.skipif(not uses_browser_uids(), reason="only browsers of root have uids of their own")
@pytest.mark.parametrize("closed", ["folder", "way"])
def test_what_the_browsers_user_may_not_read_is_named_with_the_way_out(tmp_path, place, closed):
    folder = place / "inner"
    folder.mkdir(mode=0o755)
    (folder if closed == "folder" else place).chmod(0o700)
    with pytest.raises(
        ConfigurationError, match=f"closed to other users .*chmod o\\+{'r' if closed == 'folder' else 'x'}"
    ):
        readable_paths(load(tmp_path, files=[folder]))


@ONE_BUILD
def test_the_working_directory_is_not_the_whole_home_by_accident(tmp_path, place, monkeypatch):
    home = place / "me"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(home))
    for folder in (home, place):
        assert readable_paths(load(tmp_path, working_dir=folder)) == ()
    assert readable_paths(load(tmp_path, files=[home])) == (home,)
    (home / "project").mkdir(mode=0o755)
    assert readable_paths(load(tmp_path, working_dir=home / "project")) == (home / "project",)


@ONE_BUILD
def test_folders_with_secrets_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = load(tmp_path, runtime_dir=tmp_path / "run")
    names = ("share/cdpbridge", "state/cdpbridge", "data")
    assert {*(tmp_path / name for name in names), settings.runtime_folder} <= set(hidden_folders(settings))


@ONE_BUILD
def test_temporary_files_in_the_working_directory_are_hidden_and_the_rest_is_not(
    tmp_path, place, monkeypatch
):
    temporary = place / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    settings = load(tmp_path, working_dir=place)
    assert readable_paths(settings) == (place,)
    assert temporary in hidden_folders(settings)
    assert readable_paths(load(tmp_path, working_dir=temporary)) == ()


@ONE_BUILD
def test_fonts_and_certificates_of_the_user(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "share"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in (".fonts", "share/fonts", ".config/fontconfig", ".pki/nssdb/not a file"):
        (place / name).mkdir(mode=0o755, parents=True)
    assert home_files() == {
        place / ".fonts": ".fonts",
        place / "share/fonts": ".local/share/fonts",
        place / ".config/fontconfig": ".config/fontconfig",
    }
    (place / ".pki/nssdb/cert9.db").write_bytes(b"certificates")
    scratch = place / "scratch"
    scratch.mkdir()
    copy_certificates(scratch)
    assert [str(each.relative_to(scratch)) for each in scratch.rglob("*.db")] == [".pki/nssdb/cert9.db"]
    assert (scratch / ".pki/nssdb/cert9.db").read_bytes() == b"certificates"


OTHER = "<title>the other page</title><script>opener.postMessage(document.title, '*')</script>"
OPENED = """new Promise(done => {
  addEventListener('message', event => done(event.data));
  open('other.html');
})"""
# Of a font that is there, as wide as the font is; of one that is not, as wide as the next in the list.
WIDTHS = """['Xwn Font Of User', 'no such font'].map(name => {
  const context = document.createElement('canvas').getContext('2d');
  context.font = `40px "${name}", serif`;
  return context.measureText('iiii').width;
})"""
FONT, ITS_NAME, OWN_NAME = (
    Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"),
    "DejaVu Sans Mono",
    "Xwn Font Of User",
)


def renamed_font():
    """A font of this machine under a name that no other has; names are as long, so nothing in the file moves."""
    content = FONT.read_bytes()
    for coding in ("ascii", "utf-16-be"):
        content = content.replace(ITS_NAME.encode(coding), OWN_NAME.encode(coding))
    return content


def put(path, content):
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


@BUILDS
@needs_isolation
@pytest.mark.chromium
async def test_a_browser_reads_what_it_is_given_and_nothing_else(
    make_server, build, place, outside, monkeypatch
):
    """The working directory holds the data folder, which stays hidden; `window.open` of a file in it works."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(platformdirs.user_cache_path()))
    monkeypatch.setenv("HOME", str(outside / "home"))
    put(outside / "home" / ".fonts" / "own.ttf", renamed_font())
    put(place / "page.html", b"the page")
    put(place / "other.html", OTHER.encode())
    put(outside / "more.txt", b"more")
    put(outside / "beside.txt", b"beside")
    settings = {
        "files": [outside / "more.txt"],
        "working_dir": place.parent,
        "user_fonts_and_certificates": True,
    }
    async with make_server(browser_build=build, isolation="require", **settings) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            assert await text_of(tab, outside / "more.txt") == "more"
            secrets = [server.data_dir / name for name in ("signing.key", "cdpbridge.sqlite3", "lock")]
            for path in (outside / "beside.txt", *secrets):
                assert path.exists()
                assert await text_of(tab, path) == "net::ERR_FILE_NOT_FOUND"
            assert await text_of(tab, place / "page.html") == "the page"
            assert await run(tab, OPENED) == "the other page"
            own, absent = await run(tab, WIDTHS)
            assert own != absent


@BUILDS
@needs_isolation
@pytest.mark.chromium
@pytest.mark.skipif(
    shutil.which("certutil") is None, reason="certutil, of Debian's libnss3-tools, is not installed"
)
async def test_a_certificate_that_the_user_has_added_is_trusted(make_server, build, tmp_path, monkeypatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    folder = tmp_path / "home" / ".pki" / "nssdb"
    folder.mkdir(parents=True)
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-t", "C,,", "-n", "own", "-i", str(tmp_path / "own.pem")],
    ):
        subprocess.run(["certutil", "-d", f"sql:{folder}", *words], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(platformdirs.user_cache_path()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def answer(reader, writer):
        with suppress(
            asyncio.IncompleteReadError, ConnectionError
        ):  # a handshake that the browser has broken off
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntrusted")
            await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as site,
        make_server(browser_build=build, isolation="require", user_fonts_and_certificates=True) as server,
    ):
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            address = f"https://localhost:{site.sockets[0].getsockname()[1]}/"
            await tab.send("Page.enable")
            async with tab.expect("Page.loadEventFired"):
                reply = await tab.send("Page.navigate", {"url": address})
            assert "errorText" not in reply, reply
            assert await run(tab, "document.documentElement.innerText") == "trusted"


async def text_of(tab, path):
    """What stands in a file, or why it is not shown."""
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        reply = await tab.send("Page.navigate", {"url": path.as_uri()})
    return reply.get("errorText") or await run(tab, "document.documentElement.innerText")


async def run(tab, script):
    given = {"expression": script, "awaitPromise": True, "returnByValue": True}
    return (await tab.send("Runtime.evaluate", given))["result"]["value"]
