"""Rentals are tried on each database."""

from contextlib import asynccontextmanager

import pytest

from tests import postgres
from tests.postgres import BOTH


@pytest.fixture(params=BOTH)
def database(request):
    return request.param


@pytest.fixture
def make_api(database, make_api, request):
    """As in the folder above, on each database; every server of a test has the same one."""
    if database == "sqlite":
        return make_api
    url = request.getfixturevalue("new_postgresql")()

    @asynccontextmanager
    async def on_postgresql(**settings):
        async with make_api(**({"database_url": url, "secret_key": postgres.SECRET} | settings)) as api:
            yield api

    return on_postgresql


async def kill(api):
    """As if its process ended: no sign of life any more, and nothing is written."""
    rentals = api.services.rentals
    await rentals._heart.close()
    for rental in rentals._rentals.values():
        rental.cancel_timers()
    rentals._rentals.clear()
    api.hosts.running.clear()
