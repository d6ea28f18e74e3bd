"""Answers to HTTP authentication, with the credentials of the origin that asks.

Of the sessions whose `Fetch` handles challenges, Chromium asks one whose patterns match the request: those of the browser before those
of a page, and the one attached first before the others (LIVE, Chromium 156). What none of them is asked about goes on without a
login: in the headless shell by itself, in the full build by the server's doing (`server/hosts/_logins.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from cdpbridge.protocol import Command, Fetch

from ._http_credentials import HttpCredentials, pattern_of
from ._paused import answer_paused

if TYPE_CHECKING:
    from cdpbridge.cdp._connection import Connection

__all__ = ["HttpAuth", "log_in", "note_page"]

_KEPT_TRIES: Final = 1000
"""Requests that are remembered as answered; a second challenge follows the first answer within a round trip."""


class HttpAuth:
    """Credentials by their origins, and which requests have used them."""

    def __init__(self, credentials: Iterable[HttpCredentials] = ()) -> None:
        self._by_origin: dict[str, HttpCredentials] = {}
        self._tried: dict[str, None] = {}
        # By main frame: what its page has been given for itself comes first.
        self.pages: WeakValueDictionary[str, HttpAuth] = WeakValueDictionary()
        self.replace(credentials)

    def __repr__(self) -> str:
        return f"<HttpAuth for {', '.join(self._by_origin) or 'no origin'}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_origin)

    def add(self, credentials: HttpCredentials) -> bool:
        """Use `credentials` for their origin from now on; return False if they are in use already."""
        assert credentials.origin is not None  # as `checked_credentials` returns them
        if self._by_origin.get(credentials.origin) == credentials:
            return False
        self._by_origin[credentials.origin] = credentials
        return True

    def replace(self, credentials: Iterable[HttpCredentials]) -> None:
        """Use `credentials` from now on, and no others."""
        self._by_origin.clear()
        for each in credentials:
            self.add(each)

    def patterns(self) -> list[Fetch.RequestPattern]:
        """Return the patterns of the requests to be asked about."""
        return [Fetch.RequestPattern(url_pattern=pattern_of(each)) for each in self]

    def answer(self, event: Fetch.AuthRequired) -> Command[None]:
        """Return the answer to a challenge: the credentials of its origin, once for each request, else none.

        A proxy gets none.
        """
        challenge, request_id = event.auth_challenge, event.request_id
        of_page = self.pages.get(event.frame_id)
        found = None if of_page is None else of_page._by_origin.get(challenge.origin)  # noqa: SLF001
        found = found or self._by_origin.get(challenge.origin)
        if found is None or challenge.source == Fetch.AuthChallengeSource.PROXY or request_id in self._tried:
            self._tried.pop(request_id, None)
            response = Fetch.AuthChallengeResponse(response=Fetch.AuthChallengeResponseResponse.CANCEL_AUTH)
        else:
            self._tried[request_id] = None
            if len(self._tried) > _KEPT_TRIES:
                del self._tried[next(iter(self._tried))]
            response = Fetch.AuthChallengeResponse(
                response=Fetch.AuthChallengeResponseResponse.PROVIDE_CREDENTIALS,
                username=found.username,
                password=found.password,
            )
        return Fetch.continue_with_auth(request_id, response)


_browsers: WeakKeyDictionary[Connection, HttpAuth] = WeakKeyDictionary()


def note_page(connection: Connection, target_id: str, auth: HttpAuth) -> None:
    """Let what a page has been given for itself come before what the whole browser has."""
    if connection in _browsers:
        _browsers[connection].pages[target_id] = auth


async def log_in(connection: Connection, credentials: Iterable[HttpCredentials]) -> None:
    """Serve the requests of the whole browser, now and later: of pages, popups, frames, and workers of every kind.

    Raises:
        CDPError: The connection ended meanwhile.
    """
    auth = HttpAuth(credentials)
    if not list(auth):
        return
    _browsers[connection] = auth
    root = connection.root

    async def answer(command: Command[None], request_id: str) -> None:
        await answer_paused(root, command, request_id)

    def on_paused(event: Fetch.RequestPaused) -> None:
        go_on = Fetch.continue_request(event.request_id)
        connection.create_task(answer(go_on, event.request_id))

    def on_auth(event: Fetch.AuthRequired) -> None:
        connection.create_task(answer(auth.answer(event), event.request_id))

    root.on(Fetch.RequestPaused, on_paused)
    root.on(Fetch.AuthRequired, on_auth)
    await root.send(Fetch.enable(patterns=auth.patterns(), handle_auth_requests=True))
