"""Real browsers behind a real server: how they end, and what is left of them."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

import psutil
import pytest

from cdpbridge.cdp import connect
from cdpbridge.errors import CDPError, CommandTimeout, ConnectionClosed
from tests.folders import browsers_folder

ONE_BUILD = pytest.mark.one_build(
    "processes, turns and times of the host; what a build stores in a profile has both below"
)

pytestmark = pytest.mark.chromium

LOOP = "addEventListener('beforeunload', event => event.preventDefault()); while (true) {}"


async def closed(connection, timeout=60):
    async with asyncio.timeout(timeout):
        await connection.wait_closed()
    return connection.close_code, connection.close_reason


@ONE_BUILD
@pytest.mark.parametrize("client", ["idle", "busy", "absent"])
async def test_fault_b01_timeout(make_server, clock, client, wait_until):
    async with make_server(clock=clock) as server:
        profile = await server.profile()
        browser = await server.rent(timeout=2, profileId=profile)
        await server.set_cookies(browser, "late")
        connection = None if client == "absent" else await connect(browser["cdpUrl"])
        calls = []
        if client == "busy":
            tab = await connection.new_tab()
            calls = [
                asyncio.create_task(
                    tab.send(
                        "Runtime.evaluate", {"expression": "new Promise(() => {})", "awaitPromise": True}
                    )
                )
            ]
            await tab.send("Runtime.evaluate", {"expression": "1"})
        clock.advance(120)
        if connection is not None:
            assert await closed(connection) == (1001, "session expired")
        await wait_until(lambda: not server.processes(browser))
        stopped = await server.stopped(browser)
        assert (stopped["endReason"], stopped["finishedAt"]) == ("expired", stopped["timeoutAt"])
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, CDPError)
        if connection is not None:
            await connection.close()
        assert await server.cookies_of_profile(profile) == {"late"}


@ONE_BUILD
async def test_fault_b13_sigkill_of_the_browser(make_server):
    async with make_server(max_browsers=1) as server:
        browser = await server.rent(timeout=60)
        async with connect(browser["cdpUrl"]) as connection:
            os.kill(server.main_process(browser), signal.SIGKILL)
            code, _ = await closed(connection)
            assert code != 1006
        stopped = await server.stopped(browser)
        assert stopped["endReason"] == "browser_exited"
        assert Decimal(stopped["browserCost"]) == Decimal("0.000833")
        await server.stop(await server.rent())


@ONE_BUILD
async def test_fault_b14_a_stopped_process_is_found_and_killed(make_server):
    async with make_server(health_check_seconds=0.1, health_timeout_seconds=3) as server:
        browser = await server.rent(timeout=60)
        os.kill(server.main_process(browser), signal.SIGSTOP)
        stopped = await server.stopped(browser)
        assert stopped["endReason"] == "browser_exited"
        assert not server.processes(browser)


@ONE_BUILD
@pytest.mark.parametrize(("profile", "seconds"), [(True, 0.5), (False, 60)])
async def test_fault_b14_a_stop_of_a_browser_that_hangs_is_bounded(make_server, profile, seconds):
    # One that has nothing to save is not waited for.
    async with make_server(stop_timeout_seconds=seconds) as server:
        browser = await server.rent(**({"profileId": await server.profile()} if profile else {}))
        os.kill(server.main_process(browser), signal.SIGSTOP)
        async with asyncio.timeout(50):  # the process would wait for ever
            assert (await server.stop(browser))["status"] == "stopped"
        assert not server.processes(browser)


@ONE_BUILD
@pytest.mark.parametrize("fault", ["crash", "endless loop"])
async def test_fault_b15_a_broken_page_does_not_hold_up_the_stop(make_server, fault):
    async with make_server() as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            if fault == "crash":
                with pytest.raises(CDPError):
                    await tab.send("Page.crash", timeout=timedelta(seconds=30))
            else:
                with pytest.raises(CommandTimeout):
                    await tab.send("Runtime.evaluate", {"expression": LOOP}, timeout=timedelta(seconds=0.5))
            assert await connection.root.send("Browser.getVersion")
            async with asyncio.timeout(60):
                assert (await server.stop(browser))["status"] == "stopped"
            assert await closed(connection) == (1001, "session stopped")


@ONE_BUILD
async def test_fault_b16_the_client_closes_the_browser(make_server):
    async with make_server() as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile, timeout=60)
        await server.set_cookies(browser, "kept")
        async with connect(browser["cdpUrl"]) as connection:
            with suppress(ConnectionClosed):  # the reply may not come any more
                await connection.root.send("Browser.close")
            code, _ = await closed(connection)
            assert code != 1006
        stopped = await server.stopped(browser)
        assert stopped["endReason"] == "browser_exited"
        assert Decimal(stopped["browserCost"]) == Decimal("0.000833")
        assert await server.cookies_of_profile(profile) == {"kept"}


@ONE_BUILD
async def test_fault_b17_browser_crash(make_server):
    async with make_server() as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            with pytest.raises(CDPError):
                await connection.root.send("Browser.crash", timeout=timedelta(seconds=5))
        assert (await server.stopped(browser))["endReason"] == "browser_exited"


@ONE_BUILD
async def test_fault_b17_the_last_tab_closed_leaves_the_browser(make_server):
    async with make_server() as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            for target in await connection.targets():
                if target.type == "page":
                    await connection.root.send("Target.closeTarget", {"targetId": target.target_id})
            tab = await connection.new_tab()
            assert (await tab.send("Runtime.evaluate", {"expression": "1 + 1"}))["result"]["value"] == 2
        assert (await server.stop(browser))["endReason"] == "stopped_by_caller"


@ONE_BUILD
async def test_fault_b23_sigkill_after_the_export(make_server, wait_until):
    async with make_server(cookie_export_seconds=0.1) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "lasting")
        await server.set_cookies(browser, "login", session=True)
        export = server.folder(browser) / "cookies.json"
        await wait_until(lambda: export.exists() and "login" in export.read_text())
        os.kill(server.main_process(browser), signal.SIGKILL)
        await server.stopped(browser)
        assert await server.cookies_of_profile(profile) == {"lasting", "login"}
        saved = (await server.http.get(f"/profiles/{profile}")).json()
        assert saved["cookieDomains"] is not None


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_b24_b25_cookies_set_just_before_the_stop(make_server, build):
    async with make_server(browser_build=build) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "lasting")
        await server.set_cookies(browser, "login", session=True)
        await server.stop(browser)
        assert await server.cookies_of_profile(profile) == {"lasting", "login"}


@ONE_BUILD
async def test_what_was_deleted_stays_deleted(make_server):
    """A log-out is a state too: neither the export nor the folder brings an old cookie back."""
    async with make_server(cookie_export_seconds=0.1) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "login")
        await server.stop(browser)
        browser = await server.rent(profileId=profile)
        assert await server.cookies(browser) == {"login"}
        async with connect(browser["cdpUrl"]) as connection:
            await connection.root.send("Storage.clearCookies")
        await server.stop(browser)
        assert await server.cookies_of_profile(profile) == set()


@ONE_BUILD
async def test_fault_b26_two_browsers_on_one_profile(make_server):
    async with make_server() as server:
        profile = await server.profile()
        first = await server.rent(profileId=profile)
        second = await server.rent(profileId=profile)
        assert (first["profileWritable"], second["profileWritable"]) == (True, False)
        assert not set(server.processes(first)) & set(server.processes(second))
        await server.set_cookies(first, "from-first")
        await server.set_cookies(second, "from-second")
        await server.stop(first)
        await server.stop(second)
        assert await server.cookies_of_profile(profile) == {"from-first"}


@ONE_BUILD
async def test_fault_b30_without_a_profile_nothing_persists(make_server, wait_until):
    async with make_server() as server:
        browser = await server.rent()
        await server.set_cookies(browser, "secret")
        await server.stop(browser)
        await wait_until(lambda: not server.folders())
        other = await server.rent()
        assert await server.cookies(other) == set()
        await server.stop(other)
        assert not list((server.data_dir / "profiles").glob("**/*Cookies*"))


@ONE_BUILD
async def test_two_browsers_do_not_share_cookies(make_server):
    async with make_server() as server:
        one, other = await asyncio.gather(server.rent(), server.rent())
        await server.set_cookies(one, "mine")
        assert await server.cookies(other) == set()


@ONE_BUILD
async def test_a_country_has_a_proxy(make_server, site):
    async with make_server(proxies={"de": "direct"}) as server:
        browser = await server.rent(proxyCountryCode="de")
        async with connect(browser["cdpUrl"]) as connection:
            tab = await connection.new_tab()
            await tab.send("Page.enable")
            async with tab.expect("Page.loadEventFired"):
                await tab.send("Page.navigate", {"url": site})
            reply = await tab.send("Runtime.evaluate", {"expression": "document.body.innerText.length"})
        stopped = await server.stop(browser)
        assert Decimal(stopped["proxyUsedMb"]) * 1_000_000 >= reply["result"]["value"] > 10


@ONE_BUILD
async def test_fault_b08_no_memory_no_disk_no_binary(make_server, tmp_path):
    async with make_server() as server:
        browsers = browsers_folder(server.data_dir)
        browsers.mkdir(exist_ok=True)
        browsers.rmdir()
        browsers.write_text("in the way")  # stands for every error of the disk
        answer = await server.http.post("/browsers", json={})
        assert answer.status_code == 503
        assert "could not be started" in answer.json()["detail"]
        browsers.unlink()
        assert (await server.account())["totalCreditsBalanceUsd"] == 100
        await server.stop(await server.rent())


@ONE_BUILD
async def test_fault_b08_a_binary_that_never_gets_ready(make_server, tmp_path):
    slow = tmp_path / "slow-chromium"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    async with make_server(browser_path=slow, browser_build=None, start_timeout_seconds=0.5) as server:
        answer = await server.http.post("/browsers", json={})
        assert answer.status_code == 503
        assert not server.folders()
        assert (await server.account())["activeSessionCount"] == 0


@ONE_BUILD
async def test_fault_b10_who_waits_too_long_for_a_turn_is_told(make_server, tmp_path):
    slow = tmp_path / "slow-chromium"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    options = {"concurrent_starts": 1, "start_timeout_seconds": 3, "queue_timeout_seconds": 0.2}
    async with make_server(browser_path=slow, browser_build=None, **options) as server:
        answers = await asyncio.gather(*(server.http.post("/browsers", json={}) for _ in range(2)))
        failed, refused = sorted(answers, key=lambda answer: -answer.status_code)
        assert (failed.status_code, refused.status_code) == (503, 429)
        assert "busy starting other browsers" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0


@ONE_BUILD
async def test_fault_b07_a_client_that_hangs_up_halfway(make_server, wait_until):
    async with make_server() as server:
        for _ in range(10):
            creating = asyncio.create_task(server.rent())
            await wait_until(lambda: server.folders() or creating.done())
            creating.cancel()
            await asyncio.wait({creating})
            # The next one's folder must not be taken for this one's.
            await wait_until(lambda: not (server.app.state.services.rentals._rentals or server.folders()))
        account = await server.account()
        assert (account["activeSessionCount"], account["totalCreditsBalanceUsd"]) == (0, 100)
        assert not server.processes()
        assert not server.folders()


async def burst(server, count):
    """Start `count` browsers at once; their start times, and the round trips meanwhile of one that lives already, in seconds."""
    live = await server.rent()
    trips, starts = [], []

    async def timed_rent():
        began = time.monotonic()
        browser = await server.rent()
        starts.append(time.monotonic() - began)
        return browser

    async with connect(live["cdpUrl"]) as connection:
        creating = [asyncio.create_task(timed_rent()) for _ in range(count)]
        while not all(task.done() for task in creating):
            began = time.monotonic()
            await connection.root.send("Browser.getVersion")
            trips.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
        browsers = await asyncio.gather(*creating)
    await asyncio.gather(*(server.stop(browser) for browser in [live, *browsers]))
    return starts, trips


@ONE_BUILD
@pytest.mark.parametrize(
    "count",
    [8, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
async def test_fault_b10_a_burst_of_creates(make_server, count):
    async with make_server(max_browsers=60, concurrent_starts=2) as server:
        starts, trips = await burst(server, count)
        assert len(starts) == count
        # Answered all the time: a loop that a start holds up would have had one trip for each.
        assert len(trips) > 2 * count


async def cycles(server, count, wait_until):
    """Rent and end browsers, every other one by SIGKILL."""
    for number in range(count):
        browser = await server.rent()
        if number % 2:
            os.kill(server.main_process(browser), signal.SIGKILL)
            await server.stopped(browser)
        else:
            await server.stop(browser)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def listening_ports():
    """Of this process; the rest of the machine has other things to do."""
    return len(
        [each for each in psutil.Process().net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    )


def held():
    """What cycles may not make grow."""
    return descriptors(), listening_ports(), len(asyncio.all_tasks())


@ONE_BUILD
@pytest.mark.parametrize(
    "count",
    [
        10,
        pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
async def test_fault_b18_cycles_leave_nothing(make_server, count, wait_until, tmp_path):
    async with make_server() as server:
        # What is opened once is open now, and the database's pool has what it has when a few want it at a time.
        await cycles(server, 4, wait_until)
        services = server.app.state.services
        await asyncio.gather(*(services.store.unfinished() for _ in range(10)))
        before = held()
        temporary = set(os.listdir("/tmp"))
        await cycles(server, count, wait_until)
        await wait_until(lambda: not services.rentals._rentals)
        await wait_until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
        assert not server.processes()
        await wait_until(lambda: not server.folders())
        assert not {name for name in set(os.listdir("/tmp")) - temporary if "chrom" in name.lower()}


@ONE_BUILD
async def test_clients_that_cannot_be_told_do_not_keep_a_browser_alive(make_server, monkeypatch, wait_until):
    async with make_server() as server:
        browser = await server.rent(profileId=await server.profile())

        async def broken(*_arguments):
            raise RuntimeError("no goodbye")

        with monkeypatch.context() as patch:
            patch.setattr(server.app.state.registry, "close", broken)
            assert (await server.stop(browser))["status"] == "stopped"
        assert not server.processes(browser)
        await wait_until(lambda: not server.folders())


@ONE_BUILD
async def test_used_time_and_dates_agree(make_server):
    async with make_server() as server:
        browser = await server.stop(await server.rent())
        started, finished = (datetime.fromisoformat(browser[name]) for name in ("startedAt", "finishedAt"))
        assert timedelta(0) < finished - started < timedelta(seconds=30)


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_b29_killed_right_after_the_answer_to_a_stop(spawn_server, wait_until, build):
    """Its profile was not saved yet, or not noted, or its folder was there still: the next start does what is left."""
    async with spawn_server(browser_build=build) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "lasting")
        await server.set_cookies(browser, "login", session=True)
        await server.stop(browser)
        server.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(server.process.wait)
        await wait_until(lambda: not server.processes())
    async with spawn_server(browser_build=build) as server:
        assert not server.folders()
        assert (await server.http.get(f"/profiles/{profile}")).json()["cookieDomains"]
        assert await server.cookies_of_profile(profile) == {"lasting", "login"}
