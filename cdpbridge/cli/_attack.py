"""`cdpbridge doctor --attack`: the attacks of a customer on one's own server, as a table."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from ._output import print_json, print_rows, progress, say, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient
    from cdpbridge.attack import AttackReport, Finding

__all__ = ["SECOND_KEY_VARIABLE", "run_attacks"]

SECOND_KEY_VARIABLE: Final = "BROWSER_USE_SECOND_API_KEY"
# It imports nothing as long as nothing happens. A program's files are closed before it counts as ended.
_GUARD: Final = """
import os, sys, time
parent = os.getppid()
if not sys.stdin.readline():
    while os.getppid() == parent and os.name == "posix":
        time.sleep(0.05)
    import asyncio
    from cdpbridge import reap
    second = os.environ.pop(sys.argv[2], None)
    asyncio.run(reap(sys.argv[1]))
    if second:
        os.environ["BROWSER_USE_API_KEY"] = second
        asyncio.run(reap(sys.argv[1]))
"""
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
            await stack.enter_async_context(_guard(client.base_url))
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


@asynccontextmanager
async def _guard(base_url: str) -> AsyncIterator[None]:
    """Have another process stop the rented browsers, of which the journal knows, if this one is killed in the block."""
    guard = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _GUARD, base_url, SECOND_KEY_VARIABLE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # what ends this process ends its group, as a rule
    )
    assert guard.stdin is not None
    try:
        yield
    finally:
        with suppress(OSError):  # it was killed itself
            guard.stdin.write(b"over\n")
            await guard.stdin.drain()
        guard.stdin.close()
        await guard.wait()


def _print(report: AttackReport) -> None:
    say(f"server     {report.server}")
    say(f"isolation  {report.isolation or 'the server does not say'}")
    rows = [[_WORDS[each.outcome], each.area, each.attack, each.detail] for each in report.findings]
    print_rows(["outcome", "area", "attack", "what was seen"], rows, cut=("attack", "what was seen"))
    counts = report.counts()
    say(", ".join(f"{counts[outcome]} {words}" for outcome, words in _WORDS.items() if counts[outcome]))
    for each in report.through:
        say(f"got through: {each.attack}: {each.detail}")
