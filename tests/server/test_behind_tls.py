"""Fault B35 in a browser: console, live page and `cdpUrl` behind TLS, a domain and a path prefix."""

import re
import ssl

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from cdpbridge.chromium import Chromium, find
from tests.server import tls
from tests.server.scripted_agents import ScriptedAgents

ONE_BUILD = pytest.mark.one_build("the server's own work; it does not see the build")

expect.set_options(timeout=30_000)


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize("terminator", [tls.small, tls.nginx], ids=["small", "nginx"])
async def test_fault_b35_console_and_live_page_behind_tls_a_domain_and_a_prefix(
    make_server, terminator, tmp_path
):
    port = tls.free_port()
    outside = f"https://{tls.DOMAIN}:{port}{tls.PREFIX}"
    folder = tmp_path / "tls"
    folder.mkdir()
    async with make_server(public_url=outside) as server:
        inside = server.app.state.local_address
        server.http.base_url = f"{inside}/api/v2"
        async with terminator(folder, port, inside), async_playwright() as playwright:
            process = await Chromium.start(
                build=find("shell"), args=[f"--host-resolver-rules=MAP {tls.DOMAIN} 127.0.0.1"]
            )
            chromium = await playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{process.port}")
            context = await chromium.new_context(ignore_https_errors=True)
            await signed_in(context, outside)
            browser = await server.rent(timeout=3)
            await cdp_address(browser, outside, folder)
            await watched_in_the_console(context, browser)
            await live_page(context, browser, outside)
            await server.stop(browser)
            await chromium.close()
            await process.stop()


async def signed_in(context, outside):
    page = await context.new_page()
    await page.goto(f"{outside}/")
    await page.get_by_label("API key").fill("key-of-tests")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Browsers")).to_be_visible()
    [cookie] = await context.cookies()
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
    assert (cookie["domain"], cookie["path"]) == (tls.DOMAIN, "/")
    assert cookie["name"].startswith("__Host-cdpbridge_console_")


async def cdp_address(browser, outside, folder):
    assert browser["cdpUrl"].startswith(f"{outside}/cdp/")
    trusted = ssl.create_default_context(cafile=folder / "ca.pem")
    async with httpx.AsyncClient(verify=trusted) as client:
        url = browser["cdpUrl"].replace(tls.DOMAIN, "127.0.0.1")
        host = outside.split("/")[2]
        options = {"headers": {"Host": host}, "extensions": {"sni_hostname": tls.DOMAIN}}
        version = (await client.get(f"{url}/json/version", **options)).json()
    assert version["webSocketDebuggerUrl"].startswith(f"wss://{host}{tls.PREFIX}/cdp/")


async def watched_in_the_console(context, browser):
    """By server-sent events, with a thumbnail, and the live page in its frame."""
    [page] = context.pages
    await expect(page.locator(".card .thumbnail img")).not_to_have_js_property("naturalWidth", 0)
    await page.get_by_role("link", name="Open", exact=True).click()
    await page.frame_locator("iframe").locator("body[data-state=live]").wait_for()
    assert browser["cdpUrl"].rpartition("/")[2] not in await page.content()


async def live_page(context, browser, outside):
    token = browser["liveUrl"].rpartition("/")[2]
    assert browser["liveUrl"] == f"{outside}/live/{token}"
    page = await context.new_page()
    sockets, asked = [], []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    await page.goto(browser["liveUrl"])
    page.on("request", lambda request: asked.append((request.url, request.headers.get("referer", ""))))
    await page.wait_for_selector("body[data-state=live]")
    assert sockets == [f"{outside.replace('https', 'wss')}/live/socket"]
    assert re.fullmatch(re.escape(f"{outside}/live/") + "#[0-9a-f]{16}", page.url)
    await page.reload()
    await page.wait_for_selector("body[data-state=live]")
    assert asked
    assert not [request for request in asked if token in "".join(request)]


@ONE_BUILD
@pytest.mark.chromium
async def test_an_agent_goes_by_the_local_address_and_not_by_the_public_one(make_server):
    agents = ScriptedAgents()
    async with make_server(
        public_url="https://browsers.example/pool", agents=lambda _settings: agents
    ) as server:
        inside = server.app.state.local_address
        server.http.base_url = f"{inside}/api/v2"
        (await server.http.post("/tasks", json={"task": "Wait"})).raise_for_status()
        run = await agents.started()
        assert run.spec.cdp_url.startswith(f"{inside}/cdp/")
