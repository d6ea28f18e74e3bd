"""Browse through a proxy in another country: PROXY_DE is its address, e.g. http://user:password@proxy.example.com:8080.

On this machine, `local()` names the upstream of each country; the cloud has its own.
"""

import asyncio
import os

from _site import address

import cdpbridge


async def main(url: str) -> None:
    upstream = os.environ.get("PROXY_DE", "direct")
    async with cdpbridge.local(proxies={"de": upstream}) as client:
        async with cdpbridge.open_browser(client, proxy_country="de") as browser:
            tab = await browser.new_tab(url)
            print(await tab.evaluate("document.body.innerText"))
        print(f"{browser.record.proxy_used_mb} MB through the proxy")


if __name__ == "__main__":
    with address(local=True) as url:
        asyncio.run(main(url))
