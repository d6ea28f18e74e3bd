"""`cdpbridge projects` and `cdpbridge credits`: accounts of a server, while it runs."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ._operator import (
    Operator,
    Place,
    body_of,
    config_option,
    data_dir_option,
    project_id,
    server_option,
    with_operator,
)
from ._options import Group, argument, json_option
from ._output import instant, print_json, print_list, say

if TYPE_CHECKING:
    from cdpbridge.api.admin import Credits, Project

__all__ = ["register"]

projects = Group(no_args_is_help=True, help="Projects of a server: keys, browsers, credits of their own.")
credits_ = Group(no_args_is_help=True, help="Credits of a project of a server.")


_DECIMALS: Final = 6  # of an amount in USD, as the ledger keeps it

plan_option = click.option(
    "--plan", type=click.Choice(["free", "paid"]), help="15 minutes a browser, or 240."
)


def register(app: Group) -> None:
    """Add the groups."""
    app.add_command(projects, name="projects")
    app.add_command(credits_, name="credits")


def usd(text: str) -> Decimal:
    """Return an amount, exactly as it is written."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is no amount in USD, e.g. 12.50") from None
    if not amount.is_finite() or amount < 0 or -int(amount.as_tuple().exponent) > _DECIMALS:
        raise click.BadParameter("an amount is positive, with six decimals at most")
    return amount


@projects.command("list")
@json_option
@server_option
@data_dir_option
@config_option
def _list(as_json: bool, server: str | None, data_dir: Path | None, config: Path | None) -> None:
    """List projects by name."""

    def row(project: Project) -> list[str]:
        return [
            project.name,
            project.plan,
            f"{project.active_browsers} of {project.max_browsers}",
            f"{project.balance_usd:f}",
            str(project.keys),
            instant(project.last_used_at) or "never",
            str(project.id),
        ]

    found = with_operator(Place(server, data_dir, config), lambda operator: operator.list_projects())
    head = ["name", "plan", "browsers", "credits (USD)", "keys", "last used", "id"]
    print_list(found.items, as_json, head, row, nothing="no projects")


@projects.command("create")
@argument("name", help="Its name.")
@plan_option
@click.option("--max-browsers", type=click.IntRange(min=1, max=10000), help="Concurrent browsers.")
@click.option("--credits", "first_credits", type=usd, metavar="USD", help="Its first credits.")
@json_option
@server_option
@data_dir_option
@config_option
def _create(
    name: str,
    plan: str | None,
    max_browsers: int | None,
    first_credits: Decimal | None,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """Make a project; what is left out is as the server's settings say."""
    from cdpbridge.api.admin import CreateProjectRequest

    body = body_of(
        CreateProjectRequest,
        name=name,
        plan=plan,
        max_browsers=max_browsers,
        credits_usd=first_credits,
    )
    made = with_operator(Place(server, data_dir, config), lambda operator: operator.create_project(body))
    _show(made, as_json)


@projects.command("set")
@argument("name", metavar="PROJECT", help="Its name or id.")
@plan_option
@click.option("--max-browsers", type=click.IntRange(min=1, max=10000), help="Concurrent browsers.")
@json_option
@server_option
@data_dir_option
@config_option
def _set(
    name: str,
    plan: str | None,
    max_browsers: int | None,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """Change a project's plan or limit; it counts for what is rented from then on."""
    from cdpbridge.api.admin import ChangeProjectRequest

    body = body_of(ChangeProjectRequest, plan=plan, max_browsers=max_browsers)

    async def work(operator: Operator) -> Project:
        return await operator.change_project(await project_id(operator, name), body)

    _show(with_operator(Place(server, data_dir, config), work), as_json)


@credits_.command("grant")
@argument("project", metavar="PROJECT", help="Its name or id.")
@argument("amount", type=usd, metavar="USD", help="E.g. 12.50.")
@click.option("--note", default="granted", help="What the ledger says it is for.")
@json_option
@server_option
@data_dir_option
@config_option
def _grant(
    project: str,
    amount: Decimal,
    note: str,
    as_json: bool,
    server: str | None,
    data_dir: Path | None,
    config: Path | None,
) -> None:
    """Add credits to a project: one more entry of its ledger."""
    from cdpbridge.api.admin import GrantRequest

    if not amount:
        raise click.BadParameter("grant more than nothing")
    body = body_of(GrantRequest, amount_usd=amount, note=note)

    async def work(operator: Operator) -> Credits:
        return await operator.grant_credits(await project_id(operator, project), body)

    granted = with_operator(Place(server, data_dir, config), work)
    if as_json:
        print_json(granted)
    else:
        say(f"{granted.amount_usd:f} USD granted; {granted.balance_usd:f} USD are there now")


def _show(project: Project, as_json: bool) -> None:
    if as_json:
        print_json(project)
        return
    say(
        f"project {project.name!r} ({project.id}): plan {project.plan}, {project.max_browsers} browsers, "
        f"{project.balance_usd:f} USD"
    )
