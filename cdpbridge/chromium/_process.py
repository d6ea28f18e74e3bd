"""A Chromium process: its start, its two descriptors, and every way it ends.

    started --ready--> running --exit seen--> exited --group dead, reaped, folders removed--> freed

The owner holds the writing end of the debugging pipe. When it closes, because we close it or because we die, Chromium
leaves by itself and flushes its cookies; SIGTERM would lose the last 30 s of them. The main process stays unreaped until
its group is dead, so that its id, which is the group's, cannot come to mean something else.

Chromium never runs as root: a root process starts each browser under a uid of its own, which also says what must be dead
before the browser is put away.

With an `Isolation` the main process that we wait for is the attendant of the browser's place: it ends after the browser, and
tells how that ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from cdpbridge._concurrency import in_thread, to_the_end
from cdpbridge._durations import waiting_time
from cdpbridge.errors import BrowserExited, BrowserNotFound, BrowserStartFailed
from cdpbridge.isolation import Launch

from ._exit import watch_exit
from ._find import Build, find
from ._flags import child_environment, command_line
from ._folders import remove_trees, shm_is_small
from ._identity import Identity
from ._isolation import Isolation
from ._launcher import Attendant
from ._processes import orphans
from ._spawn import spawn
from ._uids import BrowserUid

__all__ = ["Chromium"]

logger = logging.getLogger("cdpbridge.chromium")

_START_TIMEOUT: Final = timedelta(seconds=30)
_STOP_TIMEOUT: Final = timedelta(seconds=5)
_STDERR_BYTES: Final = 8192
_STDERR_LINES: Final = 20
_READ_BYTES: Final = 65536
_LISTENING: Final = re.compile(rb"^DevTools listening on ws://[^\s/]*:(\d+)(/\S+)\s*$", re.MULTILINE)
# The id in it gives full control of the browser.
_SECRET_PATH: Final = re.compile(r"/devtools/browser/\S+")
_VERSION: Final = b'{"id":1,"method":"Browser.getVersion"}\0'
# After an orderly exit the network process still writes what it has received; measured: under 0.2 s.
_LAST_WRITES_SECONDS: Final = 2.0
_KILL_SECONDS: Final = 1.0
_REAP_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01
# By Chromium's own words: when the kernel refuses it every kind of sandbox (content/browser/zygote_host, 156), or one step of it
# (sandbox/linux/services/credentials.cc).
_SANDBOX_ADVICE: Final = {
    "No usable sandbox": "the kernel gives Chromium no sandbox here: ordinary users may not make user namespaces, and there is no setuid helper. "
    "Allow them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; "
    "in a container a seccomp profile that permits clone and unshare), or do without the sandbox by writing "
    "chromium_sandbox = false: then a page that breaks into its renderer has all that the browser has",
    "Check failed: sys_chroot": "Chromium's sandbox may not call chroot here: in a container, a seccomp profile that permits it "
    "(Docker: --security-opt seccomp=seccomp.json, a file of examples/deploy; its default does with --cap-add SYS_CHROOT)",
}
# setpriv(1), and our own launcher after the same manner.
_NOT_EXECUTED: Final = "failed to execute "


class Chromium:
    """A running Chromium, made by `start`.

    `async with` stops it. The owner of the debugging pipe is the object, until `take_pipe`.

    Attributes:
        build: What runs.
        pid: Its main process, or the attendant of its place, and its process group.
        uid: The user that it runs as, if not this process's own.
        port: Of its DevTools server on 127.0.0.1.
        browser_path: Path of its browser socket there, `/devtools/browser/<id>`. A secret.
        user_data_dir: Its profile.
        returncode: Its exit status once it has ended; negative for a signal.
    """

    port: int
    browser_path: str

    def __init__(
        self,
        build: Build,
        user_data_dir: Path,
        scratch_dir: Path,
        own_folders: Sequence[Path],
        identity: Identity,
    ) -> None:
        self.build = build
        self.uid = identity.number
        self._identity = identity
        self.user_data_dir = user_data_dir
        self.returncode: int | None = None
        self.pid: int
        self._listener: socket.socket | None = None
        self._attendant: Attendant | None = None
        # The kernel kills the rest of its place when the main process, which is process 1 there, ends.
        self._ends_as_one = False
        self._scratch_dir = scratch_dir
        self._own_folders = own_folders
        self._orphans: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._stderr = bytearray()
        self._stderr_fd = -1
        self._stderr_ended = asyncio.Event()
        self._stderr_news = asyncio.Event()
        self._pipe: tuple[int, int] | None = None
        self._killed = False
        self._putting_away: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"exited with {self.returncode}"
        return f"<Chromium {self.build.kind} pid {self.pid} {state}>"

    # --- start ----------------------------------------------------------------------------------------------------

    @classmethod
    async def start(
        cls,
        *,
        build: Build | None = None,
        user_data_dir: Path | None = None,
        scratch_dir: Path | None = None,
        proxy_server: str | None = None,
        udp: bool = False,
        args: Sequence[str] = (),
        start_timeout: float | timedelta = _START_TIMEOUT,
        sandbox: bool = True,
        uid: BrowserUid | None = None,
        isolation: Isolation | None = None,
    ) -> Self:
        """Start Chromium and wait until it answers. Cancelled or failed, it leaves nothing behind.

        In a root process it runs under a uid of its own. Its folders belong to that uid as long as it runs, so all
        users must be able to pass through the folders above them.

        Args:
            build: Default: what `find` finds.
            user_data_dir: Its profile, made when missing; for this browser alone. Default: an empty one, removed in the
                end.
            scratch_dir: For its temporary files, which it does not always remove. Default: one that is removed in the
                end.
            proxy_server: `http://host:port`, without credentials: Chromium takes none.
            udp: With a proxy: WebRTC may send UDP around it.
            args: Further command line arguments.
            start_timeout: How long it may take to answer.
            sandbox: Chromium's own, around its renderers.
            uid: The one to run it under, in a root process; it stays the caller's. Default: one is taken and given back.
            isolation: The place it lives in, with a network of its own: its proxy is at `PROXY_PORT` there and accepts on
                what `listen` returns, and `port` is reached by `connect`.

        Raises:
            BrowserNotFound: There is no such binary.
            BrowserStartFailed: It ended, or did not answer in time; with its last words.
            ConfigurationError: `start_timeout` is no time; a root process, and the uid cannot reach the binary or a folder, or there is no such uid.
        """
        limit = waiting_time("start_timeout", start_timeout)
        build = build or find()
        own: list[Path] = []
        identity = Identity(uid)
        self: Self | None = None
        try:
            await in_thread(identity.take)
            profile = user_data_dir or _temporary(own, "profile", identity)
            scratch = scratch_dir or _temporary(own, "scratch", identity)
            await in_thread(identity.prepare, build, profile, scratch)
            self = cls(build, profile, scratch, own, identity)
            await self._spawn(proxy_server, args, udp=udp, sandbox=sandbox, isolation=isolation)
        except BaseException as error:
            if self is not None and self._stderr_fd >= 0:  # cancelled while it was launched
                await self.kill()
                raise
            await remove_trees(own)
            await in_thread(identity.give_back)
            if isinstance(error, FileNotFoundError) and not build.path.exists():
                raise BrowserNotFound(f"{build.path} does not exist") from error
            if isinstance(error, OSError):
                raise BrowserStartFailed(f"{build.path} could not be started: {error}") from error
            raise
        try:
            await self._become_ready(limit)
        except BaseException:
            await self.kill()
            raise
        return self

    async def _spawn(
        self,
        proxy_server: str | None,
        args: Sequence[str],
        *,
        udp: bool,
        sandbox: bool,
        isolation: Isolation | None,
    ) -> None:
        switches = command_line(
            self.build.kind,
            self.user_data_dir,
            proxy_server=proxy_server,
            udp=udp,
            args=args,
            sandbox=sandbox,
            small_shm=isolation is None and shm_is_small(),
        )
        arguments = [os.fspath(self.build.path), *switches]
        own_home = self.uid is not None or isolation is not None
        environment = child_environment(os.environ, self._scratch_dir, own_uid=own_home)
        if isolation is None:
            child = spawn(self._identity.command(arguments), environment)
            self._watch(child.pid, child.stderr, (child.from_child, child.to_child))
        else:
            await to_the_end(self._launch(isolation, arguments, environment))

    async def _launch(
        self, isolation: Isolation, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Launch it in its place; whatever is cancelled, it is known here afterwards."""
        plan = await in_thread(isolation.plan, self.build, self.user_data_dir, self._scratch_dir)
        order = Launch(plan, self._identity.take_launched(), arguments, environment)
        launched = await isolation.launcher.launch(order, lock=self._identity.lock, groups=isolation.groups)
        self._attendant, [self._listener] = launched.attendant, launched.listeners
        self._ends_as_one = isolation.means.processes
        self._watch(launched.pid, launched.stderr, (launched.from_child, launched.to_child))

    def _watch(self, pid: int, stderr: int, pipe: tuple[int, int]) -> None:
        self.pid, self._stderr_fd, self._pipe = pid, stderr, pipe
        self._loop.add_reader(stderr, self._read_stderr)
        watch_exit(pid, self._loop, self._on_exit)

    async def _become_ready(self, timeout: timedelta) -> None:
        seconds = timeout.total_seconds()
        # Without a pipe it has ended before its launch returned here.
        if self._pipe is not None and await self._answers(*self._pipe, seconds):
            self._find_orphans()
            return
        await self.kill()
        if self._killed:
            message = f"{self.build.path} was not ready within {seconds:g} s"
        else:
            message = f"{self.build.path} ended with status {self.returncode} instead of starting"
        words = self.stderr_tail()
        if self.uid is not None and _NOT_EXECUTED in words:
            message = f"{self.build.path} could not be started"
        else:
            message += "".join(f": {advice}" for seen, advice in _SANDBOX_ADVICE.items() if seen in words)
        raise BrowserStartFailed(message, stderr=words)

    async def _answers(self, read_fd: int, write_fd: int, seconds: float) -> bool:
        """Wait until it has said its port and answered; return False if it has ended, or time is up."""
        os.set_blocking(read_fd, False)
        answered = self._loop.create_future()
        self._loop.add_reader(read_fd, _read_answer, read_fd, bytearray(), answered)
        ready = asyncio.ensure_future(self._read_address(answered))
        try:
            with suppress(BrokenPipeError):  # it has ended; that is seen below
                os.write(write_fd, _VERSION)
            ends: set[asyncio.Future[Any]] = {ready, self._exited}
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._pipe is not None:  # else it is closed, and its number may belong to another file by now
                self._loop.remove_reader(read_fd)
            done = ready.done()
            ready.cancel()
        if done:
            self.port, self.browser_path = ready.result()
        return done

    async def _read_address(self, answered: asyncio.Future[None]) -> tuple[int, str]:
        # Not from the file DevToolsActivePort: a profile may come with an old one.
        while not (match := _LISTENING.search(self._stderr)):
            self._stderr_news.clear()
            await self._stderr_news.wait()
        await answered
        return int(match[1]), match[2].decode()

    # --- while it runs --------------------------------------------------------------------------------------------

    def take_pipe(self) -> tuple[int, int]:
        """Return the debugging pipe's descriptors, to read from and to write to; they belong to the caller from now on.

        Chromium ends when the second one is closed.

        Raises:
            BrowserExited: It has ended meanwhile.
        """
        if self.returncode is not None:
            raise BrowserExited(self.returncode, stderr=self.stderr_tail())
        if self._pipe is None:
            raise RuntimeError("the debugging pipe has been taken already")
        pipe, self._pipe = self._pipe, None
        return pipe

    @property
    def isolated(self) -> bool:
        """Whether it lives in a place of its own; then `port` is in the network of that."""
        return self._attendant is not None

    async def connect(self) -> socket.socket:
        """Return a socket that is connected to `port` of an isolated browser.

        Raises:
            OSError: It does not listen, or has ended.
        """
        assert self._attendant is not None
        made = await self._attendant.new_socket()
        try:
            await self._loop.sock_connect(made, ("127.0.0.1", self.port))
        except BaseException:
            made.close()
            raise
        return made

    async def listen(self) -> socket.socket:
        """Return a bound socket of an isolated browser's network to listen on: first that of `PROXY_PORT`, which listens already.

        Raises:
            OSError: No port is free, or the browser has ended.
        """
        assert self._attendant is not None
        if self._listener is not None:
            listener, self._listener = self._listener, None
            return listener
        made = await self._attendant.new_socket()
        try:
            made.bind(("127.0.0.1", 0))
        except BaseException:
            made.close()
            raise
        return made

    def stderr_tail(self) -> str:
        """Return the last lines that it wrote to stderr, without the address of its DevTools server."""
        lines = self._stderr.decode(errors="replace").strip().splitlines()[-_STDERR_LINES:]
        return _SECRET_PATH.sub("/devtools/browser/…", "\n".join(lines))

    async def wait(self) -> int:
        """Wait until it has exited, by whatever cause, and return its exit status."""
        return await asyncio.shield(self._exited)

    def _read_stderr(self) -> None:
        try:
            data = os.read(self._stderr_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._stderr += data
            del self._stderr[:-_STDERR_BYTES]
            self._stderr_news.set()
        else:  # no process of the group is left
            self._loop.remove_reader(self._stderr_fd)
            self._stderr_ended.set()

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self, *, timeout: timedelta = _STOP_TIMEOUT) -> Literal["closed", "exited", "killed"]:
        """Close the pipe, wait for it to leave, kill it after `timeout`, and free all it held.

        Who has taken the pipe closes it first. Cancelled, it kills at once.

        Returns:
            `"closed"` when it left in time, `"exited"` when it had ended before, `"killed"` when we killed it, now or
            before.
        """
        how: Literal["closed", "exited"] = "closed" if self.returncode is None else "exited"
        self._close_pipe()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self.wait()
        except TimeoutError:  # `wait` raises none of its own
            self._kill_group()
        except BaseException:
            self._kill_group()
            raise
        await self._free_resources()
        return "killed" if self._killed else how

    async def kill(self) -> None:
        """Kill it and all its children at once, and free all it held. Again, it does nothing."""
        self._kill_group()
        await self._free_resources()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _kill_group(self) -> None:
        if self.returncode is None:
            self._killed = True
            # Where it cannot be waited for without reaping it, its end may not be known here yet; macOS refuses a group of zombies.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _free_resources(self) -> None:
        await self.wait()
        assert self._putting_away is not None
        await asyncio.shield(self._putting_away)

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, None
        for fd in pipe or ():
            self._loop.remove_reader(fd)
            os.close(fd)

    def _on_exit(self, status: int) -> None:
        self.returncode = status if self._attendant is None else self._attendant.exit_status(status)
        self._close_pipe()
        self._exited.set_result(self.returncode)
        self._putting_away = self._loop.create_task(self._clean_up(self.returncode))

    async def _clean_up(self, returncode: int) -> None:
        self._find_orphans()
        if returncode >= 0:
            await self._wait_for_others(_LAST_WRITES_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._ends_as_one:
            self._identity.note_ended()
        else:
            await in_thread(self._identity.kill_processes)
        await self._wait_for_others(_KILL_SECONDS)
        await self._reap()
        self._loop.remove_reader(self._stderr_fd)
        os.close(self._stderr_fd)
        if self._attendant is not None:
            self._attendant.close()
        if self._listener is not None:
            self._listener.close()
        await remove_trees(self._own_folders)
        await in_thread(self._identity.give_back)

    def _find_orphans(self) -> None:
        if self._attendant is None:  # else they are that one's children
            self._orphans |= orphans(self._scratch_dir)

    async def _wait_for_others(self, seconds: float) -> None:
        """Wait until no process of the group holds stderr, or its folders, any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stderr_ended.wait()

    async def _reap(self) -> None:
        """Reap the main process, and those that became our children: we may be a container's first process."""
        for pid in self._orphans:
            os.kill(pid, signal.SIGKILL)  # not reaped, so the number is still theirs
        for selected in (-self.pid, *self._orphans):
            with suppress(ChildProcessError, TimeoutError):
                async with asyncio.timeout(_REAP_SECONDS):
                    while True:
                        pid, _ = os.waitpid(selected, os.WNOHANG)  # noqa: ASYNC222  # does not wait
                        if pid == 0:
                            await asyncio.sleep(_POLL_SECONDS)


def _read_answer(fd: int, received: bytearray, answered: asyncio.Future[None]) -> None:
    try:
        data = os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return
    received += data
    if not data:
        asyncio.get_running_loop().remove_reader(fd)  # it is ending; its exit status says more
    elif b"\0" in data and not answered.done():
        message = json.loads(received[: received.index(0)])
        if "result" in message:
            answered.set_result(None)
        else:
            answered.set_exception(
                BrowserStartFailed(f"Browser.getVersion was refused: {message.get('error')}")
            )


def _temporary(made: list[Path], purpose: str, identity: Identity) -> Path:
    made.append(identity.temporary_folder(purpose))
    return made[-1]
