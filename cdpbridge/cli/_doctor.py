"""`cdpbridge doctor`: is this machine ready, does the server answer, and does it say what our models expect. Costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import click

from cdpbridge.api._place import Place, find_place

from ._attack import run_attacks
from ._doctor_machine import Check, machine_checks
from ._doctor_ray import ray_checks
from ._options import Group, json_option, provider_option
from ._output import print_json, say, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Call, Difference

__all__ = ["clock_skew", "register", "skew_text"]

_SAME_SECONDS: Final = 1.0
"""A smaller difference of two clocks is not worth a word."""


def register(app: Group) -> None:
    """Add the command."""
    app.command("doctor")(_doctor)


@click.option("--all", "show_all", is_flag=True, help="Also fields that are missing and need not be there.")
@click.option("--machine", "only_machine", is_flag=True, help="Check this machine only.")
@click.option(
    "--attack",
    "attacked",
    metavar="URL",
    help="Attack a server of your own, by its base URL, as a customer with the key in BROWSER_USE_API_KEY could.",
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    help="With --attack: a file or folder of its machine that no browser may reach, such as its data folder. May be repeated.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=10), default=600, help="With --attack: how long, at most."
)
@click.option(
    "--ray-address",
    envvar="CDPBRIDGE_RAY_ADDRESS",
    show_envvar=True,
    help="Also check the nodes of this Ray, which starts the workers of your servers.",
)
@json_option
@provider_option
def _doctor(
    show_all: bool,
    only_machine: bool,
    ray_address: str | None,
    attacked: str | None,
    paths: tuple[str, ...],
    seconds: float,
    as_json: bool,
    provider: str | None,
) -> None:
    """Check this machine, then the server in use.

    This machine: Chromium, folders, memory, ports, keys. Where browsers run here, one is started and stopped. The server:
    whether it answers, and whether its answers are what the models expect. Costs nothing. Ends with 1 when something does
    not work; warnings, and fields that are only new, do no harm.

    With --attack, rent browsers of a server of your own (three at a time, a minute each) and try from them what a customer who
    means harm would: its files, other browsers, private addresses, ways around its forwarder, other programs. With the key of
    another project in BROWSER_USE_SECOND_API_KEY, that project's records, too. On the machine of the server most can be seen; a
    listener is opened there meanwhile. Files that were planted are removed. Ends with 1 when something got through.
    """
    if attacked is not None or paths:
        others = provider is not None or only_machine or show_all
        _attack(attacked, paths, seconds, as_json=as_json, others=others)
    else:
        _examine_all(
            show_all=show_all,
            only_machine=only_machine,
            ray_address=ray_address,
            as_json=as_json,
            provider=provider,
        )


def _examine_all(
    *, show_all: bool, only_machine: bool, ray_address: str | None, as_json: bool, provider: str | None
) -> None:
    from cdpbridge.errors import CDPBridgeError

    problem: CDPBridgeError | None = None
    place: Place | None = None
    try:
        place = find_place(os.environ, provider, otherwise_local=True)
    except CDPBridgeError as error:
        problem = error
    local = place is not None and place.is_local
    machine = machine_checks(local=local)
    if ray_address is not None:
        machine += ray_checks(ray_address)
    if not as_json:
        _print_machine(machine)
    bad = any(check.status == "fail" for check in machine)
    report: dict[str, Any] = {}
    if problem is None and not only_machine and not (local and bad):
        try:
            report = asyncio.run(_examine_local()) if local else with_client(provider, _examine)
        except CDPBridgeError as error:
            problem = error
    for check in report.get("checks", ()):
        bad |= _is_bad(check)
        check["differences"] = [
            each for each in check["differences"] if show_all or each.detail != "optional"
        ]
    if as_json:
        checks = [check | _texts(check) for check in report.get("checks", ())]
        said = None if problem is None else str(problem)
        print_json(
            {"machine": [asdict(check) for check in machine], **report, "checks": checks, "error": said}
        )
    elif report:
        _print(report)
    if problem is not None and not as_json:
        raise problem
    if bad or problem is not None:
        raise click.exceptions.Exit(1)


def _attack(
    attacked: str | None, paths: tuple[str, ...], seconds: float, *, as_json: bool, others: bool
) -> None:
    if attacked is None:
        raise click.UsageError("--path goes with --attack")
    if others:
        raise click.UsageError("--attack names the server and goes with --path, --seconds and --json only")
    if not run_attacks(attacked, paths, seconds, as_json=as_json):
        raise click.exceptions.Exit(1)


def _is_bad(check: dict[str, Any]) -> bool:
    found: list[Difference] = check["differences"]
    return check["error"] is not None or any(
        each.kind == "invalid" or each.detail == "required" for each in found
    )


def _texts(check: dict[str, Any]) -> dict[str, Any]:
    return {"differences": [str(each) for each in check["differences"]]}


def _print_machine(checks: list[Check]) -> None:
    for check in checks:
        remedy = f": {check.remedy}" if check.remedy else ""
        say(f"{check.status:<5} {check.name:<10} {check.text}{remedy}")


def _print(report: dict[str, Any]) -> None:
    say(f"server    {report['server']}")
    if "browser_seconds" in report:
        say(f"a browser starts, loads a page and stops, in {report['browser_seconds']:.1f} s")
    if report["clock_skew_seconds"] is not None:
        say(f"clock     {skew_text(report['clock_skew_seconds'])}")
    for check in report["checks"]:
        head = check["error"] or f"{check['status']} in {check['seconds']:.3f} s"
        say(f"{check['operation']:<20} {head}")
        for each in check["differences"]:
            say(f"    {each}")
    total = sum(len(check["differences"]) for check in report["checks"])
    say(f"{total} difference{'' if total == 1 else 's'} from the models")


async def _examine_local() -> dict[str, Any]:
    """Start a server in a folder of its own and a browser on it, sandbox included; then check the server as any other."""
    from cdpbridge import local, open_browser

    with tempfile.TemporaryDirectory(prefix="cdpbridge-doctor-") as folder:
        async with local(data_dir=folder, private=True) as client:
            began = time.monotonic()
            async with open_browser(client, journal="off", reap=False) as browser:
                tab = await browser.new_tab("data:text/html,<title>well</title>")
                assert await tab.title() == "well"
            seconds = time.monotonic() - began
            return {**await _examine(client), "browser_seconds": round(seconds, 3)}


async def _examine(client: AsyncClient) -> dict[str, Any]:
    """Check each operation that only reads, with the newest entry of each list."""
    from cdpbridge._version import __version__
    from cdpbridge.api import calls
    from cdpbridge.errors import redact_url

    checks: list[dict[str, Any]] = []
    skews: list[float] = []

    async def check(operation: str, call: Call[Any]) -> Any:
        return await _check(client, checks, skews, operation, call)

    await check("billing.account", calls.get_account())
    profile = _first(await check("profiles.list", calls.list_profiles(page_size=5)))
    if profile is not None:
        await check("profiles.get", calls.get_profile(profile))
    browser = _first(await check("browsers.list", calls.list_browsers(page_size=5)))
    if browser is not None:
        await check("browsers.get", calls.get_browser(browser))
    session = _first(await check("sessions.list", calls.list_sessions(page_size=5)))
    if session is not None:
        await check("sessions.get", calls.get_session(session))
    task = _first(await check("tasks.list", calls.list_tasks(page_size=5)))
    if task is not None:
        await check("tasks.get", calls.get_task(task))
        await check("tasks.status", calls.get_task_status(task))
    return {
        "server": redact_url(client.base_url),
        "version": __version__,
        "clock_skew_seconds": min(skews, key=abs) if skews else None,
        "checks": checks,
    }


async def _check(
    client: AsyncClient,
    checks: list[dict[str, Any]],
    skews: list[float],
    operation: str,
    call: Call[Any],
) -> Any:
    from cdpbridge.api import drift
    from cdpbridge.errors import APIConnectionError, APIError, AuthenticationError

    entry: dict[str, Any] = {
        "operation": operation,
        "status": None,
        "seconds": None,
        "error": None,
        "differences": [],
    }
    checks.append(entry)
    began, asked = time.monotonic(), datetime.now(UTC)
    try:
        answer = await client.send_raw(call)
    except (AuthenticationError, APIConnectionError):  # so it would be with all others
        raise
    except APIError as error:
        entry["error"] = str(error)
        return None
    entry["seconds"] = round(time.monotonic() - began, 3)
    entry["status"] = answer.status
    assert call.answer is not None  # each of these has a body
    found = drift(call.answer, json.loads(answer.body))
    # Which models there are is the operator's to say, so a new name is no difference.
    entry["differences"] = [each for each in found if not _is_model(each)]
    if date := answer.headers.get("Date"):
        skews.append(clock_skew(parsedate_to_datetime(date), asked, datetime.now(UTC)))
    return answer.parsed


def clock_skew(date: datetime, asked: datetime, answered: datetime) -> float:
    """Return how many seconds the server's clock is ahead of this machine's, at least; 0.0 when both may be the same.

    Args:
        date: Of its answer, in whole seconds: it was sent within the second that began then.
        asked: By this machine's clock.
        answered: By this machine's clock.
    """
    early = (date - answered).total_seconds()
    late = (date + timedelta(seconds=1) - asked).total_seconds()
    return early if early > 0 else late if late < 0 else 0.0


def skew_text(seconds: float) -> str:
    """Return what the clock's line says."""
    if abs(seconds) < _SAME_SECONDS:
        return "as this machine's"
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"


def _is_model(difference: Difference) -> bool:
    return difference.kind == "unknown value" and difference.where.rpartition(".")[2] == "llm"


def _first(page: Any) -> Any:
    return page.items[0].id if page is not None and page.items else None
