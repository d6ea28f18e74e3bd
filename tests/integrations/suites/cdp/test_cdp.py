"""A suite of tests over CDP."""

import pytest

seen = set()


async def test_a_tab(cdp_tab):
    assert await cdp_tab.evaluate("1 + 1") == 2


async def test_new_tab(cdp_browser):
    tab = await cdp_browser.new_tab("data:text/html,<title>Hello</title>")
    assert await tab.title() == "Hello"
    seen.add(cdp_browser.cdp_url)


@pytest.mark.parametrize("time", [1, 2])
async def test_cookies_are_the_tests_own(cdp_tab, cdp_browser, time):
    seen.add(cdp_browser.cdp_url)
    await cdp_tab.session.send(
        "Network.setCookie", {"name": f"n{time}", "value": "v", "url": "http://example.test"}
    )
    found = await cdp_tab.session.send("Network.getCookies", {"urls": ["http://example.test"]})
    assert [cookie["name"] for cookie in found["cookies"]] == [f"n{time}"]
    assert len(seen) == 1  # one rental for all


@pytest.mark.cdpbridge(profile="work", proxy_country="de")
@pytest.mark.parametrize("known", [False, True])
async def test_a_profile(cdp_browser, known):
    assert cdp_browser.cdp_url not in seen
    root = cdp_browser.connection.root
    assert bool((await root.send("Storage.getCookies"))["cookies"]) is known
    cookie = {"name": "n", "value": "v", "url": "http://example.test"}
    await root.send("Storage.setCookies", {"cookies": [cookie]})


@pytest.mark.parametrize("cdp_browser", [{"profile": "a"}, {"profile": "b"}], indirect=True)
async def test_profiles(cdp_browser):
    assert cdp_browser.cdp_url not in seen
    seen.add(cdp_browser.cdp_url)
