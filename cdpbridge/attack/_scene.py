"""What attacks have at hand: the attacker's browser, a neighbour's, and what is known of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from cdpbridge.api import AsyncClient
from cdpbridge.browser import Browser
from cdpbridge.cdp import Connection
from cdpbridge.cdp._switches import downloads_folder
from cdpbridge.errors import CDPError

from ._canary import Canary
from ._findings import Verdict, allowed, through
from ._page import opened
from ._targets import profile_folder

__all__ = ["Attack", "Rented", "Scene", "Server"]


class Attack(NamedTuple):
    """One entry of the table of attacks.

    Attributes:
        area: As of `Finding`.
        name: What is tried.
        work: Tries it.
        alone: Nothing else is tried meanwhile: it would be taken for its effect.
    """

    area: str
    name: str
    work: Callable[[], Awaitable[Verdict]]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of the server from outside.

    Attributes:
        base_url: Of its REST API.
        addresses: Addresses and names of its machine, as far as they are known.
        private: Whether it says that browsers may reach private addresses; None if it does not say.
        isolation: What it says of its isolation; empty if nothing.
        here: Whether it runs on this machine, so that files and listeners of this machine are its machine's.
    """

    base_url: str
    addresses: Sequence[str] = ()
    private: bool | None = None
    isolation: str = ""
    here: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def ports(self) -> list[int]:
        """Ports that it may listen on: of its address, and the default."""
        parts = urlsplit(self.base_url)
        return list(dict.fromkeys([parts.port or (443 if parts.scheme == "https" else 80), 8700]))


@dataclass(frozen=True, slots=True)
class Rented:
    """A rented browser, and where it lives on the server's machine.

    Attributes:
        command_line: Its own.
        profile: Its profile folder; empty if it is not known.
        downloads: Its folder of downloads.
        port: Its debugging port; 0 if it is not known.
        full: Whether it is the full build.
    """

    browser: Browser
    command_line: str = ""
    profile: str = ""
    downloads: str = ""
    port: int = 0
    full: bool = False

    @property
    def connection(self) -> Connection:
        """To it."""
        return self.browser.connection

    @property
    def folder(self) -> str:
        """What holds its profile; empty if it is not known."""
        return str(PurePosixPath(self.profile).parent) if self.profile else ""

    @classmethod
    async def find(cls, browser: Browser) -> Rented:
        """Ask a browser about itself."""
        root = browser.connection.root
        product = (await root.send("Browser.getVersion"))["product"]
        try:
            command_line = str((await root.send("SystemInfo.getInfo"))["commandLine"])
        except CDPError:
            return cls(browser, full="Headless" not in product)
        profile = profile_folder(command_line) or ""
        port = 0
        if profile:
            # Where Chromium writes it: in a file of its own, which it may read.
            text = (await opened(browser.connection, f"file://{profile}/DevToolsActivePort")).text
            port = int(text.split()[0]) if text.split()[:1] and text.split()[0].isdecimal() else 0
        return cls(
            browser,
            command_line,
            profile,
            downloads_folder(command_line) or "",
            port,
            "Headless" not in product,
        )


@dataclass(slots=True)
class Scene:
    """An attack's surroundings.

    Attributes:
        attacker: The browser that attacks.
        neighbour: Another browser of the same server; None if it could not be had.
        canary: Listens on the server's machine; None elsewhere.
        paths: Files and folders that the operator has named.
        other: A client of another project; None without a key of one.
    """

    server: Server
    client: AsyncClient
    attacker: Rented
    neighbour: Rented | None
    canary: Canary | None
    paths: Sequence[str] = ()
    other: AsyncClient | None = None
    no_neighbour: str = field(default="")

    def private_reached(self, detail: str) -> Verdict:
        """Return the verdict on a private address that was reached."""
        if self.server.private:
            return allowed(f"{detail}; the server allows private addresses (private_network)")
        return through(detail)
