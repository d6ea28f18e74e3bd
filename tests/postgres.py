"""PostgreSQL for tests: one instance a pytest process, started by the first test that wants it; a database of its own for each test.

It listens on a socket in its folder and on no port, or on a machine of its own. A database is a copy of one that was migrated once.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path

import pytest

SECRET = "secret-of-the-servers-of-tests-0123456789"
_USER = "postgres"
_TEMPLATE = "template_of_tests"
# Nothing of this instance outlives the tests, so it need not wait for the disk.
_FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "autovacuum=off",
)


def programs_folder() -> Path | None:
    """Where PostgreSQL's programs are, of the newest version; Debian has them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


INSTALLED = pytest.mark.skipif(
    programs_folder() is None, reason="PostgreSQL is not installed; apt-get install postgresql"
)
BOTH = ["sqlite", pytest.param("postgresql", marks=INSTALLED)]
"""Parameters of a fixture whose tests run on both databases."""


_WIPE = "wipe"
# Foreign keys are not looked at, whose order would matter; to copy and remove a database takes four times as long.
_CUT_AND_EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
SET session_replication_role = replica;
DO $$ DECLARE each text; BEGIN
    FOR each IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'tables') LOOP
        EXECUTE 'DELETE FROM ' || each;
    END LOOP;
END $$;
"""
_IS_CURRENT = "SELECT coalesce(bool_and(version_num = '{}'), false) AS current FROM alembic_version"


class Postgres:
    """A running instance, by default with settings for tests.

    Args:
        machine: Of `tests/machines.py`, on which servers reach it; statements of tests take the socket, past its cable.
        like: Another one, on a machine and stopped, whose data it starts with.
    """

    def __init__(self, settings=_FAST, machine=None, like=None):
        self._settings = settings
        self._machine = machine
        self._like = like
        self._bin = programs_folder()
        # Its socket is in there: the names of sockets are short.
        self.folder = Path(tempfile.mkdtemp(prefix="cdpb-pg-"))
        self._numbers = count()
        self._wiped = []
        self._process = None
        # PostgreSQL refuses to run as root.
        self._as = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, _USER, _USER)
        try:
            self._make()
        except BaseException:  # or its process would stay
            self.close()
            raise

    def _make(self):
        if self._like is not None:
            subprocess.run(["cp", "-a", self._like.folder / "data", self.folder], check=True)
            self.start()
            return
        self._run(
            "initdb", "-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"
        )
        if self._machine is not None:
            with (self.folder / "data" / "pg_hba.conf").open("a") as admitted:
                admitted.write("host all all all trust\n")
        self.start()
        self._admin(f"CREATE DATABASE {_TEMPLATE}")
        in_thread(self._migrate())

    def _run(self, program, *arguments):
        command = [self._bin / program, *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=90, **self._as)

    def start(self):
        """Start it, and wait until it answers."""
        self.begin()
        self.wait_until_ready()

    def begin(self):
        """Start it, in a thread that lives as long as it is to run."""
        listen = "" if self._machine is None else self._machine.address
        command = [
            self._bin / "postgres",
            "-D",
            "data",
            "-k",
            self.folder,
            "-c",
            f"listen_addresses={listen}",
        ]
        command += [word for each in self._settings for word in ("-c", each)]
        options = {"preexec_fn": _end_with_this_process, **self._as}
        if self._machine is not None:  # only root enters it
            user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--pdeathsig=QUIT"]
            command, options = self._machine.command(*user, *command), {}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **options)

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                self._admin("SELECT 1")
                return
            except Exception:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self, number=signal.SIGINT):
        """SIGINT: connections are cut, transactions rolled back; SIGQUIT: as if it were killed."""
        self._process.send_signal(number)
        self._process.wait(60)

    def signal_all(self, number):
        """Send a signal to the instance and to each of its processes."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            with suppress(ProcessLookupError):  # a connection has ended in this moment
                os.kill(pid, number)

    def close(self):
        """End it and remove all it has."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    @property
    def pid(self):
        """The process that all others are children of."""
        return self._process.pid

    def url(self, name):
        if self._machine is not None:
            return f"postgresql+asyncpg://{_USER}@{self._machine.address}/{name}"
        return self._url_here(name)

    def _url_here(self, name):
        return f"postgresql+asyncpg://{_USER}@/{name}?host={self.folder}"

    def new_database(self, *, empty=False):
        """The address of a database without rows, with the tables of this version or without."""
        if self._wiped and not empty:
            return self._wiped.pop()
        name = f"test_{next(self._numbers)}"
        self._admin(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {_TEMPLATE}"))
        return self.url(name)

    def give_back(self, url):
        """A test is done with a database: the next one gets it, if its tables are still those of this version."""
        if self.rows(url, _WIPE)[0]["current"]:
            self._wiped.append(url)
        else:
            self.drop(url)

    def drop(self, url):
        """Remove a database; what is still connected is cut off."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _admin(self, statement):
        return self.rows(self.url("postgres"), statement)

    def rows(self, url, statement):
        """What a statement gives, as dictionaries; past SQLAlchemy."""
        return in_thread(self._rows(url, statement))

    async def _rows(self, url, statement):
        import asyncpg

        from cdpbridge.server.store._engine import newest_revision

        name = url.partition("?")[0].rpartition("/")[2]
        connection = await asyncpg.connect(host=str(self.folder), user=_USER, database=name, timeout=60)
        try:
            if statement is _WIPE:
                await connection.execute(_CUT_AND_EMPTY)
                statement = _IS_CURRENT.format(newest_revision())
            return [dict(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def _migrate(self):
        from cdpbridge.server.store import Store

        await (await Store.open(self._url_here(_TEMPLATE), timeout=timedelta(minutes=1))).close()


def in_thread(work):
    """What a coroutine gives; a loop may run in this thread."""
    result = Future()

    def run():
        try:
            result.set_result(asyncio.run(work))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result.result()


_LIBC = ctypes.CDLL(None)


def _end_with_this_process():
    pr_set_pdeathsig = 1
    _LIBC.prctl(pr_set_pdeathsig, signal.SIGQUIT)


@cache
def instance():
    """The instance that the tests of this process share."""
    return Postgres()


def close_instance():
    """End it, if a test has started it."""
    if instance.cache_info().currsize:
        instance().close()
        instance.cache_clear()
