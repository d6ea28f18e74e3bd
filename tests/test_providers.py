"""Where browsers run: one word, one variable, or an address."""

import asyncio
import os
import re
import signal
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

import cdpbridge
from cdpbridge import Journal, playwright
from cdpbridge._embedded._settings import program_settings
from cdpbridge._environment import SERVER_SETTINGS, check_variables
from cdpbridge.errors import ConfigurationError, ConflictError, NavigationError, UnprocessableEntityError
from cdpbridge.integrations.scrapy._settings import settings_table
from cdpbridge.providers import provider
from cdpbridge.rental._report import spending
from cdpbridge.server import Settings
from cdpbridge.server.settings._fields import Fields
from tests import programs
from tests.conftest import clean_environment
from tests.isolation.kernel import needs_isolation
from tests.own_user import open_way
from tests.server.sites import serve_site

ONE_BUILD = pytest.mark.one_build("where a browser is rented; the settings of the build are among the tests")
# What a server does once it runs; its start as a user has it, in a process and with settings, is the others'.
QUICK = pytest.mark.usefixtures("quick_local")

pytestmark = pytest.mark.programs


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({}, "local"),
        ({"BROWSER_USE_API_KEY": "key-of-cloud"}, "api.browser-use.com"),
        ({"BROWSER_USE_API_KEY": "key-of-cloud", "CDPBRIDGE_PROVIDER": "local"}, "local"),
        ({"BROWSER_USE_API_KEY": "key-of-cloud", "CDPBRIDGE_PROVIDER": "cloud"}, "api.browser-use.com"),
        (
            {"BROWSER_USE_API_KEY": "k", "CDPBRIDGE_PROVIDER": "http://127.0.0.1:8700/api/v2"},
            "127.0.0.1:8700",
        ),
        (
            {"BROWSER_USE_API_KEY": "k", "CDPBRIDGE_BASE_URL": "https://pool.example.com/api/v2"},
            "pool.example.com",
        ),
    ],
)
def test_the_environment_chooses(environment, variables, word):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert word in repr(provider(None))


def test_an_argument_comes_first(environment):
    environment.setenv("CDPBRIDGE_PROVIDER", "cloud")
    assert "local" in repr(provider("local"))
    client = cdpbridge.at("https://browsers.example.com/api/v2", "key")
    assert provider(client) is client
    environment.setenv("CDPBRIDGE_PROVIDER", "local")
    environment.setenv("BROWSER_USE_API_KEY", "key-of-example")
    assert "browsers.example.com" in repr(provider("https://browsers.example.com/api/v2"))


@pytest.mark.parametrize("value", ["clod", "ftp://x", "127.0.0.1", " "])
def test_a_wrong_word_is_named(environment, value):
    environment.setenv("CDPBRIDGE_PROVIDER", value)
    with pytest.raises(ConfigurationError, match="CDPBRIDGE_PROVIDER"):
        provider(None)
    with pytest.raises(ConfigurationError, match="`cloud`, `local`"):
        provider(value)


def test_the_cloud_needs_a_key(environment):
    with pytest.raises(ConfigurationError, match="BROWSER_USE_API_KEY"):
        cdpbridge.cloud()


def test_repr_shows_no_key(environment):
    assert "secret" not in repr(cdpbridge.cloud("secret-key")) + repr(
        cdpbridge.at("http://h/api/v2", "secret-key")
    )


# --- local() ----------------------------------------------------------------------------------------------------------


@ONE_BUILD
@pytest.mark.chromium
async def test_local_starts_when_it_is_needed_and_ends_with_the_block(tmp_path, environment):
    client = cdpbridge.local(data_dir=tmp_path, browser_build="shell")
    assert client.server_pid is None
    async with client:
        pid = client.server_pid
        assert os.path.exists(f"/proc/{pid}")
        assert (await client.billing.account()).active_session_count == 0
        async with cdpbridge.open_browser(client) as browser:
            assert (await client.billing.account()).active_session_count == 1
            assert browser.cdp_url.startswith("http://127.0.0.1:")
    assert client.server_pid is None
    assert not os.path.exists(f"/proc/{pid}")


@needs_isolation
@pytest.mark.chromium
@QUICK
@pytest.mark.parametrize("build", ["shell", "full"])
async def test_browsers_of_local_see_what_a_developer_expects(tmp_path, environment, build):
    """The working directory and `files=`, a site on this machine, uploads from anywhere; nothing else of the disk."""
    open_way(tmp_path / "x")
    working, beside = tmp_path / "working", tmp_path / "beside"
    for folder in (tmp_path, working, beside):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
    for path in (working / "page.html", beside / "given.html", beside / "other.html"):
        path.write_text(f"<title>{path.stem}</title>")
        path.chmod(0o644)
    environment.chdir(working)
    settings = {"isolation": "require", "browser_build": build, "files": ["../beside/given.html"]}
    async with (
        serve_site({"/": "<title>the site</title>"}) as site,
        cdpbridge.open_browser(cdpbridge.local(data_dir=tmp_path / "data", **settings)) as browser,
    ):
        tab = await browser.new_tab()
        for url, title in (
            ((working / "page.html").as_uri(), "page"),
            ((beside / "given.html").as_uri(), "given"),
            (f"http://localhost:{site.port}/", "the site"),
        ):
            await tab.goto(url)
            assert await tab.title() == title
        with pytest.raises(NavigationError, match="ERR_FILE_NOT_FOUND"):
            await tab.goto((beside / "other.html").as_uri())
        async with playwright.connect(browser) as connected:
            page = await connected.contexts[0].new_page()
            await page.set_content("<input type=file>")
            await page.set_input_files("input", beside / "other.html")
            assert (
                await page.evaluate("document.querySelector('input').files[0].text()")
                == "<title>other</title>"
            )


@pytest.mark.parametrize("client", [cdpbridge.local, cdpbridge.sync.local])
def test_local_says_where_the_program_works(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sent = program_settings(client(files=["x"], max_browsers=3)._settings())
    assert sent == {
        "files": [str(tmp_path / "x")],
        "max_browsers": 3,
        "user_fonts_and_certificates": True,
        "working_dir": str(tmp_path),
    }
    given = client(working_dir="sub", user_fonts_and_certificates=False)._settings()
    assert program_settings(given) == {
        "user_fonts_and_certificates": False,
        "working_dir": str(tmp_path / "sub"),
    }
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert "working_dir" not in program_settings(client()._settings())


@ONE_BUILD
@pytest.mark.chromium
@QUICK
async def test_local_for_one_rental(tmp_path, environment):
    client = cdpbridge.local(data_dir=tmp_path, browser_build="shell")
    for _ in range(2):  # a client can be opened again
        async with cdpbridge.open_browser(client, profile="again") as browser:
            pid = client.server_pid
        assert browser.receipt.difference == 0
        assert not os.path.exists(f"/proc/{pid}")


@ONE_BUILD
@pytest.mark.chromium
@QUICK
async def test_a_browser_that_outlives_its_clients_block_keeps_the_server(tmp_path, environment):
    async with cdpbridge.local(data_dir=tmp_path, browser_build="shell") as client:
        browser = await cdpbridge.open_browser(client)
    assert await browser.connection.root.send("Browser.getVersion")
    assert not browser._core.over
    assert (await browser.stop()).difference == 0
    assert client.server_pid is None


@QUICK
async def test_two_servers_on_one_folder_are_told_apart(tmp_path, environment):
    async with cdpbridge.local(data_dir=tmp_path, private=True):
        for private in (True, False):
            with pytest.raises(ConfigurationError, match="used by another server"):
                async with cdpbridge.local(data_dir=tmp_path, private=private):
                    pass


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"plan": "gold"}, "plan"),
        ({"max_browser": 3}, "no such setting"),
        ({"proxies": {"de": "ftp://x"}}, "proxies"),
        ({"port": 8700}, r"local\(\) chooses port itself"),
        ({"config": "/nowhere.toml"}, "does not exist"),
    ],
)
@QUICK
async def test_bad_settings_are_named(tmp_path, environment, caplog, settings, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        async with cdpbridge.local(data_dir=tmp_path, **settings):
            pass
    assert "Traceback" not in str(caught.value)
    assert caplog.records == []  # said once, by the exception


@QUICK
async def test_countries_of_the_reference_work_out_of_the_box_and_say_that_they_are_simulated(
    tmp_path, environment, site, caplog
):
    async with cdpbridge.local(data_dir=tmp_path, browser_build="shell", proxies={"se": "direct"}) as client:
        async with cdpbridge.open_browser(client, proxy_country="de") as browser:
            tab = await browser.new_tab(site)
            assert await tab.evaluate("document.title") == "Sign in"
            record = await client.browsers.get(browser.id)
        assert (record.proxy_country_code, record.proxy_simulated) == ("de", True)
        assert browser.receipt.simulated_country == "de"
        assert str(browser.receipt).endswith("; proxy country 'de' was simulated: traffic went out directly")
        assert f"browser {browser.id}: its proxy country 'de' is simulated" in caplog.text
        async with cdpbridge.open_browser(client, proxy_country="se") as browser:
            pass
        assert browser.receipt.simulated_country is None
        with pytest.raises(UnprocessableEntityError, match="unknown country"):
            await client.browsers.create(proxy_country="br")


@QUICK
async def test_fault_e08_receipts_follow_the_price_of_the_server(tmp_path, environment):
    journal = Journal(tmp_path / "journal")
    told = []
    for price, charged in (("0.6", "0.6"), ("0", "0")):
        async with cdpbridge.local(data_dir=tmp_path / "data", usd_per_hour=price) as client:
            async with cdpbridge.open_browser(client, journal=journal, on_progress=told.append) as browser:
                assert browser.cost_now == Decimal(charged) / 60
            assert browser.receipt.charged == Decimal(charged)
            assert browser.receipt.difference == 0
            assert str(browser.receipt).endswith("(simulated USD, this machine)")
    assert told[0] == "starting browsers on this machine"
    first, second = journal.entries()
    assert (first.tariff.usd_per_hour, second.tariff.usd_per_hour) == (Decimal("0.6"), 0)
    assert first.simulated
    [row] = spending(journal.entries(), ["place"], now=datetime.now(UTC))
    assert (row.group["place"], row.usd, row.simulated_usd) == ("this machine", 0, Decimal("0.01"))


@QUICK
async def test_fault_e07_two_programs_at_once(tmp_path, environment):
    """Both run; one with an own server and no folder keeps no profiles, and says so instead of losing them."""
    environment.setenv("XDG_DATA_HOME", str(tmp_path))
    journal = Journal(tmp_path / "journal")
    async with (
        cdpbridge.local() as first,
        cdpbridge.local(private=True) as second,
        cdpbridge.local(private=True) as third,
    ):
        for client in (first, second, third):
            async with cdpbridge.open_browser(client, journal=journal) as browser:
                tab = await browser.new_tab("data:text/html,<title>here</title>")
                assert await tab.title() == "here"
        async with cdpbridge.open_browser(first, profile="work", journal=journal):
            [profile] = [each async for each in first.profiles.list()]
        for asked in ("work", profile.id):
            with pytest.raises(ConflictError, match=r"keeps no profiles.*`data_dir`"):
                await cdpbridge.open_browser(second, profile=asked, journal=journal)
        with pytest.raises(ConflictError, match="profiles cannot be used here"):
            [each async for each in third.profiles.list()]
        with pytest.raises(
            ConfigurationError, match="is used by another server"
        ):  # a folder that was asked for
            async with cdpbridge.local(data_dir=tmp_path / "cdpbridge", private=True):
                pass
    async with cdpbridge.local() as later:
        assert [each.id async for each in later.profiles.list()] == [profile.id]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("CDPBRIDGE_PROVIDR", "CDPBRIDGE_PROVIDER"),
        ("CDPBRIDGE_BASEURL", "CDPBRIDGE_BASE_URL"),
        ("CDPBRIDGE_BUDGET_US", "CDPBRIDGE_BUDGET_USD"),
        ("CDPBRIDGE_MAX_BROWSER", "CDPBRIDGE_MAX_BROWSERS"),
        ("CDPBRIDGE_DATADIR", "CDPBRIDGE_DATA_DIR"),
        ("CDPBRIDGEJOURNAL", "CDPBRIDGE_JOURNAL"),
    ],
)
async def test_fault_e11_a_variable_with_a_typo_is_named(environment, name, right):
    environment.setenv(name, "local")
    for use in (lambda: provider(None), cdpbridge.Client, lambda: Settings.load(plan="free")):
        with pytest.raises(ConfigurationError, match=f"{name} means nothing; did you mean {right}"):
            use()
    with pytest.raises(ConfigurationError, match=f"did you mean {right}"):
        await cdpbridge.open_browser(cdpbridge.at("http://127.0.0.1:9", "key-of-tests"))


def test_fault_e11_variables_that_are_not_ours_are_left_alone():
    orchestrator = ["CDPBRIDGE_SERVICE_HOST", "CDPBRIDGE_SERVICE_PORT", "CDPBRIDGE_PORT_8700_TCP_ADDR"]
    crawls = re.findall("CDPBRIDGE_[A-Z_]+", settings_table())
    assert len(crawls) > 10
    check_variables([*orchestrator, *crawls, "CDPBRIDGE_PACKAGE", "CDP", "PATH"])
    check_variables(f"CDPBRIDGE_{name.upper()}" for name in Fields.model_fields)
    assert set(Fields.model_fields) == SERVER_SETTINGS


async def test_settings_reach_the_server(tmp_path, environment):
    environment.setenv("CDPBRIDGE_PORT", "1")  # not for us
    environment.setenv("CDPBRIDGE_MAX_BROWSERS", "7")
    config = tmp_path / "settings.toml"
    config.write_text('plan = "free"\ncredits_usd = 3\n')
    async with cdpbridge.local(data_dir=tmp_path / "data", config=config, credits_usd=5) as client:
        account = await client.billing.account()
    assert (account.rate_limit, account.plan_info.plan_name, account.total_credits_balance_usd) == (
        7,
        "free",
        5,
    )


async def test_cancelled_while_the_server_starts(tmp_path, environment):
    client = cdpbridge.local(data_dir=tmp_path)
    opening = asyncio.ensure_future(client.__aenter__())
    await asyncio.sleep(0.3)  # the child is being started
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with client:  # so the folder is free again
        assert client.server_pid is not None


@QUICK
async def test_several_tasks_start_one_server(tmp_path, environment):
    client = cdpbridge.local(data_dir=tmp_path)

    async def pid():
        async with client:
            found = client.server_pid
            await asyncio.sleep(0)
            return found

    async with client:
        assert len(set(await asyncio.gather(pid(), pid(), pid()))) == 1


@QUICK
async def test_a_fork_does_not_keep_the_server(tmp_path, environment):
    async with cdpbridge.local(data_dir=tmp_path) as client:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12: a fork of a process with threads
            child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        pid = client.server_pid
    try:
        os.kill(child, 0)  # the server has not waited for its end
        assert not os.path.exists(f"/proc/{pid}")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def test_a_server_that_never_gets_ready(tmp_path, environment, monkeypatch):
    monkeypatch.setattr("cdpbridge._embedded._spawn.START_TIMEOUT", timedelta(seconds=0.2))
    with pytest.raises(ConfigurationError, match=r"did not start within 0\.2 s"):
        async with cdpbridge.local(data_dir=tmp_path):
            pass


async def test_without_the_extra(monkeypatch, tmp_path, environment):
    monkeypatch.setattr(
        "cdpbridge._embedded._installed.find_spec", lambda name: None if name == "fastapi" else object()
    )
    with pytest.raises(ConfigurationError, match=r"pip install 'cdpbridge\[local\]'"):
        async with cdpbridge.local(data_dir=tmp_path):
            pass


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.timeout(300)
def test_ctrl_c_is_not_the_servers(tmp_path):
    """A terminal sends SIGINT to every process of the group; the server must outlive the program's own clean-up."""
    program = """
import asyncio, os, signal, sys
import cdpbridge

async def main():
    async with cdpbridge.local(data_dir=sys.argv[1], browser_build="shell") as client:
        try:
            async with cdpbridge.open_browser(client) as browser:
                os.killpg(0, signal.SIGINT)
                await asyncio.sleep(60)
        finally:
            print(browser.receipt, flush=True)

asyncio.run(main())
"""
    done = programs.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,  # a program, a server and a browser come up and go: a minute on a machine at work
        check=False,
        start_new_session=True,
    )
    assert done.stdout.startswith("charged 0.05, used 1 min"), done.stderr


@ONE_BUILD
@pytest.mark.chromium
@QUICK
def test_local_without_an_event_loop(environment, tmp_path):
    client = cdpbridge.sync.local(data_dir=tmp_path, browser_build="shell")
    with client:
        pid = client.server_pid
        browser = client.browsers.create(timeout=timedelta(minutes=5))
        assert client.browsers.stop(browser.id).status == "stopped"
        assert "127.0.0.1" in repr(client)
    assert (client.server_pid, client.is_open) == (None, False)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@ONE_BUILD
@pytest.mark.chromium
@QUICK
async def test_local_without_an_event_loop_where_there_is_one(environment, tmp_path):
    """As in a notebook, whose loop runs."""
    with cdpbridge.sync.local(data_dir=tmp_path) as client:
        assert client.billing.account().rate_limit == 10
