"""What a refused step means for the person who runs the server: what is missing, and what grants it. Pure."""

from __future__ import annotations

import errno
from typing import Final

from ._protocol import Report

__all__ = ["explain", "remedy"]

_SECCOMP: Final = (
    "in a container, a seccomp profile that permits {calls} (Docker: --security-opt seccomp=seccomp.json, a file of "
    "examples/deploy; Kubernetes: seccompProfile)"
)
_NAMESPACES_SECCOMP: Final = (
    f"processes may make no user namespaces here: {_SECCOMP.format(calls='clone and unshare')}; elsewhere sysctl "
    "kernel.unprivileged_userns_clone=1"
)
_NAMESPACES_APPARMOR: Final = (
    "AppArmor forbids user namespaces here (Docker: --security-opt apparmor=cdpbridge, with the profile in examples/deploy "
    "loaded; elsewhere sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
)
_NAMESPACES_LIMIT: Final = (
    "processes may make no user namespaces here, or no more: sysctl user.max_user_namespaces"
)
_MOUNTS_SECCOMP: Final = (
    "a user namespace may be made and nothing mounted in it: "
    f"{_SECCOMP.format(calls='mount, umount2, open_tree, move_mount, mount_setattr and pivot_root')}; where it does, AppArmor: "
    "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)
_MOUNTS_APPARMOR: Final = (
    "a user namespace may be made and nothing mounted in it: AppArmor forbids mount, as the profile docker-default does "
    "(Docker: --security-opt apparmor=unconfined; Kubernetes: appArmorProfile; where that is not enough, apparmor=cdpbridge with "
    "the profile in examples/deploy loaded, or sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
)
_PROC: Final = (
    "no new /proc may be mounted: parts of it are masked, as container engines do (Docker: --security-opt "
    "systempaths=unconfined; Kubernetes: procMount: Unmasked)"
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
        case "namespaces" | "user", errno.ENOSPC | errno.EUSERS:
            return _NAMESPACES_LIMIT
        # Filters of system calls say EPERM, AppArmor says EACCES.
        case "namespaces" | "user", errno.EPERM:
            return _NAMESPACES_SECCOMP
        case "namespaces" | "user", errno.EACCES:
            return _NAMESPACES_APPARMOR
        case "mounts" | "processes", errno.EPERM | errno.EACCES if "mount proc" in detail:
            return _PROC
        case "mounts", errno.EPERM:
            return _MOUNTS_SECCOMP
        case "mounts", errno.EACCES:
            return _MOUNTS_APPARMOR
        case "network", _:
            return _NETWORK
        case _:
            return ""
