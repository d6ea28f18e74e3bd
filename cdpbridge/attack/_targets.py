"""What is aimed at, and what an answer means. Pure tables and functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from ._findings import Verdict, held, through, untried

__all__ = [
    "MACHINE_FILES",
    "PRIVATE_HOSTS",
    "PRIVATE_NAMES",
    "REFUSED_WORDS",
    "Answer",
    "data_files",
    "judge_private_host",
    "judge_read",
    "judge_service",
    "loopback_hosts",
    "profile_folder",
    "url_host",
]

# Where Linux and this server's own defaults have them, on whatever machine is attacked.
MACHINE_FILES: Final = (
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/etc/ssh/ssh_host_ed25519_key",
    "/usr/bin/env",
    "/proc/1/environ",
    "/proc/1/maps",
    "/root/.ssh/authorized_keys",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
)
"""Files that most machines have, and that are no browser's business."""

_DATA_FILES: Final = ("signing.key", "cdpbridge.sqlite3", "isolation.json")
_DATA_FOLDERS: Final = (
    "/root/.local/share/cdpbridge",
    "/var/lib/cdpbridge",
    "/srv/cdpbridge",
    "/data",
)

# Each spelling means this machine: RFC 6761 section 6.3, inet_aton(3), RFC 4291 section 2.5.5, RFC 6052, RFC 3056.
_LOOPBACK: Final = (
    "127.0.0.1",
    "localhost",
    "a.localhost",
    "127.1",
    "127.0.0.2",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "0.0.0.0",  # noqa: S104  # a destination
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
)

PRIVATE_HOSTS: Final = (
    "169.254.169.254",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "100.100.100.200",
    "168.63.129.16",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fe80::1]",
    "[fd00::1]",
)
"""Metadata services of clouds, and addresses of local networks."""

PRIVATE_NAMES: Final = ("localtest.me", "127.0.0.1.nip.io", "10.0.0.1.nip.io", "169.254.169.254.nip.io")
"""Public names that resolve to private addresses."""

REFUSED_WORDS: Final = (
    "private address",
    "not among the hosts",
    "port of the server",
)
"""In what the server's forwarder shows in place of a page that it refuses."""

# Errors by which Chromium says that nothing was connected to.
_NOTHING_THERE: Final = frozenset(
    f"net::ERR_{name}"
    for name in (
        "ADDRESS_UNREACHABLE",
        "CONNECTION_FAILED",
        "CONNECTION_REFUSED",
        "CONNECTION_RESET",
        "CONNECTION_TIMED_OUT",
        "EMPTY_RESPONSE",
        "INTERNET_DISCONNECTED",
        "NAME_NOT_RESOLVED",
        "TIMED_OUT",
    )
)
# RFC 9110 sections 15.6.3 and 15.6.5: what a forwarder says of a host that does not answer.
_GATEWAY_FAILURES: Final = frozenset({502, 504})
_USER_DATA_DIR: Final = re.compile(r"(?:^|\s)--user-data-dir=(?:\"([^\"]+)\"|(\S+))")


class Answer(NamedTuple):
    """What a navigation has brought.

    Attributes:
        error: Chromium's error; empty when something was loaded.
        text: Text of the page; empty on an error.
        status: Of HTTP; 0 without.
    """

    error: str
    text: str
    status: int = 0

    @property
    def refused(self) -> bool:
        """True if the server's forwarder says that it has refused it."""
        return any(words in self.text for words in REFUSED_WORDS)


def data_files(folders: Iterable[str], own: str = "") -> list[str]:
    """Return where keys and database of a server may be: in the usual folders, and in `folders`, which may be files.

    Args:
        own: The profile folder of the browser that reads. What lies above it is not listed: it shows the way there, and no more.
    """
    given = [*folders]
    above = {PurePosixPath(own), *PurePosixPath(own).parents} if own else set()
    return [
        *(each for each in given if PurePosixPath(each) not in above),
        *(f"{folder.rstrip('/')}/{name}" for folder in (*given, *_DATA_FOLDERS) for name in _DATA_FILES),
    ]


def loopback_hosts(own: Iterable[str]) -> list[str]:
    """Return hosts of an address that mean the server's machine.

    Args:
        own: Its addresses and names, as far as they are known.
    """
    return list(dict.fromkeys([*_LOOPBACK, *map(url_host, own)]))


def url_host(address: str) -> str:
    """Return an address or a name as it stands in a URL."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def profile_folder(command_line: str) -> str | None:
    """Return the profile folder in a browser's command line."""
    found = _USER_DATA_DIR.search(command_line)
    return str(PurePosixPath(found[1] or found[2])) if found else None


def judge_read(answers: Sequence[tuple[str, str, int]]) -> Verdict:
    """Return what came of reading a file in several ways.

    Args:
        answers: For each way its name, the browser's error, and how many characters or bytes were read.
    """
    for way, error, size in answers:
        if size:
            return through(f"{way}: {size} bytes were read")
        # It began to download it: it had been opened.
        if error == "net::ERR_ABORTED":
            return through(f"{way}: it was opened, as a download")
    return held(", ".join(dict.fromkeys(error or "nothing was shown" for _, error, _ in answers)))


def judge_service(answer: Answer, marks: Sequence[str]) -> Verdict:
    """Return what came of opening an address of the server or of another browser, where something listens.

    Args:
        marks: Words of which one stands in the service's own answers.
    """
    if answer.refused:
        return held("the forwarder has refused it")
    if any(mark in answer.text for mark in marks):
        return through(f"it answered: {_start(answer.text)}")
    if answer.error:
        return held(answer.error)
    return held("something else answered") if answer.text.strip() else held("nothing was shown")


def judge_private_host(answer: Answer | None) -> Verdict:
    """Return what came of opening a private address where perhaps nothing listens; None for no answer in time."""
    if answer is None:
        return untried("no answer in time, which nothing can be concluded from")
    if answer.refused:
        return held("the forwarder has refused it")
    if answer.error in _NOTHING_THERE or any(f"ERR_{word}" in answer.error for word in ("TUNNEL", "PROXY")):
        return untried(f"{answer.error}: nothing answers there, or it is refused without a word")
    if answer.error:
        return held(answer.error)
    if answer.status in _GATEWAY_FAILURES or not answer.text.strip():
        return untried(f"nothing answers there: {_start(answer.text)}")
    return through(f"it answered: {_start(answer.text)}")


def _start(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
