"""What uvloop does otherwise than asyncio, and what it broke."""

import asyncio
import os
import subprocess
import sys

import pytest

from cdpbridge.cdp import _pipe, connect_pipe
from cdpbridge.cdp._pipe import open_pipe

uvloop = pytest.importorskip("uvloop")

NO_PIPE = """
import asyncio, os, sys, uvloop
from cdpbridge.cdp import _pipe, connect_pipe

async def main():
    file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
    try:
        await connect_pipe(file, os.dup(file))
    except ValueError as error:
        print(error)

uvloop.run(main())
"""


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_pipe_closes_no_file_of_another_thread(run, monkeypatch):
    """Regression: under uvloop, descriptors were closed twice, and with them what another thread had opened in between."""
    theirs, numbers = [], []

    class Descriptor(_pipe._Descriptor):
        def close(self):
            theirs.append(os.open(os.devnull, os.O_RDONLY))  # what another thread may do in this moment
            super().close()

    class Receiver:
        def received(self, buffer, start, end): ...

        def lost(self, closed): ...

    async def open_and_close():
        from_browser, browser_out = os.pipe()
        browser_in, to_browser = os.pipe()
        numbers.extend((from_browser, to_browser))
        pipe = await open_pipe(from_browser, to_browser, max_message_bytes=1000)
        pipe.start(Receiver())
        pipe.close()
        async with asyncio.timeout(60):
            while len(theirs) < 2:
                await asyncio.sleep(0)
        os.close(browser_out)
        os.close(browser_in)

    monkeypatch.setattr(_pipe, "_Descriptor", Descriptor)
    run(open_and_close())
    for descriptor in theirs:
        os.fstat(descriptor)  # is open
    for number in set(numbers) - set(theirs):
        with pytest.raises(OSError):
            os.fstat(number)
    for descriptor in theirs:
        os.close(descriptor)


def test_descriptors_that_are_no_pipes_do_not_abort_the_process(tmp_path):
    """Regression: libuv aborted the interpreter, which no `except` can help."""
    program = [sys.executable, "-c", NO_PIPE, str(tmp_path / "file")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "is no pipe" in done.stdout


def test_messages_before_the_start_of_a_pipe_are_kept():
    """Regression: uvloop delivers although reading is paused; the message was lost and the pipe with it."""

    class Receiver:
        def __init__(self):
            self.log = []
            self.ended = asyncio.Event()

        def received(self, buffer, start, end):
            self.log.append(bytes(buffer[start:end]))

        def lost(self, closed):
            self.ended.set()

    async def run():
        from_browser, browser_out = os.pipe()
        browser_in, to_browser = os.pipe()
        os.write(browser_out, b'{"early":1}\0{"early":2}\0{"ha')
        pipe = await open_pipe(from_browser, to_browser, max_message_bytes=1000)
        for _ in range(10):
            await asyncio.sleep(0)
        os.write(browser_out, b'lf":3}\0')
        receiver = Receiver()
        pipe.start(receiver)
        async with asyncio.timeout(60):
            while len(receiver.log) < 3:
                await asyncio.sleep(0)
            pipe.close()
            await receiver.ended.wait()
        os.close(browser_out)
        os.close(browser_in)
        return receiver.log

    assert uvloop.run(run()) == [b'{"early":1}', b'{"early":2}', b'{"half":3}']
    assert asyncio.run(run()) == [b'{"early":1}', b'{"early":2}', b'{"half":3}']


async def test_bad_descriptors_are_closed(running_loop):
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(OSError):
        await connect_pipe(read, write)
    with pytest.raises(OSError):
        os.fstat(write)
