"""The place of an agent: a uid, namespaces and a network of its own, as a browser has, and ways to what its task needs.

What it may read is the table of `_child_confinement`, which the process applies to itself as well: here other files do not exist,
there they may not be opened.
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdpbridge._concurrency import in_thread
from cdpbridge.chromium import (
    STANDARD_STREAMS,
    BrowserUid,
    IsolatedProgram,
    Launcher,
    UidPool,
    give,
    look,
    uses_browser_uids,
)
from cdpbridge.errors import AgentStartFailed, BrowserStartFailed, ConfigurationError
from cdpbridge.isolation import Folders, Launch, Means, Plan, make_plan
from cdpbridge.server.proxy import Relay, Upstream

from ._base import AgentSpec
from ._child_confinement import CERTIFICATE_VARIABLES, SYSTEM
from ._destinations import Destination, destinations, hosts_file, proxy_of, vault_hosts
from ._environment import AgentEnvironment

__all__ = ["AgentPlace", "AgentPlaces"]

_PACKAGE: Final = Path(__file__).parents[3]
# What the process loads of this package, see `_child`.
_PROGRAM_FILES: Final = (Path(__file__).parent, _PACKAGE / "isolation" / "_kernel.py")
_NAMES: Final = {"nsswitch.conf": "hosts: files\n"}


@dataclass(frozen=True, slots=True)
class AgentPlaces:
    """Makes the places of a server's agents.

    Attributes:
        launcher: Starts them; shared with the browsers.
        means: What the kernel offers, as the test of browsers has shown.
        uids: Where uids come from, in a root process; default: the range of all root processes.
        hidden: Folders that no agent sees, whatever it is given that they lie in.
    """

    launcher: Launcher
    means: Means
    uids: UidPool | None = None
    hidden: Sequence[Path] = ()

    def refusal(self, environment: AgentEnvironment, spec: AgentSpec) -> str | None:
        """Return why an agent can have no place, in words; None when it can."""
        if spec.shared in {None, spec.folder}:
            return "its browser has no place either"
        closed = _closed(environment) if uses_browser_uids() else None
        if closed is not None:
            mode = stat.S_IMODE(closed.stat().st_mode)
            return f"{closed} is closed to other users (mode {mode:04o}), and agents of a root server run as one: chmod o+rX"
        return None

    async def open(
        self, environment: AgentEnvironment, spec: AgentSpec, scratch: Path, *, llm: str, op_token: str | None
    ) -> AgentPlace:
        """Make the place of one agent; its task's folders are there.

        Args:
            llm: Address of the model's endpoint.
            op_token: For 1Password.

        Raises:
            AgentStartFailed: It cannot be made; nothing is left behind.
        """
        async with AsyncExitStack() as undo:
            try:
                found = destinations([spec.cdp_url, llm], vault_hosts(op_token) if op_token else ())
                relays = [_relay(each) for each in found]
                uid, plan = await in_thread(self._prepare, environment, spec, scratch, found, undo=undo)
            except (ValueError, OSError, ConfigurationError, BrowserStartFailed) as error:
                raise AgentStartFailed(f"the agent was not started: {error}") from error
            user = None if uid is None else (uid, _group(spec))
            return AgentPlace(self.launcher, plan, user=user, found=found, relays=relays, undo=undo.pop_all())

    def _prepare(
        self,
        environment: AgentEnvironment,
        spec: AgentSpec,
        scratch: Path,
        found: Sequence[Destination],
        *,
        undo: AsyncExitStack,
    ) -> tuple[BrowserUid | None, Plan]:
        assert spec.shared is not None  # else it has no place
        uid = None
        if uses_browser_uids():
            uid = (self.uids or UidPool()).take()
            undo.push_async_callback(in_thread, uid.release)
            # As long as one of them is there, files of this uid are.
            uid.hold("place", spec.shared)
            uid.hold("place", scratch)
            undo.callback(_take_back, spec)
        settings = scratch / "etc"
        settings.mkdir(mode=0o755)
        files = {settings / name: text for name, text in ({"hosts": hosts_file(found)} | _NAMES).items()}
        for file, text in files.items():
            file.write_text(text)
            file.chmod(0o644)
        if uid is not None:
            _give(spec, scratch, uid.number)
        folders = Folders(
            os.fspath(environment.executable),
            writable=[str(each) for each in (spec.shared, spec.folder / "screenshots", scratch)],
            readable=_readable(spec),
            hidden=[os.fspath(each.absolute()) for each in self.hidden],
            home={str(file): f"/etc/{file.name}" for file in files},
            code=[*environment.libraries, *(str(each) for each in _PROGRAM_FILES)],
        )
        return uid, make_plan(folders, self.means, look, platform.machine())


class AgentPlace:
    """The place of one agent, from `AgentPlaces.open` to `close`."""

    def __init__(
        self,
        launcher: Launcher,
        plan: Plan,
        *,
        user: tuple[BrowserUid, int] | None,
        found: Sequence[Destination],
        relays: Sequence[Relay],
        undo: AsyncExitStack,
    ) -> None:
        self._launcher = launcher
        self._plan = plan
        self._uid: BrowserUid | None = None
        self._group: int | None = None
        if user is not None:
            self._uid, self._group = user
        self._found = found
        self._relays = relays
        self._undo = undo

    def __str__(self) -> str:
        user = "" if self._uid is None else f"uid {self._uid.number}, "
        names = ", ".join(f"{each.host}:{each.port}" for each in self._found)
        return f"{user}a network of its own that leads to {names}"

    async def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, limit: int
    ) -> IsolatedProgram:
        """Execute a program in it.

        Args:
            folder: Stays open until the last process of the place has ended.
            limit: Bytes of a line that its readers take.

        Raises:
            BrowserStartFailed: The kernel refuses.
        """
        uid = self._uid
        if uid is not None:
            uid.note_launch()
        order = Launch(
            self._plan,
            None if uid is None else uid.number,
            tuple(arguments),
            dict(environment),
            gid=self._group,
            numbers=STANDARD_STREAMS,
            listeners=tuple((each.address, each.port) for each in self._found),
            pages=False,
            # The environment of a root server's agents is root's as a rule, in a folder that only root enters.
            enter_as_root=uid is not None,
        )
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            program = await IsolatedProgram.start(self._launcher, order, lock=lock, limit=limit)
        finally:
            os.close(lock)
        self._undo.push_async_callback(program.close)
        try:
            for relay, listener in zip(self._relays, program.listeners, strict=True):
                await relay.start(listener)
                self._undo.push_async_callback(relay.close)
        except BaseException:
            program.kill()
            raise
        return program

    async def end_processes(self) -> None:
        """End what is left in it after its program; nothing is where the kernel does that."""
        if self._uid is None:
            return
        if self._plan.means.processes:
            self._uid.note_ended()
        else:
            await in_thread(self._uid.kill_processes)

    async def close(self) -> None:
        """Free what it held, once its processes have ended and its folders are removed. Again, it does nothing."""
        await self._undo.aclose()


def _relay(destination: Destination) -> Relay:
    proxy = proxy_of(destination, os.environ)
    return Relay(destination.host, destination.port, None if proxy is None else Upstream.parse(proxy))


def _readable(spec: AgentSpec) -> list[str]:
    given = [os.environ[name] for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
    uploads = dict.fromkeys(str(path.parent) for path in spec.uploads)
    system = [path for path in SYSTEM if not path.startswith("/proc") and path not in _REPLACED]
    return [path for path in (*system, *given, *uploads) if Path(path).exists()]


# It gets its own; libraries are those of `make_plan` and of its Python.
_REPLACED: Final = frozenset(
    {
        *(f"/etc/{name}" for name in ("hosts", "nsswitch.conf", "resolv.conf", "host.conf", "gai.conf")),
        *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share", "/lib", "/lib64"),
    }
) - {"/usr/share"}


def _group(spec: AgentSpec) -> int:
    """Return the group of its browser, which reads what the agent writes for it, and writes what the agent reads."""
    assert spec.shared is not None
    return (spec.shared / "downloads").stat().st_gid


def _give(spec: AgentSpec, scratch: Path, uid: int) -> None:
    """Give an agent of a root server its folders. Nothing of it, and nothing that may write there, runs yet."""
    assert spec.shared is not None
    group = _group(spec)
    downloads = spec.shared / "downloads"
    os.chown(spec.shared / "output", uid, group)
    (spec.shared / "output").chmod(0o2750)
    downloads.chmod(0o750)  # the browser's; the agent has its group
    for folder in (spec.folder / "screenshots", scratch):
        os.chown(folder, uid, group)
        folder.chmod(0o700)


def _take_back(spec: AgentSpec) -> None:
    """Own again what stays of the agent's files; what it shared with its browser has been collected."""
    screenshots = spec.folder / "screenshots"
    if screenshots.is_dir():  # else the task was deleted
        give(screenshots, os.geteuid(), os.getegid())


def _closed(environment: AgentEnvironment) -> Path | None:
    """Return what other users may not read of the program and its files; the folders above are passed by root."""
    for path in (Path(environment.executable).resolve(), *map(Path, environment.libraries), *_PROGRAM_FILES):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
        if mode & wanted != wanted:
            return path
    return None
