"""`curl -fsSL http://HOST/profile.sh | sh` on a terminal, with a real local browser profile and a real server."""

import asyncio
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cdpbridge
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find

ONE_BUILD = pytest.mark.one_build("profiles are kept by the full build only")

SCRIPT = Path(cdpbridge.__file__).parent / "server" / "routes" / "profile.sh"


@pytest.fixture
def chromium_home(tmp_path):
    """A home folder in which a full Chromium has been used."""
    folder = tmp_path / "config" / "chromium"
    cookies = [
        {"name": name, "value": "s3cr3t", "domain": domain, "path": "/", "expires": time.time() + 9999}
        for name, domain in [("a", "example.test"), ("b", "example.test"), ("c", "other.test")]
    ]

    async def make():
        async with (
            await Chromium.start(build=find("full"), user_data_dir=folder) as chromium,
            connect_pipe(*chromium.take_pipe()) as connection,
        ):
            await connection.root.send("Storage.setCookies", {"cookies": cookies})
            await connection.root.send("Browser.close")

    asyncio.run(make())
    return tmp_path / "config"


class Terminal:
    """A program on a terminal of its own, as a person has it."""

    def __init__(self, command, environment):
        self.text = ""
        self._at = 0
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)

    def until(self, pattern, seconds=60):
        """Read until `pattern` is there, behind what was found before."""
        deadline = time.monotonic() + seconds
        while (found := re.compile(pattern).search(self.text, self._at)) is None:
            ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.text}"
            try:
                self.text += os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # it has ended
                pytest.fail(f"{pattern!r} did not come: {self.text}")
        self._at = found.end()

    def type(self, line):
        os.write(self._terminal, f"{line}\n".encode())

    def end(self):
        """Its exit status, after the rest of its output."""
        while True:
            try:
                piece = os.read(self._terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            self.text += piece.decode(errors="replace")
        os.close(self._terminal)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def pipe(server, *words):
    base = server.base_url.removesuffix("/api/v2")
    return ["sh", "-c", f"curl -fsSL {base}/profile.sh | sh {' '.join(words)}"]


def environment_for(server, tmp_path, **more):
    own = tmp_path / "bin"
    own.mkdir(exist_ok=True)
    if not (own / "cdpbridge").exists():
        (own / "cdpbridge").symlink_to(Path(sys.executable).parent / "cdpbridge")
    ours = {"PATH": f"{own}:/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "200"}
    environment = server.environment(**(ours | more))
    del environment["CDPBRIDGE_PROVIDER"]  # the script names the server
    return environment


@ONE_BUILD
@pytest.mark.chromium
def test_a_person_picks_the_profile_and_the_domains(server, chromium_home, tmp_path):
    environment = environment_for(server, tmp_path, XDG_CONFIG_HOME=str(chromium_home))
    key = environment.pop("BROWSER_USE_API_KEY")
    terminal = Terminal(pipe(server), environment)
    terminal.until(f"Key of {re.escape(server.base_url)}: ")
    terminal.type(key)
    terminal.until(r"1  chromium, [\s\S]*Which one")
    terminal.type("1")
    terminal.until(r"2 cookies of example\.test[\s\S]*1 cookies of other\.test[\s\S]*Which domains")
    terminal.type("example.test")
    terminal.until("Into which hosted profile")
    terminal.type("from the script")
    terminal.until(
        "2 cookies, 0 items of localStorage, 0 databases and 0 preferences are in the profile from the script"
    )
    assert terminal.end() == 0
    assert key not in terminal.text
    assert "s3cr3t" not in terminal.text

    async def kept():
        async with (
            cdpbridge.at(server.base_url, server.key) as client,
            cdpbridge.open_browser(client, profile="from the script") as browser,
        ):
            return (await browser.connection.root.send("Storage.getCookies"))["cookies"]

    assert sorted(each["name"] for each in asyncio.run(kept())) == ["a", "b"]


@ONE_BUILD
@pytest.mark.chromium
def test_without_a_terminal_it_takes_arguments_or_says_what_is_missing(server, chromium_home, tmp_path):
    environment = environment_for(server, tmp_path, XDG_CONFIG_HOME=str(chromium_home))
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "start_new_session": True}
    done = subprocess.run(
        pipe(server, "-s", "--", "--from", "chromium", "--to", "piped"),
        env=environment,
        check=False,
        timeout=90,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert "3 cookies, " in done.stdout
    del environment["BROWSER_USE_API_KEY"]
    done = subprocess.run(pipe(server), env=environment, check=False, timeout=30, **options)
    assert (done.returncode, "set BROWSER_USE_API_KEY to a key of" in done.stderr) == (1, True)
    without = {**environment, "PATH": str(tmp_path / "empty"), "BROWSER_USE_API_KEY": server.key}
    done = subprocess.run([shutil.which("sh"), SCRIPT], env=without, check=False, timeout=30, **options)
    assert (done.returncode, "uv, pipx or Python 3.11 is needed" in done.stderr) == (1, True)


def test_an_address_cannot_end_its_quotes(server):
    import httpx

    base = server.base_url.removesuffix("/api/v2")
    answer = httpx.get(f"{base}/profile.sh", headers={"Host": "x'$(touch /tmp/never);`id`"})
    if answer.status_code == 200:  # where the server answers such a `Host` at all
        [line] = [line for line in answer.text.splitlines() if "export CDPBRIDGE_PROVIDER=" in line]
        assert len(shlex.split(line)) == 2
    else:
        assert answer.status_code in {400, 403}


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.slow
def test_in_an_environment_of_its_own(server, chromium_home, tmp_path):
    """Without cdpbridge, uv and pipx: it is installed from a wheel into a folder that goes afterwards."""
    root = Path(cdpbridge.__file__).parents[1]
    wheels = tmp_path / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, root],
        check=True,
    )
    [wheel] = wheels.iterdir()
    own = tmp_path / "own"
    own.mkdir()
    for name in ("curl", "sh", "stty", "mktemp", "rm"):
        (own / name).symlink_to(shutil.which(name))
    (own / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = environment_for(
        server,
        tmp_path,
        XDG_CONFIG_HOME=str(chromium_home),
        PATH=str(own),
        CDPBRIDGE_PACKAGE=str(wheel),
        TMPDIR=str(temporary),
    )
    done = subprocess.run(
        [*pipe(server, "-s", "--", "--from", "chromium", "--to", "wheel")],
        env=environment,
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert "3 cookies, " in done.stdout
    assert list(temporary.iterdir()) == []
