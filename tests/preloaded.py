"""A Python that has imported the package and forks programs of tests: `python tests/preloaded.py SOCKET MODULE...`

`tests/programs.py` is the other side. Each request is one packet: JSON, and the descriptors of the program. Of each program, this
process says the pid and then, when it has ended, the status, over a socket of that program's own.
"""

from __future__ import annotations

import atexit
import builtins
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import NoReturn

PACKET = 1 << 20
DESCRIPTORS = 32
# Descriptors of a program are moved above those that it asks for, and then to their places.
FIRST_FREE = 200


def serve(control: socket.socket) -> dict | None:
    """Fork programs until the other side closes; in each program, return its request."""
    running: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    pid, status = running.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    tell(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    status.close()
                    continue
                packet, descriptors, _, _ = socket.recv_fds(control, PACKET, DESCRIPTORS)
                if not packet:
                    return None
                status = socket.socket(fileno=descriptors.pop(0))
                pid = os.fork()
                if pid == 0:
                    status.close()
                    for descriptor, (_, other) in running.items():
                        os.close(descriptor)
                        other.close()
                    control.close()
                    return json.loads(packet) | {"descriptors": descriptors}
                for descriptor in descriptors:
                    os.close(descriptor)
                tell(status, pid)
                waiting = os.pidfd_open(pid)
                running[waiting] = pid, status
                selector.register(waiting, selectors.EVENT_READ)


def tell(status: socket.socket, number: int) -> None:
    try:
        status.send(str(number).encode())
    except BrokenPipeError:  # the test does not wait for its end
        return


def become(request: dict) -> None:
    """Make this process what the command, the folder and the environment of the request describe."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["new_session"]:
        os.setsid()
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, FIRST_FREE) for each in request["descriptors"]]
    for descriptor in request["descriptors"]:
        os.close(descriptor)
    for descriptor, place in zip(moved, [0, 1, 2, *request["pass_fds"]], strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115  # to the end
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty(), write_through=unbuffered)
    sys.stderr.reconfigure(line_buffering=True, write_through=unbuffered)
    del sys.path[0]  # the folder of this file
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def run(arguments: list[str]) -> None:
    """Do what `python` with these arguments does."""
    while arguments[0] == "-W":
        action, _, category = arguments[1].partition("::")
        warnings.simplefilter(action, getattr(builtins, category or "Warning"))
        del arguments[:2]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        code = compile(arguments[1], "<string>", "exec")
    else:
        sys.argv = arguments
        main.__file__ = arguments[0]
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        code = compile(Path(arguments[0]).read_bytes(), arguments[0], "exec")
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def end(status: int) -> NoReturn:
    """End as Python does, but for the freeing of all modules: in a fork, that copies most of the memory (55 of 60 ms of CPU).

    It may show warnings, so programs with `-W` do not come here; nor do those that end by an exception.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: for pytest and the programs
    gc.disable()
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()
    found = serve(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        become(found)
        warned = "-W" in found["arguments"]
        try:
            run(found["arguments"])
        except SystemExit as ending:
            if warned or not isinstance(ending.code, int | None):
                raise
            end(ending.code or 0)
        if not warned:
            end(0)
