"""`cdpbridge demo`: the main job, whole and offline: rent, drive over CDP, drive with Playwright, stop, see the refund."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ._demo_site import PASSWORD, USER, serve_demo_site
from ._options import Group
from ._output import enter_pressed, note, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdpbridge import AsyncClient, Receipt
    from cdpbridge.protocol import Network

__all__ = ["register"]

_PROFILE: Final = "demo"
_COUNTRY: Final = "de"
_TIMEOUT: Final = timedelta(minutes=60)

_SIGN_IN: Final = f"""
document.querySelector('[name=user]').value = {USER!r};
document.querySelector('[name=password]').value = {PASSWORD!r};
document.querySelector('form').submit();
"""
_READY: Final = """new Promise(done => {
  const look = () => document.body?.dataset.ready ? done(document.querySelector('h1').textContent) : setTimeout(look, 10);
  look();
})"""


def register(app: Group) -> None:
    """Add the command."""
    app.command("demo")(_demo)


@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo-output"),
    help="Folder for the screenshots.",
)
@click.option("--watch", is_flag=True, help="Keep the second browser open, to look at it in the live view.")
def _demo(output: Path, watch: bool) -> None:
    """See the whole job on this machine, without an account.

    Rents a browser with a profile and a proxy country from the embedded server, signs in to a site of its own over CDP, stops
    and refunds; rents again with the same profile and finds the login, then drives the same browser with Playwright.
    """
    with tempfile.TemporaryDirectory(prefix="cdpbridge-demo-") as data_dir, serve_demo_site() as site:
        asyncio.run(_show(site, Path(data_dir), output, watch=watch))


async def _show(site: str, data_dir: Path, output: Path, *, watch: bool) -> None:
    import cdpbridge

    await asyncio.to_thread(output.mkdir, parents=True, exist_ok=True)
    # `direct` stands for a proxy in that country: requests still pass the browser's own forwarding proxy.
    proxies = {_COUNTRY: "direct"}
    with progress("starting the embedded server") as tell:
        async with cdpbridge.local(data_dir=data_dir, proxies=proxies, private=True) as client:
            before = (await client.billing.account()).total_credits_balance_usd
            first = await _first_rental(client, site, output, tell)
            second = await _second_rental(client, site, output, tell, watch=watch)
            account = await client.billing.account()
    say("--- Receipts ---")
    say(f"first rental    {first}")
    say(f"second rental   {second}")
    paid = first.paid + second.paid
    say(f"account         {before} - {paid} = {account.total_credits_balance_usd} USD, simulated")
    if before - paid != account.total_credits_balance_usd or first.difference or second.difference:
        note("the server's figures differ from the written price rule")
        raise click.exceptions.Exit(1)


async def _first_rental(
    client: AsyncClient, site: str, output: Path, tell: Callable[[str], object]
) -> Receipt:
    import cdpbridge
    from cdpbridge.protocol import Network, Page

    say("--- 1. Rent, and drive it over CDP ---")
    async with cdpbridge.open_browser(
        client, profile=_PROFILE, proxy_country=_COUNTRY, timeout=_TIMEOUT, on_progress=tell
    ) as browser:
        say(f"rented          {browser.id}, until {browser.timeout_at:%H:%M:%S %Z}")
        say(f"profile         {_PROFILE}, proxy country {_COUNTRY}")
        say(f"live view       {browser.live_url}")
        tell("signing in")
        tab = await browser.new_tab(site)
        say(f"opened          {await tab.title()}")
        answers: list[Network.ResponseReceived] = []
        tab.session.on(Network.ResponseReceived, answers.append)
        await tab.session.send(Network.enable())
        async with tab.session.expect(Page.LoadEventFired):
            await tab.evaluate(_SIGN_IN)
        say(f"signed in       {await tab.evaluate(_READY)}")
        say(f"network events  {len(answers)} responses: {_kinds(answers)}")
        picture = output / "signed-in.png"
        await tab.screenshot(picture, full_page=True)
        say(f"screenshot      {picture}")
        tell("stopping")
    assert browser.receipt is not None  # the block is over
    say(f"stopped         proxy traffic {_kilobytes(browser.record.proxy_used_mb)}")
    return browser.receipt


async def _second_rental(
    client: AsyncClient, site: str, output: Path, tell: Callable[[str], object], *, watch: bool
) -> Receipt:
    import cdpbridge

    say("--- 2. Rent again: the profile has kept the login ---")
    async with cdpbridge.open_browser(
        client, profile=_PROFILE, proxy_country=_COUNTRY, timeout=_TIMEOUT, on_progress=tell
    ) as browser:
        say(f"live view       {browser.live_url}")
        tab = await browser.new_tab(site)
        say(
            f"over CDP        {await tab.evaluate(_READY)}, visits {await tab.evaluate('localStorage.visits')}"
        )
        if find_spec("playwright") is None:
            say("Playwright      not installed: pip install 'cdpbridge[playwright]'")
        else:
            from cdpbridge import playwright

            tell("connecting Playwright")
            async with playwright.connect(browser) as connected:
                page = await connected.contexts[0].new_page()
                await page.goto(site)
                await page.wait_for_selector("body[data-ready]")
                heading = await page.locator("h1").inner_text()
                say(f"Playwright      {heading}, {await page.locator('#orders li').count()} orders")
                picture = output / "playwright.png"
                await page.screenshot(path=picture)
                say(f"screenshot      {picture}")
        if watch:
            tell("running until Enter is pressed")
            say("watch it, and take it over, at the live view's address; Enter stops it")
            await enter_pressed()
        tell("stopping")
    assert browser.receipt is not None  # the block is over
    return browser.receipt


def _kinds(answers: list[Network.ResponseReceived]) -> str:
    counted = Counter(str(answer.type).lower() for answer in answers)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))


def _kilobytes(megabytes: object) -> str:
    return "unknown" if megabytes is None else f"{float(str(megabytes)) * 1000:.1f} kB"
