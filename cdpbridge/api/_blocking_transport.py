"""Requests of an `AsyncClient` through a blocking client of httpx, with its proxies, certificates, hooks and credentials."""

from __future__ import annotations

from typing import Final

import httpx

from cdpbridge._concurrency import in_thread

__all__ = ["asynchronous"]

# What is true of the bytes that came, and not of what they were decoded to.
_OF_THE_BYTES: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def asynchronous(client: httpx.Client) -> httpx.AsyncClient:
    """Return a client for an event loop that sends through `client`, which stays open."""
    return httpx.AsyncClient(transport=_BlockingTransport(client), trust_env=False)


class _BlockingTransport(httpx.AsyncBaseTransport):
    """Sends each request from a thread; a cancelled caller waits for its end, which the timeout of the request bounds.

    Args:
        client: Stays open; threads may share it, as httpx documents.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer."""
        body = await request.aread()
        return await in_thread(self._send, request, body)

    def _send(self, request: httpx.Request, body: bytes) -> httpx.Response:
        again = self._client.build_request(
            request.method, request.url, headers=request.headers, content=body, extensions=request.extensions
        )
        answer = self._client.send(again, stream=True, follow_redirects=False)  # the key would go along
        try:
            content = answer.read()
        finally:
            answer.close()
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_THE_BYTES]
        return httpx.Response(answer.status_code, headers=headers, content=content)
