"""What this user has rented and not yet seen stopped. It survives whatever ends the program: SIGKILL, power loss.

One SQLite file for all programs of a user. A rental has one row, written in three steps, each on disk before the program
goes on:

    intention   before `POST /browsers`: who (process), where (server, fingerprint of the key), what
    rented      the browser's id and dates, as soon as they are known
    ended       after a stop that the server confirmed, with the receipt

A row without an end whose owner is dead is a leak, and `cdpbridge.reap` stops it. Queues of waiting programs are kept here too,
so that slots are given first come, first served across processes.

A connection is opened for one transaction (some ms, most of them the flush to disk): nothing is held open, so forks, threads, a
deleted file and closed loops need no care. API keys are never written: a keyed hash tells which key a rental belongs to.
"""

from __future__ import annotations

from ._admission import Admission
from ._entry import Entry, Outcome
from ._journal import LOCAL, Journal, journal_at

__all__ = ["LOCAL", "Admission", "Entry", "Journal", "Outcome", "journal_at"]
