"""The parts of a server: complete when they are made, and ended in the opposite order."""

import ast
from pathlib import Path
from types import SimpleNamespace

import cdpbridge.server

PACKAGE = Path(cdpbridge.server.__file__).parent


def test_no_part_gets_a_callback_after_it_was_made():
    """Only its own class sets `on_...`: a slot that is filled later can be forgotten, or replaced in silence."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found += [
                f"{file.relative_to(PACKAGE)}:{node.lineno}"
                for target in targets
                if isinstance(target, ast.Attribute)
                and target.attr.startswith("on_")
                and not (isinstance(target.value, ast.Name) and target.value.id == "self")
            ]
    assert not found


async def test_agents_end_before_browsers_and_browsers_before_the_accounts(make_api):
    async with make_api() as api:
        services, order = api.services, []

        def noted(name, work):
            async def run():
                order.append(name)
                return await work()

            return run

        # Each is called by the `close` of its part, which was registered when the part was opened.
        services.tasks._all_ended = noted("tasks", services.tasks._all_ended)
        services.accounts._flush = noted("accounts", services.accounts._flush)
        await api.rent()
        services.rentals._charges = SimpleNamespace(wait=noted("rentals", services.rentals._charges.wait))
        order.clear()
    assert list(dict.fromkeys(order)) == ["tasks", "rentals", "accounts"]
