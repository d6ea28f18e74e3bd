"""`cdpbridge projects` and `cdpbridge credits`: accounts of a server, while it runs."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ._operator import (
    ConfigOption,
    DataDirOption,
    Operator,
    Place,
    ServerOption,
    body_of,
    project_id,
    with_operator,
)
from ._output import JsonOption, console, instant, print_json, print_list

if TYPE_CHECKING:
    from cdpbridge.api.admin import Credits, Project

__all__ = ["register"]

projects = typer.Typer(
    no_args_is_help=True, help="Projects of a cdpbridge server: each has its own keys, browsers and credits."
)
credits_ = typer.Typer(no_args_is_help=True, help="Credits of a project of a cdpbridge server.")


class _Plan(StrEnum):
    FREE = "free"
    PAID = "paid"


PlanOption = Annotated[_Plan | None, typer.Option(help="15 minutes a browser, or 240.", show_default=False)]
LimitOption = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Concurrent browsers.", show_default=False)
]
ProjectArgument = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Its name or id.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the groups."""
    app.add_typer(projects, name="projects")
    app.add_typer(credits_, name="credits")


def usd(text: str) -> Decimal:
    """An amount, exactly as it is written."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount in USD, e.g. 12.50") from None
    if not amount.is_finite() or amount < 0 or -int(amount.as_tuple().exponent) > 6:
        raise typer.BadParameter("an amount is positive, with six decimals at most")
    return amount


@projects.command("list")
def _list(
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
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
def _create(
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    plan: PlanOption = None,
    max_browsers: LimitOption = None,
    first_credits: Annotated[
        Decimal | None,
        typer.Option("--credits", parser=usd, metavar="USD", help="Its first credits.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a project; what is left out is as the server's settings say."""
    from cdpbridge.api.admin import CreateProjectRequest

    body = body_of(
        CreateProjectRequest,
        name=name,
        plan=plan and plan.value,
        max_browsers=max_browsers,
        credits_usd=first_credits,
    )
    made = with_operator(Place(server, data_dir, config), lambda operator: operator.create_project(body))
    _show(made, as_json)


@projects.command("set")
def _set(
    name: ProjectArgument,
    plan: PlanOption = None,
    max_browsers: LimitOption = None,
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Change a project's plan or limit; it counts for what is rented from then on."""
    from cdpbridge.api.admin import ChangeProjectRequest

    body = body_of(ChangeProjectRequest, plan=plan and plan.value, max_browsers=max_browsers)

    async def work(operator: Operator) -> Project:
        return await operator.change_project(await project_id(operator, name), body)

    _show(with_operator(Place(server, data_dir, config), work), as_json)


@credits_.command("grant")
def _grant(
    project: ProjectArgument,
    amount: Annotated[
        Decimal, typer.Argument(parser=usd, metavar="USD", help="E.g. 12.50.", show_default=False)
    ],
    note: Annotated[str, typer.Option(help="What the ledger says it is for.")] = "granted",
    as_json: JsonOption = False,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Add credits to a project: one more entry of its ledger."""
    from cdpbridge.api.admin import GrantRequest

    if not amount:
        raise typer.BadParameter("grant more than nothing")
    body = body_of(GrantRequest, amount_usd=amount, note=note)

    async def work(operator: Operator) -> Credits:
        return await operator.grant_credits(await project_id(operator, project), body)

    granted = with_operator(Place(server, data_dir, config), work)
    if as_json:
        print_json(granted)
    else:
        console.print(f"{granted.amount_usd:f} USD granted; {granted.balance_usd:f} USD are there now")


def _show(project: Project, as_json: bool) -> None:
    if as_json:
        print_json(project)
        return
    console.print(
        f"project {project.name!r} ({project.id}): plan {project.plan}, {project.max_browsers} browsers, "
        f"{project.balance_usd:f} USD",
        markup=False,
        soft_wrap=True,
    )
