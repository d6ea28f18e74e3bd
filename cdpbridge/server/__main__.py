"""`python -m cdpbridge.server`: the server without the command line tool around it."""

from __future__ import annotations

import argparse
import gc
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from cdpbridge._embedded import check_installed
from cdpbridge._embedded._folder import LOG_FILE, Kind
from cdpbridge._embedded._hello import Answer, Hello, receive_line
from cdpbridge.errors import CDPBridgeError, ConfigurationError


def _owners_settings() -> dict[str, Any]:
    """Return the first line of standard input; what follows is left to the dead-man switch, so nothing is read ahead."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ConfigurationError("--owned: the first line of standard input is no JSON") from error
    if not isinstance(found, dict):
        raise ConfigurationError(
            "--owned: the first line of standard input must be a JSON object of settings"
        )
    return found


def _serve_beside(data_dir: Path, why: str, run: Callable[..., object]) -> None:
    """Serve a second program of this machine in a folder of its own, the first that is free.

    Two programs at a time are normal, and one server uses a data folder. The folders stay: what a killed server leaves in one
    is for the next that takes it.
    """
    from cdpbridge.server.data_dir import BESIDE, ServerRuns  # noqa: PLC0415  # after `gc.disable`

    for number in count(1):
        try:
            run(data_dir=data_dir / BESIDE / str(number), beside=why)
        except ServerRuns:
            continue
        return


def _serve_shared(lock: int, ready: Callable[[str], object]) -> int:
    """Serve the programs that share a data folder; the first one is at the other end of standard input, and has the errors, too."""
    from cdpbridge.server import Settings, serve  # noqa: PLC0415  # after `gc.disable`
    from cdpbridge.server._log import log_to_file  # noqa: PLC0415  # as above
    from cdpbridge.server._programs import Programs  # noqa: PLC0415  # as above
    from cdpbridge.server.data_dir import FolderLock  # noqa: PLC0415  # as above

    own_key = secrets.token_urlsafe()  # of no program: each has a key of its own

    def load(hello: Hello) -> Settings:
        given = dict(hello.settings)
        config = given.pop("config", None)
        return Settings.load(
            None if config is None else Path(config),
            simulate_countries=True,
            environment=hello.environment,
            **given | {"host": "127.0.0.1", "port": 0, "api_keys": own_key},
        )

    def ready_for_all(url: str) -> None:
        # The folder of the first program is not held.
        os.chdir("/")
        ready(url)

    os.set_inheritable(lock, False)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as starter:
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())
        line = receive_line(starter)
        if not line:
            return 0
        try:
            hello = Hello.of(line)
            settings = load(hello)
            log_to_file(settings.data_dir / LOG_FILE)
            serve(
                settings,
                ready=ready_for_all,
                lock=FolderLock(Kind.SHARED, lock),
                order_follows=hello.order_follows,
                programs=Programs(settings, starter, load),
            )
        except CDPBridgeError as error:
            with suppress(OSError):  # it has ended meanwhile
                starter.sendall(Answer(os.getpid(), refusal=str(error)).line())
            return 2
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the server; 2 for a bad configuration."""
    # Models of the server have no plugins; to look for them reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
    # What is imported stays: to look for garbage in it takes a sixth of the imports' CPU.
    gc.disable()
    try:
        return _main(argv)
    finally:
        gc.enable()


def _main(argv: list[str] | None) -> int:
    try:
        check_installed()
    except ConfigurationError as error:
        print(f"cdpbridge: {error}", file=sys.stderr)  # noqa: T201  # for the person who starts it
        return 2
    from cdpbridge.server import Settings, log_to_stderr, serve, settings_table  # noqa: PLC0415  # after `gc.disable`
    from cdpbridge.server._serve import print_ready  # noqa: PLC0415  # as above
    from cdpbridge.server.data_dir import FolderLock  # noqa: PLC0415  # as above

    def unfrozen(_url: str) -> None:
        """Begin to collect garbage, of what comes from now on only."""
        gc.freeze()
        gc.enable()

    def ready(url: str) -> None:
        unfrozen(url)
        print_ready(url)

    parser = argparse.ArgumentParser(
        prog="python -m cdpbridge.server", description="Browser Use Cloud API v2 over Chromium."
    )
    parser.add_argument("--config", type=Path, help="TOML file with settings")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--data-dir", type=Path, help="folder of the database, the profiles and the running browsers"
    )
    parser.add_argument(
        "--api-key", help="API key; visible in the list of processes, so rather set CDPBRIDGE_API_KEYS"
    )
    parser.add_argument("--dead-man-fd", type=int, help="stop when the other end of this pipe closes")
    parser.add_argument(
        "--owned",
        action="store_true",
        help="read settings as one line of JSON from standard input, and stop when standard input closes",
    )
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lock-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--show-settings", action="store_true", help="print every setting and end")
    given = parser.parse_args(argv)
    if given.show_settings:
        print(settings_table())  # noqa: T201  # asked for
        return 0
    arguments = {
        "host": given.host,
        "port": given.port,
        "data_dir": given.data_dir,
        "api_keys": given.api_key,
    }
    try:
        if given.shared:
            return _serve_shared(given.lock_fd, unfrozen)
        log_to_stderr(quiet=given.owned)
        if given.owned:
            arguments |= _owners_settings()
        config = arguments.pop("config", given.config)
        beside = arguments.pop("beside", "")
        order_follows = arguments.pop("order_follows", False)
        load = partial(
            Settings.load, None if config is None else Path(config), simulate_countries=given.owned
        )
        settings = load(**arguments)
        run = partial(
            serve,
            ready=ready,
            dead_man_fd=sys.stdin.fileno() if given.owned else given.dead_man_fd,
            lock=FolderLock(Kind.PRIVATE if given.owned else Kind.SERVER, given.lock_fd),
            order_follows=order_follows,
        )
        if beside:
            _serve_beside(settings.data_dir, beside, lambda **own: run(load(**arguments | own)))
        else:
            run(settings)
    except CDPBridgeError as error:
        print(f"cdpbridge: {error}", file=sys.stderr)  # noqa: T201  # for the person who starts it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
