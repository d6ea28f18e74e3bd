"""Copies of a user data folder: what makes the profile, nothing that can be made again, nothing but plain files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

__all__ = ["TooBig", "copy_plain_files", "sync", "sync_tree"]

_CHUNK_BYTES: Final = 1024 * 1024
# At the top of the folder and of each profile in it; deeper down the same names may be a site's or an extension's own.
_CACHES: Final = (
    "Cache",
    "Code Cache",
    "Dawn*Cache",
    "GPUCache",
    "Graphite*Cache",
    "GrShaderCache",
    "ShaderCache",
    "*_crx_cache",
    "Shared Dictionary",
    "blob_storage",  # parts of uploads of a running browser
    "BrowserMetrics*",
    "Crash Reports",
    "Crashpad",
    "DevToolsActivePort",
    "Singleton*",
    "lockfile",
    # Downloaded by the component updater (components/component_updater), and with us not even that.
    "AutofillStates",
    "CertificateRevocation",
    "Crowd Deny",
    "FileTypePolicies",
    "FirstPartySetsPreloaded",
    "MEIPreload",
    "OnDeviceHeadSuggestModel",
    "OptimizationHints",
    "OriginTrials",
    "PKIMetadata",
    "RecoveryImproved",
    "Safe Browsing",
    "SafetyTips",
    "SSLErrorAssistant",
    "Subresource Filter",
    "TrustTokenKeyCommitments",
    "WasmTtsEngine",
    "WidevineCdm",
    "ZxcvbnData",
    "hyphen-data",
    "optimization_guide_*",
)
_CACHE_DEPTH: Final = 2
_LOCK: Final = "LOCK"  # LevelDB's, empty


class TooBig(Exception):
    """More bytes or files than allowed. Leaves this room as `ProfileTooBig`."""


def copy_plain_files(source: Path, target: Path, *, max_bytes: int, max_files: int) -> None:
    """Copy `source` into the new folder `target`, without caches, locks, links, devices, pipes and sockets.

    Nothing in it is trusted: whoever drives a browser can write into its folder.

    Raises:
        TooBig: It is more than allowed.
        OSError: From the disk.
    """
    target.mkdir(mode=0o700)
    waiting = [(source, target, 1)]
    bytes_left, files_left = max_bytes, max_files
    while waiting:
        folder, copy, depth = waiting.pop()
        for entry in _entries(folder, depth):
            files_left -= 1
            if files_left < 0:
                raise TooBig(f"more than {max_files} files")
            if entry.is_dir(follow_symlinks=False):
                (copy / entry.name).mkdir(mode=0o700)
                waiting.append((Path(entry.path), copy / entry.name, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                bytes_left -= _copy_file(entry.path, copy / entry.name, bytes_left)
                if bytes_left < 0:
                    raise TooBig(f"more than {max_bytes} bytes")


def _entries(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            cache = depth <= _CACHE_DEPTH and any(fnmatchcase(entry.name, pattern) for pattern in _CACHES)
            if not cache and entry.name != _LOCK:
                yield entry


def _copy_file(source: str, target: Path, bytes_left: int) -> int:
    """How many bytes it had; it is left incomplete when they are more than `bytes_left`."""
    try:  # NONBLOCK: what was a file a moment ago may be a pipe now
        source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    copied = 0
    with open(source_fd, "rb", buffering=0) as reader:  # noqa: PTH123  # a descriptor
        if not stat.S_ISREG(os.fstat(source_fd).st_mode):
            return 0
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(target_fd, "wb", buffering=0) as writer:  # noqa: PTH123  # as above
            while copied <= bytes_left and (
                sent := os.sendfile(writer.fileno(), reader.fileno(), None, _CHUNK_BYTES)
            ):
                copied += sent
    return copied


def sync_tree(folder: Path) -> None:
    """Have every file and folder below `folder` on the disk. Once all is written: the first sync then pays for most."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(path, name))
        sync(Path(path))


def sync(path: Path) -> None:
    """Have one file, or the names in one folder, on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
