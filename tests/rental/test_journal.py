"""The journal: real SQLite files, real processes."""

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from cdpbridge import Journal, Receipt, Tariff
from cdpbridge.billing import cost
from cdpbridge.rental.journal import Entry, Outcome, journal_at
from cdpbridge.rental.journal._owner import Fate, Owner
from tests import programs

pytestmark = pytest.mark.programs

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
DEAD = Owner(
    2**22 + 1, "1", Owner.this_process().boot, Owner.this_process().host, Owner.this_process().namespace
)


def an_entry(**values):
    return replace(
        Entry(
            rental=uuid4(),
            place="https://rest.test/api/v2",
            account="a",
            owner=Owner.this_process(),
            tariff=Tariff(),
            intended_at=NOW,
            timeout=timedelta(minutes=5),
            profile="work",
            country="de",
            label="nightly",
            scopes=("budget x",),
            active_before=frozenset({uuid4()}),
        ),
        **values,
    )


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "state" / "journal.sqlite3")


def test_a_file_of_an_older_version_gets_the_columns_that_came_later(journal):
    older = an_entry()
    journal.intend(older)
    with sqlite3.connect(journal.path) as database:
        database.execute("ALTER TABLE rentals DROP COLUMN simulated")
    database.close()
    later = Journal(journal.path)
    newer = an_entry(simulated=True, intended_at=NOW + timedelta(minutes=1))
    later.intend(newer)
    assert later.entries() == [older, newer]


def test_fault_e08_what_an_older_version_wrote_of_local_is_simulated_too(journal):
    journal.intend(an_entry(place="local"))
    journal.intend(an_entry())
    assert {entry.place: entry.simulated for entry in journal.entries()} == {
        "local": True,
        "https://rest.test/api/v2": False,
    }


def test_the_three_steps_of_a_rental(journal):
    entry = an_entry()
    journal.intend(entry)
    assert journal.open_entries() == [entry]
    browser_id, end = uuid4(), NOW + timedelta(minutes=5)
    assert journal.rented(entry.rental, browser_id, started_at=NOW, timeout_at=end)
    rented = replace(entry, browser_id=browser_id, started_at=NOW, timeout_at=end)
    assert journal.open_entries() == [rented]
    assert journal.known_browsers(entry.place) == {browser_id}
    receipt = Receipt.of(Tariff(), timedelta(minutes=3), booked=Decimal("0.0025"), place="rest.test")
    assert journal.end(entry.rental, Outcome.STOPPED, receipt, now=end)
    assert not journal.end(entry.rental, Outcome.NOTHING, None, now=end)  # an end happens once
    assert journal.open_entries() == []
    assert journal.entry(entry.rental) == replace(
        rented, ended_at=end, outcome=Outcome.STOPPED, receipt=receipt
    )


def test_a_browser_belongs_to_one_rental(journal):
    one, other, browser_id = an_entry(), an_entry(), uuid4()
    for entry in (one, other):
        journal.intend(entry)
    assert journal.rented(one.rental, browser_id, started_at=NOW, timeout_at=NOW)
    assert not journal.rented(other.rental, browser_id, started_at=NOW, timeout_at=NOW)
    assert journal.entry(other.rental).browser_id is None


def test_no_key_is_written_and_another_journal_tells_nothing(journal, tmp_path):
    fingerprint = journal.fingerprint("a-secret-key")
    assert (
        fingerprint == Journal(journal.path).fingerprint("a-secret-key") != journal.fingerprint("another-key")
    )
    assert fingerprint != Journal(tmp_path / "other.sqlite3").fingerprint("a-secret-key")
    journal.intend(an_entry(account=fingerprint))
    assert b"a-secret-key" not in b"".join(file.read_bytes() for file in journal.path.parent.iterdir())
    assert journal.path.stat().st_mode & 0o077 == 0


def test_entries_since(journal):
    old, new, running = an_entry(), an_entry(), an_entry()
    for entry, end in ((old, NOW), (new, NOW + timedelta(days=2)), (running, None)):
        journal.intend(entry)
        if end is not None:
            journal.end(entry.rental, Outcome.STOPPED, None, now=end)
    found = journal.entries(since=NOW + timedelta(days=1))
    assert {entry.rental for entry in found} == {new.rental, running.rental}
    assert len(journal.entries()) == 3


# --- owners -----------------------------------------------------------------------------------------------------------


def test_an_owner_is_told_from_a_later_process_with_its_number():
    me = Owner.this_process()
    assert me.fate is Fate.ALIVE
    assert replace(me, started="1").fate is Fate.DEAD
    assert replace(me, boot="an earlier one").fate is Fate.DEAD
    assert replace(me, namespace="another container's").fate is Fate.UNKNOWN
    assert replace(me, boot="its own", host="elsewhere").fate is Fate.UNKNOWN
    assert DEAD.fate is Fate.DEAD


def test_an_owner_is_dead_when_its_process_ended_also_as_a_zombie():
    program = "from cdpbridge.rental.journal._owner import Owner as O; o = O.this_process(); print(o.pid, o.started, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        pid, started = process.stdout.readline().split()
        owner = replace(Owner.this_process(), pid=int(pid), started=started)
        assert owner.fate is Fate.ALIVE
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
        assert owner.fate is Fate.DEAD
    assert owner.fate is Fate.DEAD


def test_a_fork_is_another_owner():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, Owner.this_process().started.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100).decode() != Owner.this_process().started
    os.close(reader)
    os.close(writer)


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_without_a_usable_folder_it_is_said_once_and_goes_on(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    journal = Journal(tmp_path / "file" / "journal.sqlite3")
    for _ in range(2):
        journal.intend(an_entry())
    assert len(journal.open_entries()) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be used (File exists)" in caplog.text
    assert repr(journal) == "<Journal in memory>"


def test_off_keeps_none(environment, tmp_path, caplog):
    environment.setenv("CDPBRIDGE_JOURNAL", "off")
    environment.chdir(tmp_path)
    journal = journal_at(None)
    entry = an_entry()
    journal.intend(entry)
    assert journal.open_entries() == [entry]
    assert (list(tmp_path.iterdir()), caplog.records) == ([], [])
    environment.setenv("CDPBRIDGE_JOURNAL", str(tmp_path / "mine"))
    assert journal_at(None).path == tmp_path / "mine"
    assert journal_at(journal) is journal


@pytest.mark.parametrize("damage", ["no database", "torn pages", "cut short"])
def test_an_unreadable_file_is_put_aside(journal, caplog, damage):
    for _ in range(300):
        journal.intend(an_entry())
    whole = journal.path.read_bytes()
    damaged = {
        "no database": b"something else entirely" * 200,
        "torn pages": whole[:4096] + os.urandom(len(whole) - 4096),
        "cut short": whole[: len(whole) // 8],
    }[damage]
    journal.path.write_bytes(damaged)
    entry = an_entry()
    journal.intend(entry)
    assert journal.open_entries() == [entry]
    [aside] = [file for file in journal.path.parent.iterdir() if "unreadable" in file.name]
    assert aside.read_bytes() == damaged
    assert len(caplog.records) == 1
    assert "is kept as" in caplog.text


def test_a_newer_schema_is_left_alone(journal, caplog):
    journal.intend(an_entry())
    with sqlite3.connect(journal.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    path = journal.path
    journal.intend(an_entry())
    assert "newer cdpbridge" in caplog.text
    assert sqlite3_rows(path) == 1


def sqlite3_rows(path):
    database = sqlite3.connect(path)
    try:
        return database.execute("SELECT count(*) FROM rentals").fetchone()[0]
    finally:
        database.close()


# --- many processes, and power loss -----------------------------------------------------------------------------------

WRITER = """
import sys
from dataclasses import replace
from uuid import uuid4
sys.path.insert(0, {tests!r})
from test_journal import an_entry
from cdpbridge import Journal
journal = Journal(sys.argv[1])
for _ in range(int(sys.argv[2])):
    entry = an_entry()
    journal.intend(entry)
    print(entry.rental, flush=True)
"""


def writer(journal, count):
    program = WRITER.format(tests=str(Path(__file__).parent))
    return programs.Program(
        [sys.executable, "-c", program, str(journal.path), str(count)], stdout=subprocess.PIPE, text=True
    )


def test_many_processes_write_at_once(journal):
    processes = [writer(journal, 20) for _ in range(4)]
    written = {line for process in processes for line in process.communicate(timeout=280)[0].split()}
    assert {str(entry.rental) for entry in journal.open_entries()} == written
    assert len(written) == 80


def test_what_was_written_outlives_kill_9(journal):
    with writer(journal, 10_000) as process:
        written = [process.stdout.readline().strip() for _ in range(20)]
        process.kill()
        written += process.stdout.read().split()
    found = {str(entry.rental) for entry in journal.open_entries()}
    assert set(written) <= found
    assert len(found) <= len(written) + 1  # one was on disk and not yet told


# --- whatever happens in whatever order -------------------------------------------------------------------------------


class Money(RuleBasedStateMachine):
    """Rentals that begin, are answered, stop, get lost, are reaped twice: the journal's sum is the sum of what was paid."""

    rentals = Bundle("rentals")

    def __init__(self):
        super().__init__()
        self.journal = Journal("off")
        self.open = {}
        self.paid = {}

    @rule(target=rentals, timeout=st.integers(1, 240), price=st.sampled_from(["0.05", "0.02"]))
    def intend(self, timeout, price):
        entry = an_entry(timeout=timedelta(minutes=timeout), tariff=Tariff(Decimal(price)))
        self.journal.intend(entry)
        self.open[entry.rental] = entry
        return entry

    @rule(entry=rentals)
    def answered(self, entry):
        end = NOW + entry.timeout
        assert self.journal.rented(entry.rental, uuid4(), started_at=NOW, timeout_at=end)

    @rule(entry=rentals)
    def gives_up(self, entry):
        self.journal.give_up(entry.rental)

    @rule(entry=consumes(rentals), seconds=st.integers(0, 4 * 3600), again=st.integers(0, 4 * 3600))
    def stops(self, entry, seconds, again):
        used = min(timedelta(seconds=seconds), entry.timeout)
        expected = entry.rental in self.open
        receipt = Receipt.of(entry.tariff, used)
        assert self.journal.end(entry.rental, Outcome.STOPPED, receipt, now=NOW) is expected
        late = Receipt.of(entry.tariff, timedelta(seconds=again))
        assert not self.journal.end(entry.rental, Outcome.STOPPED, late, now=NOW)
        assert receipt.refunded >= 0
        self.open.pop(entry.rental)
        self.paid[entry.rental] = cost(entry.tariff, used)

    @rule(entry=consumes(rentals))
    def came_to_nothing(self, entry):
        self.journal.end(entry.rental, Outcome.NOTHING, None, now=NOW)
        self.open.pop(entry.rental)

    @invariant()
    def the_books_are_right(self):
        assert {entry.rental for entry in self.journal.open_entries()} == set(self.open)
        usage, running = self.journal.admit(lambda door: door.usage("budget x", since=NOW))
        assert usage.usd == sum(self.paid.values())
        assert {entry.rental for entry in running} == set(self.open)


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=25, stateful_step_count=20)


def test_many_that_open_a_new_journal_at_once_wait_for_each_other(tmp_path):
    from cdpbridge.rental.journal._file import opened

    for number in range(30):
        together = threading.Barrier(8)

        def open_it(path=tmp_path / f"{number}.sqlite3", together=together):
            together.wait()
            opened(path).close()

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(open_it) for _ in range(8)]:
                done.result()
