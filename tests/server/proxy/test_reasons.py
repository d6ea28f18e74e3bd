"""The reasons of the forwarder reach the user, for plain and for encrypted pages."""

from datetime import timedelta

import pytest

from cdpbridge import open_browser
from cdpbridge.api import AsyncClient
from cdpbridge.errors import NavigationError
from cdpbridge.rental._proxy_reason import TUNNEL_FAILED, with_proxy_reason
from tests.server.conftest import KEY
from tests.server.proxy.peers import running_pproxy, upstream_url

pytestmark = pytest.mark.chromium


async def reasons(tab, where):
    """What the page of an http address says, and what the error of the https address does."""
    assert "errorText" not in await tab.session.send("Page.navigate", {"url": f"http://{where}/"})
    # No load event: that of the page before may come late.
    await tab.wait_for_expression("location.protocol === 'http:' && document.readyState === 'complete'")
    page = await tab.evaluate("document.body.innerText")
    url = f"https://{where}/"
    failed = await tab.session.send("Page.navigate", {"url": url})
    assert failed["errorText"] == TUNNEL_FAILED
    explained = await with_proxy_reason(tab.session.connection, url, failed["errorText"])
    return page.strip(), explained.removeprefix(f"{TUNNEL_FAILED}: ")


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_c19_the_reason_for_http_and_https_alike(make_server, build, unused_tcp_port_factory):
    dead, refused = unused_tcp_port_factory(), unused_tcp_port_factory()
    async with running_pproxy("http") as upstream:
        wrong = upstream_url("http", upstream.port, "wrong")
        proxies = {"de": f"http://user:secret@127.0.0.1:{dead}", "fr": wrong, "gb": "direct"}
        expected = {
            "de": {
                "site.example": f"the upstream proxy http://127.0.0.1:{dead} could not be reached: Connection refused"
            },
            "fr": {
                "site.example": f"the upstream proxy refused its credentials: http://127.0.0.1:{upstream.port}"
            },
            "gb": {
                "no-such-name.invalid": "could not be reached: its name could not be resolved",
                f"127.0.0.1:{refused}": f"the server 127.0.0.1:{refused} could not be reached: Connection refused",
                "bücher.invalid": "could not be reached: its name could not be resolved",
            },
        }
        async with (
            make_server(browser_build=build, proxies=proxies) as server,
            AsyncClient(KEY, str(server.http.base_url)) as client,
        ):
            for country, pages in expected.items():
                async with open_browser(
                    client, proxy_country=country, timeout=timedelta(minutes=5)
                ) as browser:
                    tab = await browser.new_tab()
                    for where, reason in pages.items():
                        plain, encrypted = await reasons(tab, where)
                        assert plain.endswith(reason)
                        assert reason in encrypted
                        assert "secret" not in plain + encrypted
                        for scheme in ("http", "https"):
                            with pytest.raises(NavigationError) as failed:
                                await tab.goto(f"{scheme}://{where}/")
                            assert reason in str(failed.value)
                            assert "secret" not in str(failed.value)


@pytest.mark.one_build("the forwarder's own work; test_like_chromium.py and test_reasons.py have both builds")
async def test_a_browser_without_a_proxy_has_no_failures(make_server):
    async with make_server() as server:
        browser = await server.rent(proxyCountryCode=None)
        answer = await server.http.get(f"{browser['cdpUrl']}/proxy/failures")
        assert (answer.status_code, answer.json()) == (200, [])
        await server.stop(browser)
        assert (await server.http.get(f"{browser['cdpUrl']}/proxy/failures")).status_code == 404
