"""Browsers without a server, for what needs no profile."""

import pytest

from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find
from cdpbridge.errors import BrowserNotFound


@pytest.fixture(params=["shell", "full"])
async def connection(request):
    """A connection to a browser of each build."""
    try:
        build = find(request.param)
    except BrowserNotFound:
        pytest.skip(f"no {request.param} build")
    async with (
        await Chromium.start(build=build) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        yield connection
