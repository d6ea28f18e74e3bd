"""The rules that an agent's process puts on itself before it reads a page. Loaded by that process, see `_child`.

Landlock (Linux 5.13): it reads its Python, its libraries, its certificates and what its task needs, writes its task's folders, and
executes nothing. From Linux 6.7 on it connects to the ports of its model and its browser only, and from 6.12 on it signals no other
process. Nothing takes these rules off again. A root process keeps no right of root but that to its task's files.

What a page makes an agent do reaches only its browser, and that keeps to rules of its own; this is for an agent that is made to
run code, by a fault in one of its hundred packages.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["CERTIFICATE_VARIABLES", "SYSTEM", "Refused", "confine", "ports", "readable"]

# linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_VERSION_1: Final = (1 << 13) - 1
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
# linux/capability.h: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. Its browser's downloads belong to another uid.
_FILES_OF_OTHERS: Final = 1 << 1 | 1 << 2

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_DNS: Final = 53
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy")
CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
# Libraries, certificates, names of hosts, the time; no users, no settings of other programs.
SYSTEM: Final = (
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share", "/lib", "/lib64"),
    *(f"/etc/{name}" for name in ("ca-certificates", "crypto-policies", "fonts", "host.conf", "gai.conf", "hosts", "ld.so.cache")),
    *(f"/etc/{name}" for name in ("localtime", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "resolv.conf")),
    *(f"/etc/{name}" for name in ("services", "ssl", "timezone")),
    *(f"/proc/{name}" for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "self", "stat", "sys", "uptime", "version")),
    "/sys/devices/system/cpu",
)  # fmt: skip
_DEVICES: Final = ("/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")


class Refused(Exception):
    """The kernel has no such rules, and they are required."""


def confine(kernel: Any, spec: Mapping[str, Any]) -> str:
    """Restrict this process, which has one thread, for ever; return what is in force, in words.

    Args:
        kernel: The module `cdpbridge.isolation._kernel`.
        spec: The task; `confine` in it is the server's setting `isolation`.

    Raises:
        Refused: It is required, and not possible here.
    """
    if spec["confine"] == "none":
        return "off: the setting isolation is none"
    version = kernel.landlock_version()
    if version == 0:
        if spec["confine"] == "require":
            raise Refused("the agent cannot be confined: the kernel has no Landlock (Linux 5.13)")
        return "off: the kernel has no Landlock"
    rules = kernel.landlock_create(_attributes(version))
    changed = [spec["folder"], spec["shared"], spec["scratch"]]
    known = _known(version)
    change = known & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK)
    look = _READ_FILE | _READ_DIR
    table = [*((path, look) for path in readable(spec, os.environ)), *((path, change) for path in changed)]
    for path, rights in (*table, *((path, (look | _WRITE_FILE) & ~_READ_DIR) for path in _DEVICES)):
        _allow(kernel, rules, path, rights)
    if version >= 4:
        for port in ports(spec, os.environ):
            kernel.landlock_add_port(rules, _CONNECT_TCP, port)
    kernel.set_no_new_privs()
    if os.geteuid() == 0:
        kernel.drop_capabilities(_FILES_OF_OTHERS)
    kernel.landlock_restrict(rules)
    os.close(rules)
    parts = [
        "files, executables",
        *(["ports"] if version >= 4 else []),
        *(["signals"] if version >= 6 else []),
    ]
    return f"on: {', '.join(parts)} (Landlock {version})"


def readable(spec: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Return what it may read, besides what it may change. Files and folders that are there, each once."""
    given = [environment[name] for name in CERTIFICATE_VARIABLES if environment.get(name)]
    # "/usr" would show more than Python's own.
    python = [path for path in (sys.prefix, sys.base_prefix, *sys.path) if path not in {"", "/", "/usr"}]
    here = str(Path(__file__).parent)
    paths = [*SYSTEM, *given, *python, here, *spec["uploads"]]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path)))  # noqa: PTH110


def ports(spec: Mapping[str, Any], environment: Mapping[str, str]) -> list[int]:
    """Return the TCP ports that it may connect to: of its browser, its model, the proxies on the way, 1Password, DNS."""
    proxies = [value for name, value in environment.items() if name.lower() in _PROXY_VARIABLES and value]
    found = {_DNS, *_ports_of([spec["cdp_url"], spec["llm_base_url"], *proxies])}
    if spec["op_vault_id"]:
        found.add(_PORTS["https"])
    return sorted(found)


def _ports_of(addresses: Iterable[str | None]) -> Iterator[int]:
    for address in addresses:
        parts = urlsplit(address or "")
        port = parts.port or _PORTS.get(parts.scheme)
        if port is not None:
            yield port


def _known(version: int) -> int:
    return _OF_VERSION_1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)


def _attributes(version: int) -> bytes:
    if version < 4:
        return struct.pack("=Q", _known(version))
    net = _BIND_TCP | _CONNECT_TCP
    if version < 6:
        return struct.pack("=QQ", _known(version), net)
    return struct.pack("=QQQ", _known(version), net, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)


def _allow(kernel: Any, rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # removed meanwhile, or closed to this user
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112  # a file has no rights of folders
            rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE
        kernel.landlock_add_path(rules, rights, descriptor)
    finally:
        os.close(descriptor)
