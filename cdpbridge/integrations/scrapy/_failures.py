"""Failures of a browser as Scrapy's exceptions: what `RETRY_EXCEPTIONS` lists is what may pass."""

from __future__ import annotations

import re
from typing import Final

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    ResponseDataLossError,
)

from cdpbridge.errors import (
    APIConnectionError,
    APIResponseError,
    CDPError,
    CommandTimeout,
    EvaluationError,
    LeaseTimeout,
    NavigationError,
    RateLimitError,
    RentalError,
    ServerError,
)
from cdpbridge.integrations.scrapy._intake import BodyCutOff, BodyTooLarge

__all__ = ["as_scrapys"]

# Chromium's net/base/net_error_list.h.
_BY_NET_ERROR: Final[dict[str, type[Exception]]] = {
    "net::ERR_NAME_NOT_RESOLVED": CannotResolveHostError,
    "net::ERR_NAME_RESOLUTION_FAILED": CannotResolveHostError,
    "net::ERR_DNS_TIMED_OUT": CannotResolveHostError,
    "net::ERR_DNS_SERVER_FAILED": CannotResolveHostError,
    "net::ERR_CONNECTION_REFUSED": DownloadConnectionRefusedError,
    "net::ERR_ADDRESS_UNREACHABLE": DownloadConnectionRefusedError,
    "net::ERR_PROXY_CONNECTION_FAILED": DownloadConnectionRefusedError,
    "net::ERR_TUNNEL_CONNECTION_FAILED": DownloadConnectionRefusedError,
    "net::ERR_CONNECTION_TIMED_OUT": DownloadTimeoutError,
    "net::ERR_TIMED_OUT": DownloadTimeoutError,
    "net::ERR_CONTENT_LENGTH_MISMATCH": ResponseDataLossError,
    "net::ERR_INCOMPLETE_CHUNKED_ENCODING": ResponseDataLossError,
    "net::ERR_INVALID_CHUNKED_ENCODING": ResponseDataLossError,
    "net::ERR_CONTENT_DECODING_FAILED": ResponseDataLossError,
}
# What the server's proxy says in plain HTTP, RFC 9209 section 2.3.
_BY_PROXY_ERROR: Final[dict[str, type[Exception]]] = {
    "dns_error": CannotResolveHostError,
    "dns_timeout": CannotResolveHostError,
    "connection_refused": DownloadConnectionRefusedError,
    "destination_ip_unroutable": DownloadConnectionRefusedError,
    "connection_timeout": DownloadTimeoutError,
    "http_response_timeout": DownloadTimeoutError,
}
_PROXY_ERROR: Final = re.compile(r"\((\w+)\)$")
_CERTIFICATE: Final = "net::ERR_CERT_"


def as_scrapys(error: Exception) -> Exception:
    """Return the error to raise for one of ours: Scrapy's where trying again may help, else itself.

    A script that throws, a certificate that is not trusted, a wrong key, a used-up account stay what they are, and are not
    repeated.
    """
    if isinstance(error, EvaluationError):
        return error
    if isinstance(error, NavigationError):
        if error.error_text.startswith(_CERTIFICATE):
            error.add_note("settings: CDPBRIDGE_IGNORE_CERTIFICATE_ERRORS = True renders such pages")
            return error
        return _kind_of(error.error_text)(str(error))
    if isinstance(error, BodyTooLarge):
        return DownloadCancelledError(str(error))
    if isinstance(error, BodyCutOff):
        return ResponseDataLossError(str(error))
    if isinstance(error, (CommandTimeout, LeaseTimeout)):
        return DownloadTimeoutError(str(error))
    if isinstance(
        error, (CDPError, RentalError, APIConnectionError, APIResponseError, RateLimitError, ServerError)
    ):
        return DownloadFailedError(str(error))
    return error


def _kind_of(error_text: str) -> type[Exception]:
    """Return the exception for Chrome's name of an error, with the proxy's reason behind it, or for that alone."""
    by_proxy = _PROXY_ERROR.search(error_text)
    if by_proxy is not None and by_proxy[1] in _BY_PROXY_ERROR:
        return _BY_PROXY_ERROR[by_proxy[1]]
    return _BY_NET_ERROR.get(error_text.partition(": ")[0], DownloadFailedError)
