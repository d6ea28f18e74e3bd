"""Fault D14: guessing live addresses and shares."""

import json

import pytest
import websockets

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("limits of the server's own port")]


@pytest.mark.parametrize("share", [False, True])
async def test_fault_d14_live_tokens_and_shares(spawn_server, share):
    limits = {"token_failures": 5, "token_seconds": 60.0}
    async with spawn_server(limits=limits) as server:
        browser = await server.rent()
        address = f"ws://{server.http.base_url.netloc.decode()}/{'share' if share else 'live'}/socket"

        async def hello(token, share=share):
            async with websockets.connect(address, max_size=None) as viewer:
                await viewer.send(json.dumps({"type": "hello", "token": token, "share": share}))
                while not isinstance(message := await viewer.recv(), str):
                    pass
                message = json.loads(message)
                if message["type"] != "end":
                    return None
                await viewer.wait_closed()
                return viewer.close_code

        codes = [await hello(f"guess-{number}") for number in range(7)]
        assert codes == [4404] * 5 + [4429] * 2
        right = browser["liveUrl"].rpartition("/")[2].partition("?")[0]
        assert await hello(right, share=False) is None
        await server.stop(browser)
