"""PostgreSQL from Debian's packages, as a Compose file would run it: one database, a password, a port of the machine."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from _trial import free_port

__all__ = ["PostgreSQL"]

_USER: Final = "postgres"  # of Debian's package; PostgreSQL refuses to run as root
_NAME: Final = "cdpbridge"
_START_SECONDS: Final = 60.0


class PostgreSQL:
    """An instance that runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._password = secrets.token_hex(16)

    @staticmethod
    def _programs() -> Path | None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
        return found[-1].parent if found else None

    @classmethod
    def is_installed(cls) -> bool:
        """Return True if this machine has the package."""
        return cls._programs() is not None

    def url(self, name: str = _NAME) -> str:
        """Return the setting `database_url`."""
        return f"postgresql+asyncpg://{_NAME}:{self._password}@127.0.0.1:{self._port}/{name}"

    @classmethod
    @contextmanager
    def running(cls, work: Path) -> Iterator[PostgreSQL]:
        """Run one below `work`."""
        folder = work / "postgresql"
        folder.mkdir(mode=0o700)
        shutil.chown(folder, _USER, _USER)
        database = cls(folder)
        database._make()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                database._command("postgres", "-D", "data", "-p", str(database._port), "-k", str(folder)),
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            database._wait(process)
            yield database
        finally:
            process.send_signal(signal.SIGINT)  # transactions are rolled back
            process.wait()

    def dump(self) -> bytes:
        """Return a backup, as docs/docker.md has it."""
        return self._run("pg_dump", *self._login(), "--format=custom", _NAME)

    def restore(self, dump: bytes, name: str) -> None:
        """Make a database of a backup."""
        self._run("createdb", *self._login(), name)
        self._run(
            "pg_restore",
            *self._login(),
            "--clean",
            "--if-exists",
            "--exit-on-error",
            f"--dbname={name}",
            given=dump,
        )

    def _make(self) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        shutil.chown(password, _USER, _USER)
        self._run(
            *("initdb", "-D", "data", "-U", _NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"),
            *("--locale=C.UTF-8", f"--pwfile={password}"),
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._run("createdb", *self._login(), _NAME)
                return
            except RuntimeError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{error}\n{(self._folder / 'log').read_text()}") from error
                time.sleep(0.1)

    def _login(self) -> tuple[str, ...]:
        return (f"--username={_NAME}", "--host=127.0.0.1", f"--port={self._port}", "--no-password")

    def _command(self, program: str, *arguments: str) -> list[str]:
        programs = self._programs()
        assert programs is not None
        lower = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")
        return [*lower, "env", f"PGPASSWORD={self._password}", str(programs / program), *arguments]

    def _run(self, program: str, *arguments: str, given: bytes | None = None) -> bytes:
        command = self._command(program, *arguments)
        done = subprocess.run(command, cwd=self._folder, input=given, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")
        return done.stdout
