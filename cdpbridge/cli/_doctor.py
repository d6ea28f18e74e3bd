"""`cdpbridge doctor`: does the server answer, and does it say what our models expect. Reads only, costs nothing."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import click

from ._options import Group, json_option, provider_option
from ._output import print_json, say, with_client

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Call, Difference

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("doctor")(_doctor)


@click.option("--all", "show_all", is_flag=True, help="Also fields that are missing and need not be there.")
@json_option
@provider_option
def _doctor(show_all: bool, as_json: bool, provider: str | None) -> None:
    """Compare the answers of a server with the models; costs nothing.

    Ends with 1 when an answer cannot be used. Fields and words that are only new do no harm.
    """
    report = with_client(provider, _examine)
    bad = False
    for check in report["checks"]:
        found: list[Difference] = check["differences"]
        check["differences"] = [each for each in found if show_all or each.detail != "optional"]
        bad |= check["error"] is not None or any(
            each.kind == "invalid" or each.detail == "required" for each in found
        )
    if as_json:
        print_json(report | {"checks": [check | _texts(check) for check in report["checks"]]})
    else:
        _print(report)
    if bad:
        raise click.exceptions.Exit(1)


def _texts(check: dict[str, Any]) -> dict[str, Any]:
    return {"differences": [str(each) for each in check["differences"]]}


def _print(report: dict[str, Any]) -> None:
    say(f"server    {report['server']}")
    if report["clock_skew_seconds"] is not None:
        say(f"clock     {report['clock_skew_seconds']:+.0f} s from this machine's")
    for check in report["checks"]:
        head = check["error"] or f"{check['status']} in {check['seconds']:.3f} s"
        say(f"{check['operation']:<20} {head}")
        for each in check["differences"]:
            say(f"    {each}")
    total = sum(len(check["differences"]) for check in report["checks"])
    say(f"{total} difference{'' if total == 1 else 's'} from the models")


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
    from cdpbridge.errors import APIError, AuthenticationError

    entry: dict[str, Any] = {
        "operation": operation,
        "status": None,
        "seconds": None,
        "error": None,
        "differences": [],
    }
    checks.append(entry)
    began = time.monotonic()
    try:
        answer = await client.send_raw(call)
    except AuthenticationError:
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
        skews.append((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    return answer.parsed


def _is_model(difference: Difference) -> bool:
    return difference.kind == "unknown value" and difference.where.rpartition(".")[2] == "llm"


def _first(page: Any) -> Any:
    return page.items[0].id if page is not None and page.items else None
