"""From a worker's address to a connection at whose other end the worker has shown that it knows the secret."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

from cdpbridge.errors import ConfigurationError

from ._auth import ADMISSION_BYTES, GREETING_BYTES, Status, open_with, status_of
from ._channel import Channel
from ._protocol import Hello, encoded
from ._slots import WorkerAddress
from ._tls import ServerTls, bound, tls_problem

__all__ = ["Dialler", "NotAdmitted", "host_and_port"]

# A worker answers in milliseconds; the server and its gateway give a browser some seconds.
_DIAL_SECONDS: Final = 4.0


class NotAdmitted(OSError):
    """A worker is there, and is not the one that is meant, or does not know the secret.

    Attributes:
        status: What it has answered; None when it has not shown that it knows the secret.
    """

    def __init__(self, text: str, status: Status | None = None) -> None:
        super().__init__(text)
        self.status = status


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of `host:port`, an IPv6 address in brackets.

    Raises:
        ConfigurationError: It is something else.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != address or parts.username is not None:
        raise ConfigurationError(f"{address!r} is not host:port; write 10.0.0.5:8710 or [2001:db8::5]:8710")
    return host, port


class Dialler:
    """Opens connections to workers.

    Args:
        secret: Of all servers and workers.
        tls: What workers with TLS are checked by; default: the secret alone.
    """

    def __init__(self, secret: bytes, tls: ServerTls | None = None) -> None:
        self._secret = secret
        self._tls = tls or ServerTls(None)

    async def dial(self, worker: WorkerAddress, hello: Hello) -> Channel:
        """Return a connection to a worker, admitted for what `hello` says, from which nothing more was read.

        Raises:
            NotAdmitted: The worker does not want it, or is not the one that is meant.
            OSError: It cannot be reached.
        """
        if self._tls.required and not worker.tls:
            raise NotAdmitted(
                f"worker {worker.address} speaks no TLS, and this server takes no such worker, as `worker_tls_ca` is set; start the "
                "worker with `worker_tls_certificate`"
            )
        channel = Channel()
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                await _connect(channel, worker, self._tls)
                await _admitted(channel, worker, bound(self._secret, channel.certificate), hello)
        except BaseException as error:
            channel.abort()
            if isinstance(error, TimeoutError):
                raise OSError(f"worker {worker.address} does not answer") from None
            if isinstance(error, EOFError):
                closed = f"worker {worker.address} has closed the connection: {_closed(worker)}"
                raise NotAdmitted(closed) from None
            raise
        return channel

    async def streams(
        self, worker: WorkerAddress, hello: Hello
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the streams of a connection to a worker; see `dial`."""
        channel = await self.dial(worker, hello)
        try:
            return channel.streams()
        except BaseException:
            channel.abort()
            raise


async def _connect(channel: Channel, worker: WorkerAddress, tls: ServerTls) -> None:
    host, port = host_and_port(worker.address)
    more: dict[str, Any] = {}
    if worker.tls:
        more = {"ssl": tls.get(), "server_hostname": tls.name or host, "ssl_handshake_timeout": _DIAL_SECONDS}
    try:
        await asyncio.get_running_loop().create_connection(lambda: channel, host, port, **more)
    except OSError as error:  # an `SSLError` is one
        text = tls_problem(error, worker.address, tls.name or host)
        if text is None:
            raise
        raise NotAdmitted(text) from error


async def _admitted(channel: Channel, worker: WorkerAddress, key: bytes, hello: Hello) -> None:
    greeted = await channel.read(GREETING_BYTES)
    opening = open_with(key, greeted, json.dumps(encoded(hello)).encode())
    if opening is None:
        raise NotAdmitted(f"what listens at {worker.address} is no worker of this version")
    channel.write(opening.data)
    status = status_of(key, opening.key, await channel.read(ADMISSION_BYTES))
    if status is not Status.ADMITTED:
        raise NotAdmitted(f"worker {worker.address} refuses: {_WORDS[status]}", status)


def _closed(worker: WorkerAddress) -> str:
    if worker.tls:
        return "it may have another secret, or something in between shows its own certificate; compare `worker_secret`"
    return "it may have another secret, or speak TLS without having registered so; compare `worker_secret`"


_WORDS: Final = {
    None: "it has not shown that it knows the secret",
    Status.OTHER_WORKER: "another worker runs at this address now",
    Status.NO_BROWSER: "it does not run this browser",
    Status.UNKNOWN: "it does not know what is asked of it",
}
