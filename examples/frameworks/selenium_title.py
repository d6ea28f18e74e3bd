"""Selenium on a rented browser, over a port of this machine: pip install 'cdpbridge[local]' selenium, and chromedriver"""

import asyncio
import shutil
import sys

from selenium import webdriver

from cdpbridge import open_browser
from cdpbridge.tunnel import open_tunnel


def drive(address: str, url: str) -> str:
    options = webdriver.ChromeOptions()
    options.debugger_address = address
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        driver.get(url)
        return driver.title


async def main(url: str) -> None:
    async with open_browser() as browser, open_tunnel(browser) as address:
        print(await asyncio.to_thread(drive, address, url))


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "https://example.com"))
