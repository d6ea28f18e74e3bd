"""What a refused step means for the person who runs the server: what is missing, and what grants it. Pure."""

from __future__ import annotations

import errno
from typing import Final

from ._protocol import Report

__all__ = ["explain", "remedy"]

_USER_NAMESPACES: Final = (
    "ordinary users may make no user namespaces here: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns; in a container a seccomp profile that permits clone and unshare"
)
_MOUNTS: Final = (
    "a user namespace may be made and nothing mounted in it: in a container, a seccomp or AppArmor profile that forbids "
    "mount, open_tree, move_mount and pivot_root; on Ubuntu, kernel.apparmor_restrict_unprivileged_userns"
)
_PROC: Final = (
    "no new /proc may be mounted: parts of it are masked, as container engines do (Docker: --security-opt "
    "systempaths=unconfined)"
)
_OLD_KERNEL: Final = "the kernel is older than Linux 5.12, or a sandbox without its mount calls (gVisor)"
_NETWORK: Final = "the loopback interface of a network namespace cannot be brought up"


def explain(report: Report) -> str:
    """Return why a browser could not be isolated, with what is missing."""
    missing = remedy(report.step, report.error, report.detail)
    return (
        f"the browser cannot be isolated ({report.step}: {report.detail}){f': {missing}' if missing else ''}"
    )


def remedy(step: str, error: int, detail: str) -> str:
    """Return what is missing where the kernel has refused a step with this error number; empty when it is not known."""
    match step, error:
        case _, errno.ENOSYS:
            return _OLD_KERNEL
        case "namespaces" | "user", errno.EPERM | errno.EACCES | errno.ENOSPC | errno.EUSERS:
            return _USER_NAMESPACES
        case "mounts" | "processes", errno.EPERM | errno.EACCES if "mount proc" in detail:
            return _PROC
        case "mounts", errno.EPERM | errno.EACCES:
            return _MOUNTS
        case "network", _:
            return _NETWORK
        case _:
            return ""
