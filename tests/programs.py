"""Python programs of tests without the time of their imports: forks of a process that has done these already.

`Program` and `run` are `subprocess.Popen` and `subprocess.run` for commands that begin with `sys.executable`, as far as tests use
them. What a program does is the same; what differs is its start, so tests of a start, of imports or of `/proc/PID/cmdline` use
`subprocess`. To start Python and import the server takes 0.8 s of CPU, a fork 0.03 s: several hundred programs of a whole run.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import PIPE, STDOUT, CompletedProcess, TimeoutExpired

import pytest

PRELOADED = Path(__file__).with_name("preloaded.py")
# All that the server, the command line and the programs of users import; no `__main__`, which runs as such.
MODULES = (
    "cdpbridge.cli._app",
    "cdpbridge.playwright",
    "cdpbridge.server._listener",
    "cdpbridge.server._serve",
)


# Only Linux has it; on macOS, a process with all these imports cannot be forked safely, so programs are started there.
FORKS = hasattr(os, "pidfd_open")
COMMAND = """#!{python} -IS
import os, socket, sys, json
control = socket.socket(fileno=int(os.environ["FORK"]))
status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
request = dict(arguments=["-m", {module!r}, *sys.argv[1:]], cwd=os.getcwd(), env=dict(os.environ), new_session=False, pass_fds=[])
socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno(), 0, 1, 2])
theirs.close()
status.recv(32)
sys.exit(int(status.recv(32)))
"""
STARTED = '#!/bin/sh\nexec {python} -m {module} "$@"\n'


class Preloaded:
    """A process that forks programs; started by the first, it ends with this one.

    Args:
        python: Its interpreter.
        modules: What it imports.
        options: `env` and `cwd` of its start, for the search of modules.
    """

    def __init__(self, python: Path | str = sys.executable, modules: Sequence[str] = MODULES, **options):
        self._command = [str(python), str(PRELOADED)]
        self._modules = modules
        self._options = options
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, request: Mapping[str, object], descriptors: Sequence[int]) -> None:
        """Start a program; `descriptors` are the socket of its status, its standard streams, and what it inherits."""
        with self._lock:
            if self._control is None:
                self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                command = [*self._command, str(theirs.fileno()), *self._modules]
                with theirs:
                    self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], **self._options)
                atexit.register(self.close)
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)

    def write_command(self, file: Path, module: str) -> None:
        """Write a command for `shell` that has `python -m MODULE` forked, or started; no signal reaches what is forked."""
        file.write_text((COMMAND if FORKS else STARTED).format(python=self._command[0], module=module))
        file.chmod(0o755)

    def shell(self, lines: str, *, env: Mapping[str, str], **options) -> CompletedProcess:
        """Run lines of a shell, with commands of `write_command` among them; as `subprocess.run`."""
        if FORKS:
            run([self._command[0], "-c", ""], by=self)  # so it is there
            descriptor = self._control.fileno()
            options |= {"pass_fds": [descriptor]}
            env = {**env, "FORK": str(descriptor)}
        return subprocess.run(["sh", "-ec", lines], env=env, check=False, **options)

    def close(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._process.wait()
                self._control = self._process = None
                atexit.unregister(self.close)


_preloaded = Preloaded()


class Program:
    """A running program, with what tests use of `subprocess.Popen`.

    Args:
        command: `sys.executable` and its arguments.
        pass_fds: Descriptors that it has under the same numbers.
        by: The process that forks it.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        text: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        pass_fds: Sequence[int] = (),
        start_new_session: bool = False,
        by: Preloaded = _preloaded,
    ):
        self.args = [str(each) for each in command]
        self.returncode: int | None = None
        self._communicated: dict[str, Future] = {}
        self._lock = threading.Lock()
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.enter_context(theirs)
            self.stdin, reading = self._pipe(stack, stdin, 0, text)
            self.stdout, writing = self._pipe(stack, stdout, 1, text)
            if stderr == STDOUT:
                self.stderr, errors = None, writing
            else:
                self.stderr, errors = self._pipe(stack, stderr, 2, text)
            request = {
                "arguments": self.args[1:],
                "cwd": str(cwd or os.getcwd()),
                "env": dict(os.environ if env is None else env),
                "new_session": start_new_session,
                "pass_fds": list(pass_fds),
            }
            by.fork(request, [theirs.fileno(), reading, writing, errors, *pass_fds])
        self.pid = self._told()

    @staticmethod
    def _pipe(stack: ExitStack, given, number: int, text: bool):
        """Our end of a stream, if it is a pipe, and the program's descriptor."""
        if given is None:
            return None, number
        if given == subprocess.DEVNULL:
            descriptor = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, descriptor)
            return None, descriptor
        if given != PIPE:
            return None, given if isinstance(given, int) else given.fileno()
        reading, writing = os.pipe()
        ours, theirs = (writing, reading) if number == 0 else (reading, writing)
        stack.callback(os.close, theirs)
        mode = "w" if number == 0 else "r"
        return open(ours, mode) if text else open(ours, f"{mode}b"), theirs

    def _told(self) -> int:
        """The next number that the forking process says of this program."""
        packet = self._status.recv(32)
        assert packet, f"the process that forks programs has ended: {self.args}"
        return int(packet)

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._wait(timeout) is None:
            raise TimeoutExpired(self.args, timeout)
        return self.returncode

    def _wait(self, timeout: float | None) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            # The lock is not held for long: other threads may ask, too, and send signals.
            with self._lock:
                if self.returncode is None and select.select([self._status], [], [], 0)[0]:
                    self.returncode = self._told()
                    self._status.close()
            if self.returncode is None:
                left = 1 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    break
                with suppress(ValueError, OSError):  # another thread has closed it: the status is there
                    select.select([self._status], [], [], min(left, 1))
        return self.returncode

    def communicate(self, timeout: float | None = None):
        """All that it writes, when it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.stdin is not None:
            with suppress(BrokenPipeError):  # it has not read all that was written
                self.stdin.close()
        streams = {name: stream for name in ("stdout", "stderr") if (stream := getattr(self, name))}
        if not self._communicated:
            with_threads = ThreadPoolExecutor(2)
            self._communicated = {name: with_threads.submit(each.read) for name, each in streams.items()}
            with_threads.shutdown(wait=False)

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        try:
            written = {name: each.result(left()) for name, each in self._communicated.items()}
        except NotDone as error:
            raise TimeoutExpired(self.args, timeout) from error
        for stream in streams.values():
            stream.close()
        self.wait(left())
        return written.get("stdout"), written.get("stderr")

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ends at this moment
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


class Started(subprocess.Popen):
    """A program that is started where none is forked."""

    def __init__(self, command: Sequence[str | Path], *, by: Preloaded | None = None, **options):
        super().__init__(command, **options)


if not FORKS:
    Program = Started


def fork_local_servers(patch: pytest.MonkeyPatch) -> None:
    """Let `local()` of this process fork its server, too."""
    forking = types.SimpleNamespace(**vars(subprocess) | {"Popen": Program})
    patch.setattr("cdpbridge._embedded._spawn.subprocess", forking)


def run(
    command: Sequence[str | Path],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    input: str | None = None,  # noqa: A002  # as in `subprocess.run`
    **options,
) -> CompletedProcess:
    """Run a program to its end."""
    if input is not None:
        options |= {"stdin": PIPE}
    if capture_output:
        options |= {"stdout": PIPE, "stderr": PIPE}
    with Program(command, **options) as program:
        try:
            if input is not None:
                program.stdin.write(input)
            stdout, stderr = program.communicate(timeout=timeout)
        except BaseException:
            program.kill()
            raise
    done = CompletedProcess(program.args, program.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done
