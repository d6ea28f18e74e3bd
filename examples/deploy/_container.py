"""A container as Docker would make it of the image, run by crun: the image's user, variables, health check, and the options of compose.yaml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Container", "Image", "Options", "for_runtime", "running"]

# What Docker hides in /proc and /sys, unless `systempaths=unconfined`.
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Where a machine has cgroups of both versions, crun works with the first only, and here with none.
_HYBRID: Final = Path("/sys/fs/cgroup/unified")
# For a start or an end; a quiet machine takes two seconds, one with many other tasks takes minutes.
_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Image:
    """An image that has been unpacked.

    Attributes:
        root: Its files.
        config: As in the image's own `config`: `Env`, `User`, `Entrypoint`, ...
    """

    root: Path
    config: Mapping[str, Any]

    @property
    def health_check(self) -> list[str]:
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return command


@dataclass(frozen=True)
class Options:
    """The options of a container, each as one of `docker run`; the defaults are those of compose.yaml.

    Attributes:
        seccomp: A profile in Docker's form.
        masked: Not `systempaths=unconfined`.
        user: Another user than the image's.
        capabilities: What is left of them.
        variables: `--env`.
        tmpfs: Folders in memory.
        command: In place of the image's `CMD`.
        volume: With one at `/data`.
        first_uid: What uid 0 of the container is outside of it (`hostUsers: false` of Kubernetes); 0: uids are the machine's.
        uids: How many uids the container has.
    """

    seccomp: Path
    masked: bool = False
    user: int | None = None
    capabilities: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Sequence[str] = ("/run", "/tmp")
    command: Sequence[str] = ()
    volume: bool = True
    first_uid: int = 0
    uids: int = 65536


def for_runtime(profile: Mapping[str, Any], capabilities: Sequence[str]) -> dict[str, Any]:
    """Return a seccomp profile as runtimes take it: Docker resolves its own conditions (`includes`, `excludes`, `archMap`)."""

    def applies(rule: Mapping[str, Any]) -> bool:
        needed, excluded = rule.get("includes") or {}, rule.get("excludes") or {}
        held = set(capabilities)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        return (
            set(needed.get("caps") or ()) <= held
            and (not needed.get("arches") or machine in needed["arches"])
            and not set(excluded.get("caps") or ()) & held
            and machine not in (excluded.get("arches") or ())
        )

    kept = ("names", "action", "args", "errnoRet")
    rules = [
        {key: rule[key] for key in kept if rule.get(key) is not None}
        for rule in profile["syscalls"]
        if applies(rule)
    ]
    architectures = profile.get("architectures") or [
        name
        for each in profile["archMap"]
        for name in (each["architecture"], *(each["subArchitectures"] or ()))
    ]
    own = {"x86_64": "X86", "aarch64": "A"}[os.uname().machine]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": [name for name in architectures if name.removeprefix("SCMP_ARCH_").startswith(own)],
        "syscalls": rules,
    }


def specification(image: Image, options: Options, data: Path) -> dict[str, Any]:
    """Return the configuration of the OCI runtime. Pure but for the profile, which is read."""
    user, _, group = str(image.config["User"]).partition(":")
    uid = int(user) if options.user is None else options.user
    gid = int(group or user) if options.user is None else options.user
    bounding = list(options.capabilities)
    # As Docker: another user than root holds none, and the profile goes by what is in the bounding set all the same.
    held = bounding if uid == 0 else []
    ids = [{"containerID": 0, "hostID": options.first_uid, "size": options.uids}]
    # Where the network is the machine's, a user namespace may not mount a fresh one.
    kernel = (
        {"type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}
        if options.first_uid
        else {"type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
    )
    variables = [*image.config["Env"], *(f"{name}={value}" for name, value in options.variables.items())]
    memory = ["nosuid", "nodev", "mode=1777"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": [*image.config["Entrypoint"], *(options.command or image.config["Cmd"])],
            "env": variables,
            "cwd": image.config["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        },
        "root": {"path": str(image.root), "readonly": True},
        "hostname": "cdpbridge",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            # 64 MiB, as Docker has it: too little for pages, which have their own here.
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {"destination": "/sys", **kernel},
            *(
                [{"destination": "/data", "type": "bind", "source": str(data), "options": ["rbind", "rw"]}]
                if options.volume
                else []
            ),
            *(
                {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": memory}
                for path in options.tmpfs
            ),
        ],
        "linux": {
            # No network namespace: the host's network, so that no bridge is needed.
            "namespaces": [
                {"type": kind}
                for kind in ("pid", "ipc", "uts", "mount", *(["user"] if options.first_uid else []))
            ],
            **({"uidMappings": ids, "gidMappings": ids} if options.first_uid else {}),
            "seccomp": for_runtime(json.loads(options.seccomp.read_text()), bounding),
            "maskedPaths": list(_MASKED) if options.masked else [],
            "readonlyPaths": list(_READ_ONLY) if options.masked else [],
        },
    }


class Container:
    """A container that runs, until `wait`."""

    def __init__(self, name: str, work: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._work = work
        self._process = process
        self.began = time.monotonic()

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float = _SECONDS) -> float:
        """Wait until it has written `words`; return the seconds since its start.

        Raises:
            RuntimeError: It ended before, or time is up.
        """
        while words not in self.text:
            if self._process.poll() is not None or time.monotonic() - self.began > seconds:
                raise RuntimeError(f"the container did not write {words!r}:\n{self.text}")
            time.sleep(_PAUSE_SECONDS)
        return time.monotonic() - self.began

    def kill(self, signal: str) -> None:
        """Send a signal to its process 1."""
        _crun(self._work, "kill", self.name, signal)

    def wait(self, seconds: float = _SECONDS) -> int:
        """Wait for its end; return its exit status."""
        return self._process.wait(seconds)

    def execute(self, *command: str, detach: bool = False) -> str:
        """Run a command in it, as its user."""
        return _crun(self._work, "exec", *(["--detach"] if detach else []), self.name, *command)

    def pid(self) -> int:
        """Return the number of its process 1 on this machine."""
        return int(json.loads(_crun(self._work, "state", self.name))["pid"])

    def states(self) -> list[tuple[str, str, int]]:
        """Return name, state and uid of each of its processes."""
        children: dict[int, list[int]] = {}
        found: dict[int, tuple[str, str, int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    head, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
                    # Not the owner of the folder: that is root for what may not be dumped.
                    uid = int(
                        (entry / "status").read_text(errors="replace").partition("\nUid:")[2].split()[0]
                    )
                except OSError:  # it has ended
                    continue
                state, parent = rest.split()[:2]
                found[int(entry.name)] = (head.partition("(")[2], state, uid)
                children.setdefault(int(parent), []).append(int(entry.name))
        waiting, below = [self.pid()], []
        while waiting:
            pid = waiting.pop()
            below.append(found[pid])
            waiting += children.get(pid, [])
        return below

    def remove(self) -> None:
        """Kill what is left, and remove what crun knows of it."""
        subprocess.run(
            [*_command(self._work), "delete", "--force", self.name], capture_output=True, check=False
        )
        if self._process.poll() is None:
            self._process.wait(30)
        shutil.rmtree(self._work / self.name)


def _command(work: Path) -> list[str]:
    command = ["crun", "--root", str(work / "crun"), "--cgroup-manager=disabled"]
    if _HYBRID.is_mount():
        return ["unshare", "--mount", "sh", "-c", f'umount {_HYBRID} && exec "$@"', "sh", *command]
    return command


def _crun(work: Path, *arguments: str) -> str:
    done = subprocess.run([*_command(work), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"crun {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def running(image: Image, options: Options, data: Path, work: Path, name: str) -> Iterator[Container]:
    """Run the image's server; what is left of it at the end is killed."""
    bundle = work / name
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(specification(image, options, data)))
    log = bundle / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_command(work), "run", "--bundle", str(bundle), name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    container = Container(name, work, process, log)
    try:
        yield container
    finally:
        container.remove()
