"""`cdpbridge doctor --attack`: the attacks of a customer on one's own server, as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from ._output import print_json, print_rows, progress, say, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient
    from cdpbridge.attack import AttackReport, Finding

__all__ = ["SECOND_KEY_VARIABLE", "run_attacks"]

SECOND_KEY_VARIABLE: Final = "BROWSER_USE_SECOND_API_KEY"
_WORDS: Final = {
    "through": "got through",
    "allowed": "allowed by the server's settings",
    "held": "held",
    "untried": "not tried",
}


def run_attacks(where: str, paths: Sequence[str], seconds: float, *, as_json: bool) -> bool:
    """Attack the server at `where` and print what came of it; return True if nothing got through."""

    async def work(client: AsyncClient) -> AttackReport:
        from cdpbridge.attack import attack
        from cdpbridge.providers import at

        async with AsyncExitStack() as stack:
            second = os.environ.get(SECOND_KEY_VARIABLE)
            other = await stack.enter_async_context(at(client.base_url, second)) if second else None
            with progress("renting a browser") as show:

                def tell(finding: Finding) -> None:
                    show(f"{finding.area}: {finding.attack}")

                return await attack(client, other=other, paths=paths, seconds=seconds, on_finding=tell)

    report = with_client(where, work)
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report)
    return not report.through


def _print(report: AttackReport) -> None:
    say(f"server     {report.server}")
    say(f"isolation  {report.isolation or 'the server does not say'}")
    rows = [[_WORDS[each.outcome], each.area, each.attack, each.detail] for each in report.findings]
    print_rows(["outcome", "area", "attack", "what was seen"], rows, cut=("attack", "what was seen"))
    counts = report.counts()
    say(", ".join(f"{counts[outcome]} {words}" for outcome, words in _WORDS.items() if counts[outcome]))
    for each in report.through:
        say(f"got through: {each.attack}: {each.detail}")
