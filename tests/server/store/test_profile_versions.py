"""Which version of a profile counts: decided in its row, for whatever server or machine has saved it."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from tests.server.store.conftest import NOW

pytestmark = pytest.mark.programs

HOUR = timedelta(hours=1)


@pytest.fixture
async def profile(store, project):
    return (await store.create_profile(project, "tests", limit=None, now=NOW)).id


@pytest.fixture
def rent_with(store, project):
    async def rent_with(profile):
        browser_id = uuid4()
        await store.reserve(
            project,
            browser_id,
            timeout=HOUR,
            profile_id=profile,
            proxy_country=None,
            tariff=Tariff(),
            limit=20,
            now=NOW,
        )
        return await store.activate(browser_id, started_at=NOW, profile_writable=True)

    return rent_with


async def save(store, profile, writer, base, *, archive="a"):
    return await store.profile_saved(
        profile,
        writer,
        base=base,
        version=base + 1,
        archive=archive,
        cookie_domains=["example.com"],
        now=NOW,
    )


async def end(store, browser):
    await store.settle(browser.id, EndReason.STOPPED_BY_CALLER, HOUR / 2, now=NOW)
    await store.finish(browser.id, proxy_bytes=0)


async def test_fault_b26_one_browser_may_save_whichever_server_runs_it(store, profile, rent_with):
    first, second = await rent_with(profile), await rent_with(profile)
    assert (first.profile_writable, second.profile_writable) == (True, False)
    assert not await save(store, profile, second.id, 0)
    await store.settle(first.id, EndReason.STOPPED_BY_CALLER, HOUR / 2, now=NOW)
    # It may be about to save.
    assert not (await rent_with(profile)).profile_writable
    assert await save(store, profile, first.id, 0)
    await store.finish(first.id, proxy_bytes=0)
    third = await rent_with(profile)
    assert third.profile_writable
    # What comes late of the first changes nothing, also before the third has saved.
    assert not await save(store, profile, first.id, 1, archive="late")
    assert await store.profile_version(profile) == (1, "a")
    assert await save(store, profile, third.id, 1, archive="b")
    assert await store.profile_version(profile) == (2, "b")


async def test_a_version_counts_once_whatever_races(store, profile, rent_with):
    browser = await rent_with(profile)
    results = await asyncio.gather(
        *(save(store, profile, browser.id, 0, archive=f"attempt-{number}") for number in range(8))
    )
    assert results.count(True) == 1
    version, archive = await store.profile_version(profile)
    assert (version, archive) == (1, f"attempt-{results.index(True)}")


async def test_a_note_may_be_repeated_when_its_answer_was_lost(store, profile, rent_with):
    browser = await rent_with(profile)
    assert await save(store, profile, browser.id, 0)
    assert await save(store, profile, browser.id, 0)
    assert not await save(store, profile, browser.id, 0, archive="another")
    assert await store.profile_version(profile) == (1, "a")


async def test_a_profile_that_was_deleted_gets_no_version(store, project, profile, rent_with):
    browser = await rent_with(profile)
    await store.delete_profile(project, profile)
    assert not await save(store, profile, browser.id, 0)
    assert await store.profile_version(profile) == (0, None)
    assert await store.profile_archives() == set()


async def test_a_browser_of_a_server_of_before_saves(store, profile):
    """Its row names no writer."""
    assert await save(store, profile, uuid4(), 0, archive=None)
    assert await store.profile_version(profile) == (1, None)


async def test_a_profile_of_a_killed_server_is_free_after_its_browser_was_ended(store, profile, rent_with):
    lost = await rent_with(profile)
    assert not (await rent_with(profile)).profile_writable
    await end(store, lost)
    assert (await rent_with(profile)).profile_writable
