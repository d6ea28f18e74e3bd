"""`cdpbridge open`: rent a browser, load a page, show or save it, stop."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from cdpbridge._loopback import is_loopback

from ._options import Group, argument, provider_option
from ._output import enter_pressed, note, progress, say

if TYPE_CHECKING:
    from cdpbridge import RentalOptions

__all__ = ["full_url", "register"]


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
    "--screenshot",
    type=click.Path(path_type=Path),
    help="Save a picture of the whole page here (.png, .jpg, .webp).",
)
@click.option("--pdf", type=click.Path(path_type=Path), help="Save the page here as PDF.")
@click.option("--eval", "evaluate", help="Print the value of this JavaScript expression as JSON.")
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    help="The only hosts that the browser may reach, e.g. `*.example.com`; may be given several times.",
)
@click.option(
    "--deny-host",
    "denied_hosts",
    multiple=True,
    help="A host that the browser may not reach; may be given several times.",
)
@click.option("--label", help="Your word for it, shown by `browsers`, `cost` and the console.")
@click.option(
    "--live", is_flag=True, help="Show the address of the live view, and keep the page until Enter."
)
@provider_option
def _open(
    url: str,
    profile: str | None,
    proxy_country: str | None,
    timeout: int,
    screenshot: Path | None,
    pdf: Path | None,
    evaluate: str | None,
    allowed_hosts: tuple[str, ...],
    denied_hosts: tuple[str, ...],
    label: str | None,
    live: bool,
    provider: str | None,
) -> None:
    """Rent a browser, load URL, save or print it, stop."""
    import cdpbridge
    from cdpbridge._folders import check_writable
    from cdpbridge.browser._screenshot import image_format

    image_format(screenshot)
    for file in (screenshot, pdf):
        if file is not None:
            check_writable(file)  # before it costs anything
    country: str | cdpbridge.ServerDefault | None = cdpbridge.server_default
    if proxy_country is not None:
        country = None if proxy_country.lower() == "none" else proxy_country
    options: RentalOptions = {
        "profile": profile,
        "proxy_country": country,
        "timeout": timedelta(minutes=timeout),
        "allowed_hosts": allowed_hosts or None,
        "denied_hosts": denied_hosts or None,
        "label": label,
    }
    asyncio.run(_open_page(full_url(url), screenshot, pdf, evaluate, live, provider, options))


def full_url(text: str) -> str:
    """Return an address with its scheme: http for this machine and for IP addresses, where few have a certificate."""
    if "://" in text or text.startswith(("about:", "data:", "view-source:", "chrome:")):
        return text
    host = urlsplit(f"//{text}").hostname or ""
    return f"{'http' if is_loopback(host) or _is_ip(host) else 'https'}://{text}"


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _open_page(
    url: str,
    screenshot: Path | None,
    pdf: Path | None,
    evaluate: str | None,
    live: bool,
    provider: str | None,
    options: RentalOptions,
) -> None:
    import cdpbridge

    browser = None
    try:
        with progress("starting") as tell:
            options["on_progress"] = tell
            async with cdpbridge.open_browser(provider, **options) as browser:
                if live:
                    note(f"live      {browser.live_url}")
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
                if live:
                    tell("running until Enter is pressed")
                    await enter_pressed()
                tell("stopping")
    finally:
        if browser is not None and browser.receipt is not None:
            note(str(browser.receipt))
