"""Failures of a browser as Scrapy's exceptions: what `RETRY_EXCEPTIONS` lists is what may pass."""

from __future__ import annotations

from typing import Final

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
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
}
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
        return _BY_NET_ERROR.get(error.error_text, DownloadFailedError)(str(error))
    if isinstance(error, (CommandTimeout, LeaseTimeout)):
        return DownloadTimeoutError(str(error))
    if isinstance(
        error, (CDPError, RentalError, APIConnectionError, APIResponseError, RateLimitError, ServerError)
    ):
        return DownloadFailedError(str(error))
    return error
