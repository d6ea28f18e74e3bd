"""The runner: rents the attacker's browsers and a neighbour's, attacks, and stops them whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cdpbridge._concurrency import in_thread
from cdpbridge.api import AsyncClient
from cdpbridge.browser import open_browser
from cdpbridge.errors import APIError, CDPBridgeError, ConfigurationError, redact_url

from ._ask import get_json
from ._canary import Canary, is_own_address, own_addresses
from ._files import file_attacks
from ._findings import OUTCOMES, Finding, Verdict, untried
from ._network import list_attacks, network_attacks
from ._programs import program_attacks
from ._projects import no_victim, project_attacks, stopped_attack, victim, victim_attacks
from ._scene import Attack, Rented, Scene, Server

__all__ = ["AttackReport", "attack"]

logger = logging.getLogger("cdpbridge.attack")

_AT_ONCE: Final = 4
_ATTACK_SECONDS: Final = 40.0  # a file is read in four ways of 10 s each
_PAID: Final = timedelta(minutes=15)  # the plan `free` allows no more
_NOWHERE: Final = ["attack.invalid"]
_TIME_UP: Final = "the time for all attacks was over"


@dataclass(frozen=True, slots=True)
class AttackReport:
    """What came of all attacks.

    Attributes:
        server: The address, shortened.
        isolation: What the server says of its isolation; empty if nothing.
        findings: In the order in which they were tried.
    """

    server: str
    isolation: str
    findings: Sequence[Finding]

    @property
    def through(self) -> list[Finding]:
        """Those that got through."""
        return [each for each in self.findings if each.outcome == "through"]

    def counts(self) -> dict[str, int]:
        """Return how many had which outcome."""
        return {outcome: sum(each.outcome == outcome for each in self.findings) for outcome in OUTCOMES}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        found = [asdict(each) for each in self.findings]
        return {
            "server": self.server,
            "isolation": self.isolation,
            "counts": self.counts(),
            "findings": found,
        }


async def attack(
    client: AsyncClient,
    *,
    other: AsyncClient | None = None,
    paths: Iterable[str] = (),
    areas: Iterable[str] = ("files", "programs", "network", "projects"),
    seconds: float = 600.0,
    on_finding: Callable[[Finding], object] = lambda _: None,
) -> AttackReport:
    """Attack a server of one's own, as a customer could, with at most three browsers at a time, which are stopped.

    Args:
        client: With a customer's key; open.
        other: With the key of another project, whose records are attacked; open.
        paths: Files and folders of the server's machine that no browser may read or write, e.g. the server's data folder.
        areas: What is attacked.
        seconds: For all attacks; what is left then is reported as not tried.
        on_finding: Called with each finding as it is made.

    Raises:
        ConfigurationError: There is no such area.
        APIError: No browser could be rented for the attacker.
    """
    chosen = set(areas)
    if unknown := chosen - {"files", "programs", "network", "projects"}:
        raise ConfigurationError(f"there is nothing to attack called {', '.join(sorted(unknown))}")
    run = _Run(time.monotonic() + seconds, chosen, on_finding)
    server = await _look_at(client)
    async with AsyncExitStack() as stack:
        canary = await stack.enter_async_context(Canary()) if server.here else None
        cdp_url = ""
        async with _rented(client) as attacker, _neighbour(client) as (neighbour, why):
            cdp_url = attacker.browser.cdp_url
            scene = Scene(server, client, attacker, neighbour, canary, [*paths], other, why)
            for attacks in (file_attacks, program_attacks, network_attacks, project_attacks):
                await run.all(attacks(scene))
        if "projects" in chosen:
            await run.all([stopped_attack(cdp_url)])
            await _attack_project(run, scene)
        if "network" in chosen:
            await _attack_lists(run, scene)
    return AttackReport(redact_url(server.base_url), server.isolation, run.findings)


class _Run:
    """Attacks one after another, or some at a time, until a deadline."""

    def __init__(self, deadline: float, areas: set[str], on_finding: Callable[[Finding], object]) -> None:
        self.findings: list[Finding] = []
        self._deadline = deadline
        self._areas = areas
        self._on_finding = on_finding

    async def all(self, attacks: Iterable[Attack]) -> None:
        """Try each of them that belongs to the areas."""
        waiting: list[Attack] = []
        for each in attacks:
            if each.area not in self._areas:
                continue
            if each.alone:
                await self._together(waiting)
                waiting = []
                await self._together([each])
            else:
                waiting.append(each)
        await self._together(waiting)

    async def _together(self, attacks: Sequence[Attack]) -> None:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(each: Attack) -> Finding:
            async with turns:
                finding = Finding(each.area, each.name, *await self._verdict(each))
            self._on_finding(finding)
            return finding

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in attacks]
        self.findings += [task.result() for task in tasks]

    async def _verdict(self, attack: Attack) -> Verdict:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return untried(_TIME_UP)
        try:
            async with asyncio.timeout(min(_ATTACK_SECONDS, left)):
                return await attack.work()
        except TimeoutError:
            return untried("no answer in time")
        except (CDPBridgeError, OSError, ValueError, KeyError, IndexError) as error:
            # Another browser or server than ours answers in its own way: that is no proof of anything.
            logger.debug("%s", attack.name, exc_info=True)
            return untried(f"{type(error).__name__}: {error}")


@asynccontextmanager
async def _rented(client: AsyncClient, allowed_hosts: Sequence[str] | None = None) -> AsyncIterator[Rented]:
    async with open_browser(client, timeout=_PAID, allowed_hosts=allowed_hosts, reap=False) as browser:
        yield await Rented.find(browser)


@asynccontextmanager
async def _neighbour(client: AsyncClient) -> AsyncIterator[tuple[Rented | None, str]]:
    """Rent another browser for a block, or say why there is none."""
    async with AsyncExitStack() as stack:
        try:
            rented: Rented | None = await stack.enter_async_context(_rented(client))
            why = ""
        except CDPBridgeError as error:
            rented, why = None, f"there is no second browser: {error}"
        yield rented, why


async def _attack_project(run: _Run, scene: Scene) -> None:
    if scene.other is None:
        await run.all([no_victim("no key of another project was given (BROWSER_USE_SECOND_API_KEY)")])
        return
    try:
        async with victim(scene.other) as theirs:
            await run.all(victim_attacks(scene, scene.other, theirs))
    except APIError as error:
        await run.all([no_victim(f"the other project has nothing to attack: {error}")])


async def _attack_lists(run: _Run, scene: Scene) -> None:
    """Attack with a browser that may reach no host: what a page reaches then, no setting allows."""
    try:
        async with _rented(scene.client, _NOWHERE) as limited:
            inner = Scene(scene.server, scene.client, limited, None, scene.canary)
            await run.all(list_attacks(inner))
    except CDPBridgeError as error:
        why = untried(f"no browser with a list of hosts: {error}")

        async def work() -> Verdict:
            return why

        await run.all([Attack("network", "past allowedHosts", work)])


async def _look_at(client: AsyncClient) -> Server:
    """Find out what can be known of the server before it is attacked."""
    base_url = client.base_url
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    server = Server(base_url)
    pressure = await in_thread(get_json, server.origin, "/pressure")
    here = await in_thread(_is_here, host, pressure.get("memoryTotalBytes"))
    private = pressure.get("privateNetwork")
    addresses = [host, *(await in_thread(own_addresses) if here else [])]
    return Server(
        base_url,
        list(dict.fromkeys(each for each in addresses if each)),
        None if private is None else private == "allow",
        str(pressure.get("isolation") or ""),
        here=here,
    )


def _is_here(host: str, memory_total: int | None) -> bool:
    """Return True if the server runs on this machine: a tunnel's end has an address of ours, too, but another memory."""
    if not is_own_address(host):
        return False
    try:
        from cdpbridge.server.limits import read_machine  # noqa: PLC0415  # the extra `local` may be absent
    except ImportError:
        return True
    return memory_total is None or memory_total == read_machine(Path("/")).memory_total
