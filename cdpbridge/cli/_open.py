"""`cdpbridge open`: rent a browser, load a page, show or save it, stop."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import click

from ._options import Group, argument, provider_option
from ._output import note, progress, say

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("open")(_open)


@argument("url", help="Page to load.")
@click.option("--profile", help="State to start from and to save: a name (made if missing) or an id.")
@click.option(
    "--proxy-country",
    help="Country of the proxy, e.g. `de`; `none` for no proxy. Default: the server's choice.",
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1, max=240),
    default=15,
    help="Minutes after which the server stops the browser.",
)
@click.option(
    "--screenshot", type=click.Path(path_type=Path), help="Save a picture of the whole page here (PNG)."
)
@click.option("--pdf", type=click.Path(path_type=Path), help="Save the page here as PDF.")
@click.option("--eval", "evaluate", help="Print the value of this JavaScript expression as JSON.")
@provider_option
def _open(
    url: str,
    profile: str | None,
    proxy_country: str | None,
    timeout: int,
    screenshot: Path | None,
    pdf: Path | None,
    evaluate: str | None,
    provider: str | None,
) -> None:
    """Rent a browser, load URL, save or print it, stop, print the receipt."""
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
                    say(value)
                else:
                    note(f"{await tab.title() or '(no title)'}  {await tab.current_url()}")
                if screenshot is not None:
                    tell(f"saving {screenshot}")
                    await tab.screenshot(screenshot, full_page=True)
                    note(f"saved {screenshot}")
                if pdf is not None:
                    tell(f"saving {pdf}")
                    await tab.pdf(pdf)
                    note(f"saved {pdf}")
                tell("stopping")
    finally:
        if browser is not None and browser.receipt is not None:
            note(str(browser.receipt))
