"""`cdpbridge cost`: what browsers have cost, as the journal knows."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ._output import console, error_console

if TYPE_CHECKING:
    from cdpbridge.rental._report import Spending

__all__ = ["register"]

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FIGURES: Final = ("browsers", "minutes", "usd", "running", "unknown")
_CHART_INCHES: Final = (9.0, 4.5)
_DATES: Final = 15  # that stand side by side on the axis
_SERIES: Final = 8  # colours a person can tell apart; the rest is one more


class _By(StrEnum):
    DAY = "day"
    PROFILE = "profile"
    COUNTRY = "country"
    LABEL = "label"
    PLACE = "place"


class _Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cost")(_cost)


def _cost(
    since: Annotated[
        str,
        typer.Option(
            help="From when: a date (2026-11-01), or how long ago (90m, 12h, 7d, 4w); `all` for everything."
        ),
    ] = "30d",
    by: Annotated[
        list[_By] | None,
        typer.Option(help="Sum by this; may be repeated. Default: day.", show_default=False),
    ] = None,
    form: Annotated[_Format, typer.Option("--format", help="How to print it.")] = _Format.TABLE,
    chart: Annotated[
        Path | None, typer.Option(help="Also draw it, a bar a day, into this PNG file (extra `chart`).")
    ] = None,
) -> None:
    """Show what rented browsers have cost: day by day (UTC), or by profile, country, label or place.

    Every program of this user writes what it rents into one journal. Amounts are what the server booked where it says so,
    else what the written rule gives.
    """
    from cdpbridge.rental._report import spending
    from cdpbridge.rental.journal import Journal

    now = datetime.now(UTC)
    entries = Journal().entries(since=_instant(since, now))
    words = [str(word) for word in by or [_By.DAY]]
    rows = spending(entries, words, now=now)
    if form is _Format.JSON:
        print(json.dumps([_plain(row) for row in rows], indent=2))
    elif form is _Format.CSV:
        writer = csv.DictWriter(sys.stdout, [*words, *_FIGURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(row) for row in rows)
    elif rows:
        _print_table(rows, words)
    else:
        error_console.print("no browsers were rented in that time, as far as the journal of this user knows")
    if chart is not None:
        others = [word for word in words if word != _By.DAY]
        _draw(spending(entries, ["day", *others], now=now), others, chart)
        error_console.print(f"saved {chart}", markup=False)


def _instant(text: str, now: datetime) -> datetime | None:
    if text == "all":
        return None
    if ago := re.fullmatch(r"(\d+)([mhdw])", text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; use a date (2026-11-01), how long ago (90m, 12h, 7d, 4w), or `all`",
            param_hint="--since",
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _plain(row: Spending) -> dict[str, Any]:
    return {**row.group, **{name: getattr(row, name) for name in _FIGURES}, "usd": _usd(row.usd)}


def _usd(amount: Decimal) -> str:
    return f"{amount:.6f}"


def _print_table(rows: Sequence[Spending], words: Sequence[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_footer=True)
    for word in words:
        table.add_column(word, footer="total" if word == words[0] else "")
    for name in ("browsers", "minutes", "USD"):
        table.add_column(name, justify="right")
    table.columns[-3].footer = str(sum(row.browsers for row in rows))
    table.columns[-2].footer = str(sum(row.minutes for row in rows))
    table.columns[-1].footer = _usd(sum((row.usd for row in rows), Decimal(0)))
    for row in rows:
        group = [escape(value) or "-" for value in row.group.values()]
        table.add_row(*group, str(row.browsers), str(row.minutes), _usd(row.usd))
    console.print(table)
    running, unknown = sum(row.running for row in rows), sum(row.unknown for row in rows)
    if running:
        error_console.print(f"{running} still running: counted as if stopped now, without their minutes")
    if unknown:
        error_console.print(
            f"{unknown} ended with an embedded server that was killed, or unseen: their cost is not known here"
        )


def _draw(rows: Sequence[Spending], words: Sequence[str], path: Path) -> None:
    """A bar a day, stacked by what else was summed by."""
    from cdpbridge._folders import in_its_folder
    from cdpbridge.errors import ConfigurationError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("a chart needs matplotlib: pip install 'cdpbridge[chart]'") from error
    days = _days(rows)
    amounts: dict[str, dict[str, float]] = {}
    for row in rows:
        name = ", ".join(row.group[word] or "-" for word in words)
        series = amounts.setdefault(name, dict.fromkeys(days, 0.0))
        series[row.group["day"]] += float(row.usd)
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
    axes.set_ylabel("USD")
    axes.set_title("Rented browsers: USD a day (UTC)")
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
    """Every day from the first to the last, also those on which nothing was rented."""
    found = sorted(datetime.fromisoformat(row.group["day"]).date() for row in rows)
    if not found:
        return []
    return [str(found[0] + timedelta(days=index)) for index in range((found[-1] - found[0]).days + 1)]
