"""The Account page of the operator: projects, credits and keys."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, ONE_PLAYWRIGHT, opened

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the console is tested, and one browser shows it"),
    *ONE_PLAYWRIGHT,
]

ADMIN = "key-of-the-operator"


async def test_an_operator_manages_projects_and_keys_in_the_page(make_server):
    async with (
        make_server(**KEYS, admin_keys=[ADMIN]) as server,
        opened(server, ADMIN) as page,
    ):
        await page.get_by_role("link", name="Account").click()
        await page.get_by_role("button", name="New project").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("team a")
        await dialog.get_by_label("Plan").select_option("free")
        await dialog.get_by_label("Browsers at once").fill("2")
        await dialog.get_by_role("button", name="Make project").click()
        row = page.get_by_role("table", name="Projects").get_by_role("row", name="team a")
        await expect(row).to_contain_text("free")
        await expect(row).to_contain_text("0 of 2")
        await row.get_by_role("button", name="Add credits to project team a").click()
        await dialog.get_by_label("Amount in USD").fill("2.500001")
        await dialog.get_by_role("button", name="Add credits").click()
        await expect(row).to_contain_text("$102.500001")
        await page.get_by_role("button", name="New key").click()
        await dialog.get_by_label("Project").select_option("team a")
        await dialog.get_by_label("Name").fill("crawler")
        await dialog.get_by_role("button", name="Make key").click()
        await expect(dialog).to_contain_text("not shown again")
        key = await dialog.locator("code").inner_text()
        await dialog.get_by_role("button", name="Done").click()
        async with httpx.AsyncClient(
            base_url=server.http.base_url, headers={"X-Browser-Use-API-Key": key}
        ) as http:
            assert (await http.get("/billing/account")).json()["name"] == "team a"
            keys = page.get_by_role("table", name="API keys, oldest first")
            assert key not in await page.content()
            await keys.get_by_role("button", name="Revoke key crawler").click()
            await dialog.get_by_role("button", name="Revoke").click()
            await expect(keys.get_by_role("row", name="crawler")).to_contain_text("revoked")
            assert (await http.get("/billing/account")).status_code == 401


async def test_an_operator_sees_the_workers_and_drains_one(make_server):
    async with make_server(**KEYS, admin_keys=[ADMIN]) as server:
        store = server.app.state.services.store
        terms = {"protocol": 1, "slots": 8, "now": datetime.now(UTC)}
        for name in ("w1", "w2"):
            await store.register_worker(uuid4(), name=name, address=f"{name}:8701", **terms)
        async with opened(server, ADMIN) as page:
            await page.get_by_role("link", name="Account").click()
            table = page.get_by_role("table", name="Workers, by name")
            row = table.get_by_role("row", name="w2")
            await expect(row).to_contain_text("w2:8701")
            await expect(row).to_contain_text("0 of 8")
            await row.get_by_role("button", name="Drain worker w2").click()
            await page.get_by_role("dialog").get_by_role("button", name="Drain").click()
            await expect(row).to_contain_text("draining")
            await expect(table.get_by_role("row", name="w1")).not_to_contain_text("draining")
            assert [each.draining for each in await store.workers()] == [False, True]


async def test_a_key_of_a_project_shows_none_of_it(make_server):
    async with make_server(**KEYS, admin_keys=[ADMIN]) as server, opened(server) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        await page.get_by_role("link", name="Account").click()
        await expect(page.get_by_role("heading", name="Ledger")).to_be_visible()
        await expect(page.get_by_role("table", name="Ledger, newest entry first")).to_be_visible()
        await expect(page.get_by_role("heading", name="API keys")).to_have_count(0)
        assert not [url for url in asked if "/admin/" in url]
