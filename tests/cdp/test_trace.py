"""Recording on a real connection: on request, across reconnects, and not at all when nobody asked."""

import asyncio
import os
import stat

import pytest

from cdpbridge.cdp import connect, connect_pipe
from cdpbridge.cdp._trace import Recording
from cdpbridge.cdp._websocket import WebSocketTransport
from cdpbridge.errors import CommandError, ConfigurationError
from cdpbridge.testing import Refusal


@pytest.fixture(autouse=True)
def no_trace(monkeypatch):
    monkeypatch.delenv("CDPBRIDGE_TRACE", raising=False)


def texts(lines):
    """Lines without their time."""
    return [line[27:] for line in lines]


async def test_record_of_a_failure(scripted):
    scripted.on("Page.navigate", Refusal(-32000, "Cannot navigate"))
    async with connect(scripted.ws_url, record=4) as connection:
        tab = await connection.new_tab()
        with pytest.raises(CommandError) as caught:
            await tab.send("Page.navigate", {"url": "https://me:hunter2@example.com"})
        caught.value.add_note("\n".join(connection.flight_record()))
    first, *others = texts(caught.value.__notes__[0].splitlines())
    assert first.startswith(
        '<- - Target.attachedToTarget {"sessionId":"SESSION2","targetInfo":{"targetId":"TARGET1",'
    )
    assert others == [
        '<= 2 - {"sessionId":"SESSION2"}',
        '=> 3 SESSION2 Page.navigate {"url":"https://…@example.com"}',
        '<= 3 SESSION2 error {"code":-32000,"message":"Cannot navigate"}',
    ]
    assert texts(connection.flight_record())[-1] == "-- closed 1000"
    assert connection._recorder is not None


async def test_nothing_is_recorded_unless_asked_for(scripted):
    async with connect(scripted.ws_url) as connection:
        assert type(connection._link._transport) is WebSocketTransport
        assert connection._recorder is None
        assert connection.flight_record() == []


async def test_trace_in_a_file(scripted, tmp_path, monkeypatch):
    file = tmp_path / "trace"
    monkeypatch.setenv("CDPBRIDGE_TRACE", str(file))
    for _ in range(2):  # appended
        async with connect(scripted.ws_url) as connection:
            await connection.root.send("Network.setCookie", {"name": "a", "value": "hunter2"})
            await connection.root.send("A.b", {"t": "one\nline\u2028of \ud83c text"})
            assert connection.flight_record() == []
    lines = file.read_text().splitlines()
    assert (
        texts(lines)
        == [
            '=> 1 - Network.setCookie {"name":"a","value":"…"}',
            "<= 1 - {}",
            '=> 2 - A.b {"t":"one\\nline…of … text"}',
            "<= 2 - {}",
            "-- closed 1000",
        ]
        * 2
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_trace_that_cannot_be_written(scripted, tmp_path, monkeypatch):
    monkeypatch.setenv("CDPBRIDGE_TRACE", str(tmp_path / "nowhere" / "trace"))
    with pytest.raises(ConfigurationError, match="CDPBRIDGE_TRACE"):
        await connect(scripted.ws_url)
    assert (await scripted.clients[0].wait_closed())[0] is None  # no socket is left
    with pytest.raises(ConfigurationError, match="record"):
        await connect(scripted.ws_url, record=-1)


async def test_full_disk_ends_the_trace_and_nothing_else(scripted, monkeypatch, caplog):
    monkeypatch.setenv("CDPBRIDGE_TRACE", "/dev/full")
    async with connect(scripted.ws_url, record=10) as connection:
        for _ in range(3):
            await connection.root.send("A.b")
    assert len([record for record in caplog.records if "tracing stopped" in record.getMessage()]) == 1
    assert len(connection.flight_record()) == 7


async def test_record_goes_on_after_a_reconnect(scripted, tmp_path, monkeypatch):
    file = tmp_path / "trace"
    monkeypatch.setenv("CDPBRIDGE_TRACE", str(file))
    async with connect(scripted.ws_url, record=100, reconnect=True) as connection:
        back = asyncio.Event()
        connection.on("reconnected", lambda _: back.set())
        await connection.root.send("A.before")
        (await scripted.client()).cut()
        async with asyncio.timeout(60):
            await back.wait()
        await connection.root.send("A.after")
    seen = texts(connection.flight_record())
    words = [text.split()[-1] for text in seen]
    assert words.index("A.before") < words.index("A.after")
    assert any(text.startswith("-- closed 1006") for text in seen)
    assert texts(file.read_text().splitlines()) == seen


async def test_pipe_is_recorded_too(running_loop):
    from_browser, browser_out = os.pipe()
    browser_in, to_browser = os.pipe()
    async with connect_pipe(from_browser, to_browser, record=10) as connection:
        call = asyncio.ensure_future(connection.root.send("A.b"))
        await asyncio.to_thread(os.read, browser_in, 1000)
        os.write(browser_out, b'{"id":1,"result":{}}\0')
        await call
    for descriptor in (browser_in, browser_out):
        os.close(descriptor)
    assert texts(connection.flight_record())[:2] == ["=> 1 - A.b", "<= 1 - {}"]


def test_off_returns_the_transport_itself():
    transport = object()
    assert Recording(0).wrap(transport) is transport
