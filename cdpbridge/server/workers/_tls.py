"""TLS on the ports of workers: the worker's certificate, what servers check it by, and what a failure means.

Files that have changed are read again with the next connection, so certificates are renewed while everything runs. What cannot be
read, e.g. because one of two files has been replaced so far, changes nothing.

Each end also signs the worker's certificate with the secret (`bound`), so one in between is found without any authority, too.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from cdpbridge.errors import ConfigurationError

__all__ = ["NO_TLS", "AuthorityFile", "ServerTls", "WorkerTls", "bound", "tls_problem"]

logger = logging.getLogger("cdpbridge.worker")

T = TypeVar("T")

# Of OpenSSL's include/openssl/x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_NO_ISSUER: Final = frozenset({2, 18, 19, 20, 21, 7})
_OTHER_NAME: Final = frozenset({62, 64})
NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}
)
"""Reasons of OpenSSL when the other end speaks something else."""


def bound(secret: bytes, certificate: bytes | None) -> bytes:
    """Return what both ends of a connection sign with: the secret, bound to the worker's certificate where there is TLS.

    Who has put itself in between shows another certificate, for which it cannot sign (RFC 5929, `tls-server-end-point`).

    Args:
        secret: Of all servers and workers.
        certificate: DER.
    """
    if certificate is None:
        return secret
    return hmac.digest(secret, b"cdpbridge tls " + hashlib.sha256(certificate).digest(), "sha256")


class _Loaded(Generic[T]):
    """What is read from files, and read again when they have changed."""

    def __init__(self, files: Sequence[Path], load: Callable[[], T]) -> None:
        self._files = files
        self._load = load
        self._stamp = self._stamps()
        self._value = load()

    def get(self) -> T:
        stamp = self._stamps()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._value = self._load()
            except ConfigurationError as error:
                logger.warning("%s; what was read before stays in use", error)
            else:
                logger.info("%s has changed and was read again", self._files[0])
        return self._value

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116  # once for each connection
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class WorkerTls:
    """A worker's certificate.

    Args:
        certificate: PEM file: the certificate, then those that lead to its authority; the key too, perhaps.
        key: PEM file of the key; None when it is in the other one.

    Raises:
        ConfigurationError: They cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        files = [certificate] if key is None else [certificate, key]
        self._loaded = _Loaded(files, lambda: _worker_context(certificate, key))

    def get(self) -> tuple[ssl.SSLContext, bytes]:
        """Return the context for a connection, and the certificate (DER) that it shows."""
        return self._loaded.get()


class ServerTls:
    """What a server checks workers by.

    Args:
        authority: PEM file with the certificates of authorities, or with those of the workers themselves; None: workers are checked
            by the secret alone.
        name: The name that the certificates have; None: that of each worker's address.

    Attributes:
        required: Workers without TLS are refused.
        name: As above.

    Raises:
        ConfigurationError: The file cannot be read.
    """

    def __init__(self, authority: Path | None, name: str | None = None) -> None:
        self.required = authority is not None
        self.name = name
        files = [] if authority is None else [authority]
        self._loaded = _Loaded(files, lambda: _server_context(authority))

    def get(self) -> ssl.SSLContext:
        """Return the context for a connection."""
        return self._loaded.get()


class AuthorityFile:
    """What a worker checks `https://` servers by, where it registers: the authorities of the system, and those of a file."""

    def __init__(self, authority: Path | None) -> None:
        files = [] if authority is None else [authority]

        def load() -> ssl.SSLContext:
            context = ssl.create_default_context()
            if authority is not None:
                _trust(context, authority)
            return context

        self._loaded = _Loaded(files, load)

    def get(self) -> ssl.SSLContext:
        """Return the context for a connection."""
        return self._loaded.get()


def _worker_context(certificate: Path, key: Path | None) -> tuple[ssl.SSLContext, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No server resumes a session: each connection stands for itself.
    context.num_tickets = 0
    named = f"{certificate}" if key is None else f"{certificate} and {key}"
    try:
        # An encrypted key must not be asked for on a terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
        text = certificate.read_text("ascii", errors="replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        end = text.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(text[begin:end])
    except ssl.SSLError as error:
        what = (
            "do not belong together"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "are no PEM files of a certificate and its key"
        )
        raise ConfigurationError(
            f"{named} {what} ({error.reason or 'wrong password, or no key'}); correct `worker_tls_certificate` and `worker_tls_key`; "
            "the key must not be encrypted"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{named} cannot be read ({error}); correct `worker_tls_certificate` and `worker_tls_key`"
        ) from None
    return context, der


def _server_context(authority: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if authority is None:
        # `bound` is the check.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, authority)
    return context


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    # So the certificate of a worker may stand there itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(authority)
    except OSError as error:  # an `SSLError` is one
        why = getattr(error, "reason", None) or error.strerror or error
        raise ConfigurationError(
            f"{authority} is no PEM file with certificates ({why}); correct `worker_tls_ca`"
        ) from None


def tls_problem(error: Exception, address: str, name: str) -> str | None:
    """Return in words why TLS with a worker failed, and what to do; None when it is no failure of TLS.

    Args:
        error: From the connection.
        address: `host:port` of the worker.
        name: That its certificate should have.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code == _EXPIRED:
            return f"the certificate of worker {address} has expired; renew it, the worker reads the new one by itself"
        if code == _NOT_YET_VALID:
            return (
                f"the certificate of worker {address} is not valid yet; compare the clocks of both machines"
            )
        if code in _OTHER_NAME:
            return (
                f"the certificate of worker {address} is not for the name {name!r}; issue one with that name, give the worker "
                "`--address` with a name that it has, or set `worker_tls_name` on the servers"
            )
        if code in _NO_ISSUER:
            return (
                f"the certificate of worker {address} is from no authority in `worker_tls_ca`; add the certificate of its authority, or "
                "give the worker one from an authority that is there"
            )
        return f"the certificate of worker {address} is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason in NO_TLS:
            return (
                f"what listens at worker {address} speaks no TLS, and the worker has registered with it; is another program at that "
                "address, or one between that ends TLS?"
            )
        return f"TLS with worker {address} failed: {error.reason or error}"
    return None
