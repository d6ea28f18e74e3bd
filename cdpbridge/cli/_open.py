"""`cdpbridge open`: rent a browser, load a page, show or save it, stop."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ._output import ProviderOption, console, error_console, progress

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("open")(_open)


def _open(
    url: Annotated[str, typer.Argument(help="Page to load.")],
    profile: Annotated[
        str | None, typer.Option(help="State to start from and to save: a name (made if missing) or an id.")
    ] = None,
    proxy_country: Annotated[
        str | None,
        typer.Option(
            help="Country of the proxy, e.g. `de`; `none` for no proxy. Default: the server's choice."
        ),
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, max=240, help="Minutes after which the server stops the browser.")
    ] = 15,
    screenshot: Annotated[
        Path | None, typer.Option(help="Save a picture of the whole page here (PNG).")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(help="Save the page here as PDF.")] = None,
    evaluate: Annotated[
        str | None, typer.Option("--eval", help="Print the value of this JavaScript expression as JSON.")
    ] = None,
    provider: ProviderOption = None,
) -> None:
    """Rent a browser, load URL, save or print what was asked for, stop the browser, and print the receipt."""
    asyncio.run(_open_page(url, profile, proxy_country, timeout, screenshot, pdf, evaluate, provider))


async def _open_page(
    url: str,
    profile: str | None,
    proxy_country: str | None,
    timeout: int,
    screenshot: Path | None,
    pdf: Path | None,
    evaluate: str | None,
    provider: str | None,
) -> None:
    import cdpbridge
    from cdpbridge._folders import check_writable

    for file in (screenshot, pdf):
        if file is not None:
            check_writable(file)  # before it costs anything
    if "://" not in url and not url.startswith(("about:", "data:")):
        url = f"https://{url}"
    country: str | cdpbridge.ServerDefault | None = cdpbridge.server_default
    if proxy_country is not None:
        country = None if proxy_country.lower() == "none" else proxy_country
    browser = None
    try:
        with progress("starting") as tell:
            async with cdpbridge.open_browser(
                provider,
                profile=profile,
                proxy_country=country,
                timeout=timedelta(minutes=timeout),
                on_progress=tell,
            ) as browser:
                tell(f"loading {url}")
                tab = await browser.new_tab(url)
                if evaluate is not None:
                    value = json.dumps(await tab.evaluate(evaluate), ensure_ascii=False)
                    console.print(value, markup=False, soft_wrap=True)
                else:
                    error_console.print(
                        f"{await tab.title() or '(no title)'}  {await tab.current_url()}", markup=False
                    )
                if screenshot is not None:
                    tell(f"saving {screenshot}")
                    await tab.screenshot(screenshot, full_page=True)
                    error_console.print(f"saved {screenshot}", markup=False)
                if pdf is not None:
                    tell(f"saving {pdf}")
                    await tab.pdf(pdf)
                    error_console.print(f"saved {pdf}", markup=False)
                tell("stopping")
    finally:
        if browser is not None and browser.receipt is not None:
            error_console.print(str(browser.receipt), markup=False)
