"""The image, where it is tried, and how its server is asked."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from _checks import CREDITS, KEY
from _container import Container, Image, Options, running

__all__ = ["AS_COMPOSE", "PROFILE", "READY", "UID", "Rows", "Trial", "free_port"]

Rows: TypeAlias = Iterator[tuple[str, str]]

PROFILE: Final = Path(__file__).resolve().parent / "seccomp.json"
AS_COMPOSE: Final = Options(PROFILE)
READY: Final = "cdpbridge: serving "
UID: Final = 10001
# A machine that does much else takes longer than a server waits for a browser.
_BUSY: Final = {"CDPBRIDGE_START_TIMEOUT_SECONDS": "110"}


class Trial:
    """The image and where it is tried.

    Args:
        image: Unpacked.
        work: For volumes, logs and bundles.
        site: `host:port` of the site of the demo.

    Attributes:
        port: Of the server; containers use the machine's network.
        url: Of its API.
    """

    def __init__(self, image: Image, work: Path, site: str) -> None:
        self.image = image
        self.work = work
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v2"
        self._site = site
        self._names = (f"cdpbridge-{os.getpid()}-{number}" for number in count(1))

    def data(self, name: str, owner: int = UID) -> Path:
        """Make a volume."""
        folder = self.work / name
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, owner)
        return folder

    @contextmanager
    def run(
        self, data: Path, variables: Mapping[str, str] | None = None, options: Options = AS_COMPOSE
    ) -> Iterator[Container]:
        """Run a server, with further variables; or a worker, if that is the command, with these alone."""
        own = {} if options.command else self._variables()
        chosen = replace(options, variables=_BUSY | own | dict(variables or {}))
        with running(self.image, chosen, data, self.work, next(self._names)) as container:
            yield container

    def _variables(self) -> dict[str, str]:
        return {
            "CDPBRIDGE_HOST": "127.0.0.1",
            "CDPBRIDGE_PORT": str(self.port),
            "CDPBRIDGE_API_KEYS": KEY,
            "CDPBRIDGE_CREDITS_USD": str(CREDITS),
            # As with a listener that others reach, but for the site of the demo.
            "CDPBRIDGE_PRIVATE_NETWORK": "deny",
            "CDPBRIDGE_PRIVATE_ALLOWED": f'["{self._site}"]',
        }

    def healthy(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


def free_port() -> int:
    """Return a port that no one uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
