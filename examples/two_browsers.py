"""Two browsers side by side; each has its own cookies, and its own receipt."""

import asyncio

from _site import address

import cdpbridge


async def visit(client: cdpbridge.AsyncClient, name: str, url: str) -> None:
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(url)
        await tab.evaluate(f"document.cookie = 'owner={name}'")
        print(f"{name} sees {await tab.evaluate('document.cookie')!r} on {await tab.title()!r}")
    print(f"{name}: {browser.receipt}")


async def main(url: str) -> None:
    async with cdpbridge.local() as client, asyncio.TaskGroup() as tasks:
        for name in ("first", "second"):
            tasks.create_task(visit(client, name, url))


if __name__ == "__main__":
    with address() as url:
        asyncio.run(main(url))
