"""System calls that Python 3.11 has no function for. Each raises OSError with what was tried.

Numbers: `include/uapi/asm-generic/unistd.h` and `arch/x86/entry/syscalls/syscall_64.tbl` of Linux 6.12.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

__all__ = [
    "MOUNT_NODEV",
    "MOUNT_NOEXEC",
    "MOUNT_NOSUID",
    "MOUNT_RDONLY",
    "attach_mount",
    "clone_mount",
    "drop_capabilities",
    "fork_into_namespaces",
    "landlock_add_path",
    "landlock_add_port",
    "landlock_create",
    "landlock_restrict",
    "landlock_version",
    "make_mounts_private",
    "mount_new",
    "restrict_mount",
    "set_dumpable",
    "set_name",
    "set_no_new_privs",
    "set_subreaper",
    "switch_root",
]

_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_PARENT: Final = 0x0000_8000
_CLONE_NEWUTS: Final = 0x0400_0000
_CLONE_NEWIPC: Final = 0x0800_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWPID: Final = 0x2000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_SIGCHLD: Final = 17

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
_MNT_DETACH: Final = 2
MOUNT_RDONLY, MOUNT_NOSUID, MOUNT_NODEV, MOUNT_NOEXEC = 1, 2, 4, 8
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4

_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 15, 36, 38
_CAPABILITY_VERSION: Final = 0x2008_0522  # linux/capability.h, _LINUX_CAPABILITY_VERSION_3

_LANDLOCK_RULE_PATH_BENEATH, _LANDLOCK_RULE_NET_PORT = 1, 2
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1

# Of x86-64 and of the architectures with the generic table.
_CLONE, _PIVOT_ROOT = (56, 155) if platform.machine() == "x86_64" else (220, 41)
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446

# Holds the interpreter's lock during a call: they are short, and one of them forks.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_PATH_MAX: Final = 4096


def _call(what: str, number: int, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def fork_into_namespaces(*, processes: bool) -> int:
    """Fork into namespaces of users, mounts, network, IPC, names and, with `processes`, processes. Returns as `os.fork` does.

    The child is one of the caller's *parent*, which waits for it as for its own. The caller has one thread.
    """
    flags = _CLONE_PARENT | _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS
    if processes:
        flags |= _CLONE_NEWPID
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    # Without a stack it behaves as fork(2) does. The other arguments are in another order on each architecture, and all 0.
    pid = int(_libc.syscall(ctypes.c_long(_CLONE), ctypes.c_ulong(flags | _SIGCHLD), None, None, None, None))
    number = ctypes.get_errno()
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    ctypes.set_errno(number)
    return _checked(pid, "clone into new namespaces")


def make_mounts_private() -> None:
    """Keep what is mounted here from the machine, and what is mounted there from us."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, "")


def clone_mount(path: str, *, recursive: bool) -> int:
    """Return a descriptor of a detached copy of what is mounted at `path`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _call(f"open_tree {path}", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))


def restrict_mount(mount: int | str, attributes: int, *, recursive: bool) -> None:
    """Set attributes on a detached mount, or on what is mounted at a path; those that are set stay."""
    descriptor, path = (mount, b"") if isinstance(mount, int) else (_AT_FDCWD, os.fsencode(mount))
    flags = (_AT_EMPTY_PATH if isinstance(mount, int) else 0) | (_AT_RECURSIVE if recursive else 0)
    value = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _call(
        "mount_setattr (Linux 5.12)",
        _MOUNT_SETATTR,
        descriptor,
        path,
        ctypes.c_uint(flags),
        value,
        ctypes.c_size_t(len(value)),
    )


def attach_mount(mount: int, target: str) -> None:
    """Put a detached mount at `target`."""
    _call(
        f"move_mount to {target}",
        _MOVE_MOUNT,
        mount,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )


def mount_new(kind: str, target: str, options: str = "", *, code: bool = False) -> None:
    """Mount a new file system of `kind`."""
    flags = _MS_NOSUID | _MS_NODEV | (0 if code else _MS_NOEXEC)
    _mount(kind, target, kind, flags, options)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str) -> None:
    result = _libc.mount(
        None if source is None else source.encode(),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {kind or 'private'} at {target}")


def switch_root() -> None:
    """Make the working directory the root, and let go of the former one. It is where a file system is mounted."""
    _call("pivot_root", _PIVOT_ROOT, b".", b".")
    # The former root lies on top of the new one now.
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount the former root")
    os.chdir("/")


def drop_capabilities(kept: int = 0) -> None:
    """Drop all capabilities but those of a set of bits, in the own user namespace too."""
    head = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    _checked(_libc.capset(head, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")


def set_dumpable(*, allowed: bool) -> None:
    """Let processes of the same user trace this one, and own its files in /proc; or not."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(allowed))


def set_no_new_privs() -> None:
    """Gain no rights by any later execve: setuid bits have no effect."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def set_subreaper() -> None:
    """Become the parent of orphans among the descendants."""
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Set the name that `ps` and `top` show: 15 letters."""
    buffer = ctypes.create_string_buffer(name.encode(), 16)
    _prctl("PR_SET_NAME", _PR_SET_NAME, ctypes.addressof(buffer))


def _prctl(what: str, option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), what)


def landlock_version() -> int:
    """Return the version of Landlock here; 0 for none."""
    arguments = (None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_CREATE_RULESET_VERSION))
    return max(0, int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE_RULESET), *arguments)))


def landlock_create(attributes: bytes) -> int:
    """Return a descriptor of a new set of rules."""
    size = ctypes.c_size_t(len(attributes))
    return _call("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, attributes, size, ctypes.c_uint(0))


def landlock_add_path(rules: int, rights: int, path: int) -> None:
    """Allow `rights` on what an `O_PATH` descriptor refers to, and below it."""
    rule = struct.pack("=Qi", rights, path)
    _call("landlock_add_rule", _LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_PATH_BENEATH, rule, ctypes.c_uint(0))


def landlock_add_port(rules: int, rights: int, port: int) -> None:
    """Allow `rights` on a TCP port (Linux 6.7)."""
    rule = struct.pack("=QQ", rights, port)
    _call("landlock_add_rule", _LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_NET_PORT, rule, ctypes.c_uint(0))


def landlock_restrict(rules: int) -> None:
    """Apply a set of rules to this thread and all that it starts, for ever."""
    _call("landlock_restrict_self", _LANDLOCK_RESTRICT_SELF, rules, ctypes.c_uint(0))
