"""Streams: whole, in pieces, and always closed."""

import asyncio
import base64
import json
from contextlib import aclosing
from datetime import timedelta

import pytest

from cdpbridge.cdp import connect, pdf_stream, read_stream, trace_stream
from cdpbridge.errors import CommandError, ConnectionClosed, DecodeError, TargetClosed
from cdpbridge.protocol import Page, Tracing
from cdpbridge.testing import Refusal

ONE_BUILD = pytest.mark.one_build(
    "the client reads streams; what both builds print is tested in tests/browser"
)

CONTENT = bytes(range(256)) * 40


def serve_stream(scripted, content=CONTENT, *, text=False):
    """`IO` over some bytes; a list of the sizes that were asked for."""
    sizes = []
    at = 0

    def read(_, command):
        nonlocal at
        size = command["params"]["size"]
        sizes.append(size)
        piece = content[at : at + size]
        at += len(piece)
        data = piece.decode() if text else base64.b64encode(piece).decode()
        return {"data": data, "eof": at == len(content), "base64Encoded": not text}

    scripted.on("IO.read", read)
    return sizes


def closed_handles(scripted):
    return [command["params"]["handle"] for command in scripted.commands if command["method"] == "IO.close"]


async def test_base64_in_pieces(connection, scripted):
    sizes = serve_stream(scripted)
    pieces = [piece async for piece in read_stream(connection.root, "1", size=3000)]
    assert b"".join(pieces) == CONTENT
    assert sizes == [3000] * 4
    assert closed_handles(scripted) == ["1"]


async def test_text(connection, scripted):
    serve_stream(scripted, '{"traceEvents":["é😀"]}'.encode(), text=True)
    assert (
        b"".join([piece async for piece in read_stream(connection.root, "1")])
        == '{"traceEvents":["é😀"]}'.encode()
    )


async def test_empty_stream(connection, scripted):
    serve_stream(scripted, b"")
    assert [piece async for piece in read_stream(connection.root, "1")] == []
    assert closed_handles(scripted) == ["1"]


async def test_loop_that_is_left_closes_the_handle(connection, scripted):
    serve_stream(scripted)
    async with aclosing(read_stream(connection.root, "1", size=10)) as pieces:
        async for piece in pieces:
            assert piece == CONTENT[:10]
            break
    assert closed_handles(scripted) == ["1"]


async def test_cancelled_reader_closes_the_handle(connection, scripted):
    scripted.on("IO.read", lambda *_: asyncio.Event().wait())

    async def read():
        async for _ in read_stream(connection.root, "1"):
            pytest.fail("nothing comes")

    reader = asyncio.ensure_future(read())
    await scripted.received("IO.read")
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (await scripted.received("IO.close"))["params"] == {"handle": "1"}


async def test_what_the_browser_refuses(connection, scripted):
    scripted.on("IO.read", Refusal(-32602, "Invalid stream handle"))
    scripted.on("IO.close", Refusal(-32602, "Invalid stream handle"))
    with pytest.raises(CommandError, match="Invalid stream handle"):
        _ = [piece async for piece in read_stream(connection.root, "1")]
    assert closed_handles(scripted) == ["1"]


async def test_what_is_no_base64(connection, scripted):
    scripted.on("IO.read", {"data": "***", "eof": False, "base64Encoded": True})
    with pytest.raises(DecodeError, match="base64"):
        _ = [piece async for piece in read_stream(connection.root, "1")]
    assert closed_handles(scripted) == ["1"]


async def test_end_of_the_connection_while_reading(scripted):
    serve_stream(scripted)
    async with connect(scripted.ws_url) as connection:
        pieces = read_stream(connection.root, "1", size=10)
        await anext(pieces)
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await anext(pieces)


async def test_end_of_the_target_while_reading(connection, scripted):
    serve_stream(scripted)
    tab = await connection.new_tab()
    pieces = read_stream(tab, "1", size=10)
    await anext(pieces)
    await tab.detach()
    with pytest.raises(TargetClosed):
        await anext(pieces)


async def test_size_must_be_positive(connection):
    with pytest.raises(ValueError, match="size"):
        await anext(read_stream(connection.root, "1", size=0))


async def test_browser_without_streams_gives_a_pdf_whole(connection, scripted):
    scripted.on("Page.printToPDF", {"data": base64.b64encode(CONTENT).decode()})
    command = Page.print_to_pdf(landscape=True)
    assert [piece async for piece in pdf_stream(connection.root, command)] == [CONTENT]
    sent = scripted.commands[0]["params"]
    assert sent == {"landscape": True, "transferMode": "ReturnAsStream"}
    assert "transferMode" not in command.params


async def test_trace_that_was_not_started_as_a_stream(connection, scripted):
    async def end(client, command):
        await client.event("Tracing.tracingComplete", {"dataLossOccurred": False})
        return {}

    scripted.on("Tracing.end", end)
    with pytest.raises(ValueError, match="ReturnAsStream"):
        await anext(trace_stream(connection.root))


# --- Chromium ---------------------------------------------------------------------------------------------------------


@ONE_BUILD
@pytest.mark.chromium
async def test_pdf_of_a_real_page(tab):
    await tab.send("Page.setDocumentContent", {"frameId": tab.target_id, "html": "<p>x</p>"})
    pieces = [piece async for piece in pdf_stream(tab, Page.print_to_pdf(paper_width=5))]
    whole = b"".join(pieces)
    assert whole.startswith(b"%PDF")
    assert whole.rstrip().endswith(b"%%EOF")


@ONE_BUILD
@pytest.mark.chromium
async def test_pdf_in_many_pieces_and_a_handle_that_is_closed(tab):
    page = "<p style='page-break-after:always'>x</p>" * 200
    await tab.send("Page.setDocumentContent", {"frameId": tab.target_id, "html": page})
    reply = await tab.send(Page.print_to_pdf(transfer_mode="ReturnAsStream"))
    pieces = [piece async for piece in read_stream(tab, reply.stream, size=10_000)]
    assert len(pieces) > 3
    assert b"".join(pieces).rstrip().endswith(b"%%EOF")
    with pytest.raises(CommandError):
        await anext(read_stream(tab, reply.stream))


@ONE_BUILD
@pytest.mark.chromium
async def test_trace_of_a_real_page(chrome_connection, tab):
    root = chrome_connection.root
    await root.send(Tracing.start(transfer_mode="ReturnAsStream", categories="devtools.timeline,toplevel"))
    await tab.send("Runtime.evaluate", {"expression": "1 + 1"})
    stream = trace_stream(root, timeout=timedelta(seconds=60))
    trace = json.loads(b"".join([piece async for piece in stream]))
    assert trace["traceEvents"]
