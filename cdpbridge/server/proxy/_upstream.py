"""The upstream of a rented browser's proxy: its address, credentials and SOCKS5 messages."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from cdpbridge.errors import CDPBridgeError, ConfigurationError

__all__ = ["SOCKS5_REPLIES", "ProxyFailure", "Upstream"]

# Parsed by hand and not with urlsplit, whose error texts quote the credentials.
_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<userinfo>[^/?#]*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^\s:/?#@\[\]%]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORTS: Final = {"http": 80, "socks5": 1080}
# RFC 1928 section 4 and RFC 1929 section 2: lengths are one byte.
_SOCKS5_MAX_BYTES: Final = 255

# RFC 1928 section 6.
SOCKS5_REPLIES: Final = {
    1: "general failure",
    2: "connection not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class ProxyFailure(CDPBridgeError):
    """A request of the browser that the proxy cannot serve.

    Attributes:
        status: HTTP status of the answer to the browser.
        error: Its type for the `Proxy-Status` header (RFC 9209 section 2.3).
        net_error: Chromium's name for it, where a browser without a proxy would have failed in the same way.
    """

    def __init__(self, status: int, text: str, *, error: str, net_error: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.error = error
        self.net_error = net_error


@dataclass(frozen=True, slots=True, repr=False)
class Upstream:
    """An upstream proxy. Its repr and str show no credentials.

    Attributes:
        scheme: `"http"` or `"socks5"`.
        host: Name or address, IPv6 without brackets.
        port: TCP port.
        username: Any text, or None for a proxy that asks for no credentials.
        password: Any text.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in _DEFAULT_PORTS:
            raise ConfigurationError(
                f"an upstream proxy is http:// or socks5://, not {_CONTROL.sub('?', self.scheme)!r}"
            )
        if not self.host or not 0 < self.port < 65536:
            raise ConfigurationError("an upstream proxy needs a host, and a port from 1 to 65535")
        if self.username is None and self.password is not None:
            raise ConfigurationError(f"{self}: a password needs a username")
        try:
            username, password = self._credentials()
        except UnicodeEncodeError:
            raise ConfigurationError(f"{self}: the credentials are not valid Unicode") from None
        if self.scheme == "socks5" and self.username is not None:
            for name, value in (("username", username), ("password", password)):
                if not 0 < len(value) <= _SOCKS5_MAX_BYTES:
                    raise ConfigurationError(
                        f"{self}: the {name} must have 1 to 255 bytes of UTF-8 (RFC 1929), not {len(value)}"
                    )

    def __repr__(self) -> str:
        return f"Upstream({str(self)!r}, credentials={'yes' if self.username is not None else 'no'})"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Upstream:
        """Return the upstream in `http://user:password@host:port` or `socks5://...`.

        Args:
            url: User and password percent-encoded (UTF-8). The port defaults to 80 for http and 1080 for socks5;
                `socks5h` means the same as `socks5`: the upstream always resolves names.

        Raises:
            ConfigurationError: Not such an address. The text never quotes it.
        """
        match = None if _CONTROL.search(url) else _URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                "the upstream proxy's address is not scheme://user:password@host:port; "
                "special characters in user and password must be percent-encoded"
            )
        scheme = match["scheme"].lower().replace("socks5h", "socks5")
        host = match["host"].strip("[]")
        if ":" in host:
            try:
                host = str(ipaddress.IPv6Address(host))
            except ValueError:
                raise ConfigurationError("the upstream proxy's IPv6 address is not valid") from None
        username = password = None
        if match["userinfo"] is not None:
            user, colon, secret = match["userinfo"].partition(":")
            username, password = _unquote(user), _unquote(secret) if colon else None
        port = int(match["port"]) if match["port"] else _DEFAULT_PORTS.get(scheme, 1)
        return cls(scheme, host, port, username, password)

    def url(self) -> str:
        """Return the address with the credentials, as `parse` takes it: a secret."""
        if self.username is None:
            return str(self)
        userinfo = quote(self.username, safe="")
        if self.password is not None:
            userinfo += ":" + quote(self.password, safe="")
        scheme, _, rest = str(self).partition("://")
        return f"{scheme}://{userinfo}@{rest}"

    def _credentials(self) -> tuple[bytes, bytes]:
        return (self.username or "").encode(), (self.password or "").encode()

    def authorization(self) -> bytes | None:
        """Return the value of `Proxy-Authorization`, in UTF-8 (RFC 7617), or None.

        A colon in the username is sent as it is, as curl does: the proxy may read it as the separator.
        """
        if self.username is None:
            return None
        return b"Basic " + b64encode(b":".join(self._credentials()))

    def socks5_greeting(self) -> bytes:
        """Return the methods we offer: username and password when we have them, otherwise none."""
        return b"\x05\x01\x00" if self.username is None else b"\x05\x02\x00\x02"

    def socks5_login(self) -> bytes:
        """Return the username and password message (RFC 1929 section 2)."""
        username, password = self._credentials()
        return bytes((1, len(username))) + username + bytes((len(password),)) + password

    @staticmethod
    def socks5_connect(host: str, port: int) -> bytes:
        """Return the CONNECT message; a name travels as a name, so that the upstream resolves it."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            name = host.encode()
            if len(name) > _SOCKS5_MAX_BYTES:
                raise ProxyFailure(
                    400, "the host name is too long for SOCKS5", error="http_request_error"
                ) from None
            where = bytes((3, len(name))) + name
        else:
            where = (b"\x01" if address.version == 4 else b"\x04") + address.packed
        return b"\x05\x01\x00" + where + port.to_bytes(2)


def _unquote(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ConfigurationError(
            "a % in the upstream proxy's user or password is no percent-escape: write it as %25"
        )
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigurationError(
            "the upstream proxy's user or password is not percent-encoded UTF-8"
        ) from None
