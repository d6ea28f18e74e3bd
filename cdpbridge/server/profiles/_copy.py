"""Copies of a user data folder: what makes the profile, nothing that can be made again, nothing but plain files.

Nothing in a browser's folder is trusted: a client that drives it can write into it. A file's bytes are shared with its copy where
the file system can do that, until one of them is written (`ioctl_ficlone(2)`: Btrfs, XFS, bcachefs).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

__all__ = ["Budget", "TooBig", "copy_own", "copy_plain_files", "kept_entries", "sync", "sync_tree"]

# linux/fs.h: _IOW(0x94, 9, int), the same on each of our architectures.
_FICLONE: Final = 0x40049409
_CANNOT_SHARE: Final = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS)
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
    """More than the budget allows. Leaves this package as `ProfileTooBig`."""


@dataclass(slots=True)
class Budget:
    """The budget that a copy has left.

    Attributes:
        bytes_left: Of files.
        files_left: Names of any kind, also of what is left out.
        depth: Folders inside each other.
        deadline: On `time.monotonic`, seconds.
    """

    bytes_left: int
    files_left: int
    depth: int
    deadline: float

    def take_name(self) -> None:
        self.files_left -= 1
        if self.files_left < 0:
            raise TooBig("too many files")
        self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TooBig("so much in it that saving takes too long")


def copy_plain_files(source: Path, target: Path, budget: Budget) -> None:
    """Copy `source` into the new folder `target`, without caches, locks, links, devices, pipes and sockets.

    Raises:
        TooBig: It is more than the budget allows.
        OSError: From the disk.
    """
    target.mkdir(mode=0o700)
    waiting = [(source, target, 1)]
    while waiting:
        folder, copy, depth = waiting.pop()
        if depth > budget.depth:
            raise TooBig(f"more than {budget.depth} folders inside each other")
        for entry in kept_entries(folder, depth, budget):
            if entry.is_dir(follow_symlinks=False):
                (copy / entry.name).mkdir(mode=0o700)
                waiting.append((Path(entry.path), copy / entry.name, depth + 1))
            elif entry.is_file(follow_symlinks=False):
                _copy_file(entry.path, copy / entry.name, budget)


def kept_entries(folder: Path | int, depth: int, budget: Budget) -> Iterator[os.DirEntry[str]]:
    """Give what is in a folder of a browser's, by its path or descriptor, without caches and locks.

    Raises:
        TooBig: It is more than the budget allows.
        OSError: From the disk.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            budget.take_name()
            cache = depth <= _CACHE_DEPTH and any(fnmatchcase(entry.name, pattern) for pattern in _CACHES)
            if not cache and entry.name != _LOCK:
                yield entry


def _copy_file(source: str, target: Path, budget: Budget) -> None:
    try:  # NONBLOCK: what was a file a moment ago may be a pipe now
        source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(source_fd, "rb", buffering=0) as reader:  # noqa: PTH123  # a descriptor
        status = os.fstat(source_fd)
        if not stat.S_ISREG(status.st_mode):
            return
        # A sparse file of terabytes costs its writer nothing.
        if status.st_size > budget.bytes_left:
            raise TooBig("too many bytes")
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(target_fd, "wb", buffering=0) as writer:  # noqa: PTH123  # as above
            if share(reader.fileno(), writer.fileno()):
                budget.bytes_left -= os.fstat(writer.fileno()).st_size
                if budget.bytes_left < 0:  # it grew
                    raise TooBig("too many bytes")
                return
            while sent := os.sendfile(writer.fileno(), reader.fileno(), None, _CHUNK_BYTES):
                budget.bytes_left -= sent
                if budget.bytes_left < 0:  # as above
                    raise TooBig("too many bytes")
                budget.check_time()


def copy_own(source: Path, target: Path) -> None:
    """Copy a folder of our own, which has plain files and folders only, into one that exists.

    Raises:
        OSError: From the disk.
    """
    # By paths as texts, and without times and modes, which no browser reads: half the time that `shutil.copytree` takes.
    waiting = [(os.fspath(source), os.fspath(target))]
    while waiting:
        folder, copy = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{copy}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(name, 0o700)  # noqa: PTH102  # a text
                    waiting.append((entry.path, name))
                else:
                    _copy_own_file(entry.path, name)


def _copy_own_file(source: str, target: str) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not share(reader, writer):
                while os.sendfile(writer, reader, None, _CHUNK_BYTES):
                    pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def share(source: int, target: int) -> bool:
    """Let an empty file have the bytes of another one, given their descriptors; False where they must be copied."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_SHARE:
            return False
        raise
    return True


def sync_tree(folder: Path, budget: Budget) -> None:
    """Have every file and folder below `folder` on the disk. Once all is written: the first sync then pays for most.

    The kernel is asked to begin with all of them before the first one is waited for: half the time of a sync for each in turn.

    Raises:
        TooBig: It took too long.
        OSError: From the disk.
    """
    for path, _, files in os.walk(folder):
        for name in files:
            _begin_sync(f"{path}/{name}")
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            budget.check_time()
            sync(Path(path, name))
        sync(Path(path))


def _begin_sync(path: str) -> None:
    """Have the kernel begin to write a file to the disk, as it does for one that is not needed soon (mm/fadvise.c)."""
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def sync(path: Path) -> None:
    """Have one file, or the names in one folder, on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
