"""A download and an upload with Selenium, wherever the browser runs: pip install 'cdpbridge[local]' selenium, and chromedriver"""

import asyncio
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cdpbridge import open_browser
from cdpbridge.tunnel import open_tunnel

PAGE = 'data:text/html,<a href="data:text/csv,a,b" download="report.csv">report</a> <input type="file">'


def drive(address: str, folder: Path) -> None:
    options = webdriver.ChromeOptions()
    options.debugger_address = address
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        setting = {"behavior": "allow", "downloadPath": str(folder)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", setting)
        driver.get(PAGE)
        driver.find_element(By.TAG_NAME, "a").click()
        report = folder / "report.csv"
        WebDriverWait(driver, 20).until(lambda _driver: report.exists())
        print(report.read_text())
        driver.find_element(By.TAG_NAME, "input").send_keys(str(report))
        print(driver.execute_script("return document.querySelector('input').files[0].text()"))


async def main(folder: Path) -> None:
    async with open_browser() as browser, open_tunnel(browser) as address:
        await asyncio.to_thread(drive, address, folder)


asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
