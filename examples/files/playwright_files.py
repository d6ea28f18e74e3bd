"""A download and an upload with Playwright, wherever the browser runs: pip install 'cdpbridge[local,playwright]'"""

import asyncio
import sys
from pathlib import Path

from cdpbridge import open_browser, playwright

PAGE = """<a href="data:text/csv,a,b" download="report.csv">report</a> <input type="file">"""


async def main(folder: Path) -> None:
    async with open_browser() as browser, playwright.connect(browser) as connected:
        page = await connected.contexts[0].new_page()
        await page.set_content(PAGE)
        async with page.expect_download() as download:
            await page.click("a")
        await (await download.value).save_as(folder / "report.csv")
        print((folder / "report.csv").read_text())
        await page.set_input_files("input", folder / "report.csv")
        print(await page.evaluate("document.querySelector('input').files[0].text()"))


asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
