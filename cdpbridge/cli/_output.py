"""What commands share: where they rent, how they show progress and receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

__all__ = ["ProviderOption", "console", "error_console", "progress"]

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)

ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Where: `cloud`, `local`, or the base URL of a server (its key in BROWSER_USE_API_KEY). Default: "
        "CDPBRIDGE_PROVIDER, else the cloud when BROWSER_USE_API_KEY is set, else this machine.",
        show_default=False,
    ),
]


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], Any]]:
    """A spinner on stderr, where a person watches; its function changes the text."""
    with error_console.status(escape(text)) as status:
        yield lambda text: status.update(escape(text))
