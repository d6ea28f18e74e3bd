"""Attacks on one's own server: what a customer who means harm would try with a rented browser, and what came of it.

    _findings, _targets   logic: what can come of an attack, what is aimed at, what an answer means
    _page, _canary        a page that the attacker drives; a listener that notices what reaches it
    _files, _programs, _network, _borders   the attacks
    _run                  the runner: rents, attacks one by one, stops

Nothing is destroyed: files are read, a file of one line is written where that is possible, and every browser is stopped.
"""

from __future__ import annotations

from ._findings import Finding, Outcome
from ._run import AttackReport, attack

__all__ = ["AttackReport", "Finding", "Outcome", "attack"]
