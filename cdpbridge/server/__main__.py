"""`python -m cdpbridge.server`: the server without the command line tool around it."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server import Settings, serve, settings_table


def main(arguments: list[str] | None = None) -> int:
    """Run the server; 2 for a bad configuration."""
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
    parser.add_argument("--show-settings", action="store_true", help="print every setting and end")
    given = parser.parse_args(arguments)
    if given.show_settings:
        print(settings_table())  # noqa: T201  # asked for
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load(
            given.config,
            host=given.host,
            port=given.port,
            data_dir=given.data_dir,
            api_keys=given.api_key,
        )
        serve(settings, dead_man_fd=given.dead_man_fd)
    except CDPBridgeError as error:
        print(f"cdpbridge: {error}", file=sys.stderr)  # noqa: T201  # for the person who starts it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
