"""One request without an event loop and without retries, for the end of the interpreter."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from cdpbridge.api._http import failure, http_options, read_answer, readable_environment, request_of
from cdpbridge.api._httpx import httpx
from cdpbridge.api._models import BrowserSession
from cdpbridge.api.calls._browsers import stop_browser

__all__ = ["stop_now"]

_TIMEOUT_SECONDS: Final = 10.0


def stop_now(browser_id: UUID | str, *, base_url: str, api_key: str) -> BrowserSession:
    """Stop a browser by one blocking request; return its record.

    Raises:
        APIError: The server refused, or did not answer within 10 s.
    """
    call = stop_browser(browser_id)
    with readable_environment():
        http = httpx.Client(**http_options(base_url))
    try:
        with http:
            response = http.request(**request_of(call, base_url, api_key, _TIMEOUT_SECONDS))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failure(call, error) from error
    return read_answer(call, response, secret=api_key)
