"""The image, built without a registry and without a daemon: Debian's debootstrap makes the base, buildah the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from _container import Image

__all__ = ["Built", "build", "missing_programs"]

_HERE: Final = Path(__file__).resolve().parent
_PROJECT: Final = _HERE.parents[1]
_RELEASE: Final = "bookworm"
# Of pip's configuration: what decides about where packages come from, and who vouches for it.
_PIP_OPTIONS: Final = ("index-url", "proxy", "timeout", "trusted-host")
_COMPILERS: Final = (
    "as",
    "c++",
    "c89",
    "c99",
    "cc",
    "clang",
    "cpp",
    "g++",
    "gcc",
    "ld",
    "make",
    "rustc",
    "tcc",
)


@dataclass(frozen=True)
class Built:
    """An image, unpacked.

    Attributes:
        image: To run.
        base_seconds: How long the base took, `debootstrap` included.
        seconds: How long the image took.
        base_mb: Size of the base's files in MB.
        mb: Of all.
        compilers: Compilers in it.
        privileged: Files in it that run as another user.
    """

    image: Image
    base_seconds: float
    seconds: float
    base_mb: int
    mb: int
    compilers: list[str]
    privileged: list[str]


def missing_programs() -> list[str]:
    """Return which programs are missing on this machine."""
    return [each for each in ("buildah", "crun", "debootstrap") if shutil.which(each) is None]


@contextmanager
def build(work: Path) -> Iterator[Built]:
    """Build the image from the project's Dockerfile, and unpack it for a block; its files lie below `work`."""
    began = time.monotonic()
    base = work / "base"
    _run("debootstrap", "--variant=minbase", _RELEASE, str(base))
    _copy_sources(base)
    # As the official images have it: a build that is cut off is thrown away, so packages need not wait for the disk.
    (base / "etc/dpkg/dpkg.cfg.d/docker-apt-speedup").write_text("force-unsafe-io\n")
    base_mb = _megabytes(base)
    buildah = _Buildah(work)
    made = buildah("from", "scratch")
    buildah("copy", "--quiet", made, str(base), "/")
    buildah("commit", "--quiet", "--rm", made, "cdpbridge-base")
    shutil.rmtree(base)
    base_seconds = time.monotonic() - began

    began = time.monotonic()
    buildah(
        *("bud", "--format", "docker", "--build-arg", "BASE=localhost/cdpbridge-base", "--tag", "cdpbridge"),
        *_pip_secrets(work),
        *(
            "--ignorefile",
            str(_HERE / "Dockerfile.dockerignore"),
            "--file",
            str(_HERE / "Dockerfile"),
            str(_PROJECT),
        ),
    )
    seconds = time.monotonic() - began
    container = buildah("from", "localhost/cdpbridge")
    try:
        root = Path(buildah("mount", container))
        # Root of another user namespace goes through its folders, too.
        for folder in root.parents:
            if folder == work:
                break
            folder.chmod(folder.stat().st_mode | 0o011)
        config = json.loads(buildah("inspect", "--type", "image", "localhost/cdpbridge"))["Docker"]["config"]
        yield Built(
            Image(root, config),
            base_seconds,
            seconds,
            base_mb,
            _megabytes(root),
            [
                name
                for name in _COMPILERS
                for folder in ("usr/bin", "usr/local/bin")
                if (root / folder / name).exists()
            ],
            _run("find", str(root), "-xdev", "-type", "f", "-perm", "/6000").split(),
        )
    finally:
        buildah("umount", container)
        buildah("rm", container)
        buildah("rmi", "--all", "--force")


class _Buildah:
    def __init__(self, work: Path) -> None:
        self._work = work

    def __call__(self, *arguments: str) -> str:
        folders = ("--root", str(self._work / "storage"), "--runroot", str(self._work / "runroot"))
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._work)}
        return _run("buildah", "--storage-driver", "vfs", *folders, *arguments, environment=environment)


def _copy_sources(base: Path) -> None:
    """Let the base have security updates: from where this machine has them, if it runs the same Debian."""
    folder = Path("/etc/apt")
    for name in ("sources.list", "sources.list.d/debian.sources"):
        source = folder / name
        if source.exists() and _RELEASE in source.read_text():
            shutil.copy(source, base / "etc/apt" / name)


def _pip_secrets(work: Path) -> list[str]:
    """Return options that give the build pip's configuration of this machine."""
    lines = _run(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = value.strip("'")
    options = [f"{name} = {found[name]}" for name in _PIP_OPTIONS if name in found]
    secrets = []
    if "cert" in found:
        options.append("cert = /run/secrets/ca")
        secrets += ["--secret", f"id=ca,src={found['cert']}"]
    configuration = work / "pip.conf"
    configuration.write_text("\n".join(["[global]", *options]) + "\n")
    return [*secrets, "--secret", f"id=pip,src={configuration}"]


def _megabytes(folder: Path) -> int:
    return int(_run("du", "--summarize", "--one-file-system", "--block-size=1000000", str(folder)).split()[0])


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout.strip()
