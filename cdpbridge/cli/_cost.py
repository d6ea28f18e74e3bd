"""`cdpbridge cost`: what browsers have cost, as the journal knows."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ._options import Group
from ._output import note, print_rows

if TYPE_CHECKING:
    from cdpbridge.rental._report import Spending

__all__ = ["register"]

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FIGURES: Final = ("browsers", "minutes", "usd", "simulated_usd", "running", "unknown")
_CHART_INCHES: Final = (9.0, 4.5)
_DATES: Final = 15  # that stand side by side on the axis
_SERIES: Final = 8  # colours a person can tell apart; the rest is one more


_BY: Final = ("day", "profile", "country", "label", "place")


def register(app: Group) -> None:
    """Add the command."""
    app.command("cost")(_cost)


@click.option(
    "--since",
    default="30d",
    help="From when: a date (2026-11-01), or how long ago (90m, 12h, 7d, 4w); `all` for everything.",
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(_BY),
    help="Sum by this; may be repeated. Default: day.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    help="How to print it.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--chart",
    type=click.Path(path_type=Path),
    help="Also draw it, a bar a day, into this PNG file (extra `chart`).",
)
def _cost(since: str, by: tuple[str, ...], form: str, chart: Path | None) -> None:
    """Show the cost of rented browsers, by day or otherwise.

    By day (UTC), profile, country, label or place; with several, by each combination.

    Every program of this user writes what it rents into one journal. Amounts are what the server booked where it says so,
    else what the written rule gives. Simulated money, as of browsers on this machine, has a column of its own.
    """
    from cdpbridge.rental._report import spending
    from cdpbridge.rental.journal import Journal

    now = datetime.now(UTC)
    entries = Journal().entries(since=_instant(since, now))
    words = list(by or ["day"])
    rows = spending(entries, words, now=now)
    if form == "json":
        print(json.dumps([_plain(row) for row in rows], indent=2))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, [*words, *_FIGURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(row) for row in rows)
    elif rows:
        _print_table(rows, words)
    else:
        note("no browsers were rented in that time, as far as the journal of this user knows")
    if chart is not None:
        others = [word for word in words if word != "day"]
        _draw(spending(entries, ["day", *others], now=now), others, chart)
        note(f"saved {chart}")


def _instant(text: str, now: datetime) -> datetime | None:
    if text == "all":
        return None
    if ago := re.fullmatch(r"(\d+)([mhdw])", text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; use a date (2026-11-01), how long ago (90m, 12h, 7d, 4w), or `all`",
            param_hint="--since",
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _plain(row: Spending) -> dict[str, Any]:
    return {
        **row.group,
        **{name: getattr(row, name) for name in _FIGURES},
        "usd": _usd(row.usd),
        "simulated_usd": _usd(row.simulated_usd),
    }


def _usd(amount: Decimal) -> str:
    return f"{amount:.6f}"


def _print_table(rows: Sequence[Spending], words: Sequence[str]) -> None:
    amounts = ["USD", "simulated USD"] if any(row.simulated_usd for row in rows) else ["USD"]
    figures = ["browsers", "minutes", *amounts]
    cells = [[*(value or "-" for value in row.group.values()), *_figures([row], amounts)] for row in rows]
    cells.append(["total", *("" for _ in words[1:]), *_figures(rows, amounts)])
    print_rows([*words, *figures], cells, right=figures)
    running, unknown = sum(row.running for row in rows), sum(row.unknown for row in rows)
    if running:
        note(f"{running} still running: counted as if stopped now, without their minutes")
    if unknown:
        note(
            f"{unknown} ended with an embedded server that was killed, or unseen: their cost is not known here"
        )


def _figures(rows: Sequence[Spending], amounts: Sequence[str]) -> list[str]:
    """Return the sums of some rows, as cells."""
    sums = {
        "USD": sum((row.usd for row in rows), Decimal(0)),
        "simulated USD": sum((row.simulated_usd for row in rows), Decimal(0)),
    }
    counts = [sum(row.browsers for row in rows), sum(row.minutes for row in rows)]
    return [*map(str, counts), *(_usd(sums[name]) for name in amounts)]


def _draw(rows: Sequence[Spending], words: Sequence[str], path: Path) -> None:
    """Draw a bar a day, stacked by what else was summed by."""
    from cdpbridge._folders import in_its_folder
    from cdpbridge.errors import ConfigurationError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("a chart needs matplotlib: pip install 'cdpbridge[chart]'") from error
    days = _days(rows)
    unit = "USD" if any(row.usd for row in rows) else "simulated USD"
    amounts: dict[str, dict[str, float]] = {}
    for row in rows:
        name = ", ".join(row.group[word] or "-" for word in words)
        series = amounts.setdefault(name, dict.fromkeys(days, 0.0))
        series[row.group["day"]] += float(row.usd if unit == "USD" else row.simulated_usd)
    by_size = sorted(amounts, key=lambda name: -sum(amounts[name].values()))
    figure = Figure(figsize=_CHART_INCHES, layout="constrained")
    axes = figure.subplots()
    places = range(len(days))
    below = [0.0] * len(days)
    for index, name in enumerate(by_size[:_SERIES]):
        heights = [amounts[name][day] for day in days]
        axes.bar(places, heights, bottom=below, color=f"C{index}", label=name)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    rest = [sum(amounts[name][day] for name in by_size[_SERIES:]) for day in days]
    if any(rest):
        axes.bar(places, rest, bottom=below, color="0.7", label="others")
    axes.set_ylabel(unit)
    axes.set_title(f"Rented browsers: {unit} a day (UTC)")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    step = max(-(-len(days) // _DATES), 1)
    axes.set_xticks(places[::step], labels=days[::step], rotation=0 if len(days) <= 7 else 45)
    if words and rows:
        axes.legend(title=", ".join(words), frameon=False)
    try:
        figure.savefig(in_its_folder(path), format="png", dpi=120)
    except OSError as error:
        raise ConfigurationError(f"the chart cannot be saved as {path}: {error.strerror}") from error


def _days(rows: Sequence[Spending]) -> list[str]:
    """Return every day from the first to the last, also those on which nothing was rented."""
    found = sorted(datetime.fromisoformat(row.group["day"]).date() for row in rows)
    if not found:
        return []
    return [str(found[0] + timedelta(days=index)) for index in range((found[-1] - found[0]).days + 1)]
