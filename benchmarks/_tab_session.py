"""One client of `tab.py` in Python: the sessions on one page, and what they cost. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Act = Callable[[str, list[str]], Awaitable[Any]]


def cpu_seconds() -> float:
    """User and system time of this process and its children, exact to the nanosecond: Playwright's driver is one."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        for task in Path(f"/proc/{process}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
            waiting += map(int, (task / "children").read_text().split())
    return total / 1e9


async def measured(act: Act, steps: list[list[str]], sessions: int) -> dict[str, float]:
    """Return seconds for one session; the first one is not counted."""
    for number in range(sessions + 1):
        if number == 1:
            cpu, began = cpu_seconds(), time.perf_counter()
        for name, *arguments in steps:
            await act(name, arguments)
    return {
        "cpu": (cpu_seconds() - cpu) / sessions,
        "wall": (time.perf_counter() - began) / sessions,
    }


async def ours(url: str, steps: list[list[str]], sessions: int) -> dict[str, float]:
    """`cdpbridge.Tab`."""
    from cdpbridge.browser import Tab
    from cdpbridge.cdp import connect

    async with connect(url) as connection:
        tab = Tab(await connection.new_tab())
        verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "goto": tab.goto,
            "fill": tab.fill,
            "select": tab.fill,
            "click": tab.click,
            "press": tab.press,
            "wait": tab.wait_for_selector,
            "read": tab.evaluate,
        }
        result = await measured(lambda name, given: verbs[name](*given), steps, sessions)
        await tab.close()
        return result


async def playwright(url: str, steps: list[list[str]], sessions: int) -> dict[str, float]:
    """Playwright for Python."""
    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        browser = await driver.chromium.connect_over_cdp(url)
        page = await browser.contexts[0].new_page()
        verbs: dict[str, Callable[..., Awaitable[Any]]] = {
            "goto": page.goto,
            "fill": page.fill,
            "select": page.select_option,
            "click": page.click,
            "press": page.press,
            "wait": page.wait_for_selector,
            "read": page.evaluate,
        }
        result = await measured(lambda name, given: verbs[name](*given), steps, sessions)
        await page.close()
        await browser.close()
        return result


if __name__ == "__main__":
    _, kind, address, given_steps, count = sys.argv
    client = {"ours": ours, "playwright": playwright}[kind]
    print(json.dumps(asyncio.run(client(address, json.loads(given_steps), int(count)))))
