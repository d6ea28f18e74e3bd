"""`python -m cdpbridge.server`: the server without the command line tool around it."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from cdpbridge._local_server import check_installed
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


def main(argv: list[str] | None = None) -> int:
    """Run the server; 2 for a bad configuration."""
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
    from cdpbridge.server.data_dir import ServerRuns  # noqa: PLC0415  # as above

    def ready(url: str) -> None:
        """Print the ready line, and begin to collect garbage, of what comes from now on only."""
        gc.freeze()
        gc.enable()
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
        log_to_stderr(quiet=given.owned)
        if given.owned:
            arguments |= _owners_settings()
        config = arguments.pop("config", given.config)
        load = partial(
            Settings.load, None if config is None else Path(config), simulate_countries=given.owned
        )
        settings = load(**arguments)
        run = partial(
            serve, ready=ready, dead_man_fd=sys.stdin.fileno() if given.owned else given.dead_man_fd
        )
        try:
            run(settings)
        except ServerRuns as error:
            if not given.owned or settings.model_fields_set & {"data_dir", "database_url"}:
                raise
            _serve_beside(settings.data_dir, str(error), lambda **own: run(load(**arguments | own)))
    except CDPBridgeError as error:
        print(f"cdpbridge: {error}", file=sys.stderr)  # noqa: T201  # for the person who starts it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
