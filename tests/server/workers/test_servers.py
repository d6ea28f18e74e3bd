"""Two server processes on one PostgreSQL behind a balancer, and a worker: a server that ends, ends no browser."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import websockets
from playwright.async_api import async_playwright

from cdpbridge.cdp import connect
from cdpbridge.protocol import Runtime
from tests import postgres
from tests.conftest import until
from tests.server.workers.balancer import Balancer
from tests.server.workers.worker_programs import SECRET, WorkerProgram

pytestmark = [
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build("servers and their rows, whichever build the worker starts"),
]


@pytest.fixture
async def cluster(spawn_server, new_postgresql, tmp_path):
    """Gives `server(folder)`, a block; all are behind one address, and have one worker."""
    database = new_postgresql()
    balancer = Balancer()

    @asynccontextmanager
    async def server(folder):
        settings = {"database_url": database, "secret_key": postgres.SECRET, "public_url": balancer.url}
        async with spawn_server(
            folder=folder, browsers="workers", worker_secret=SECRET, **settings
        ) as server:
            # The address that it says is the balancer's.
            port = await asyncio.to_thread(port_of, server.process.pid)
            balancer.servers.append(port)
            server.port = port
            yield server
            if port in balancer.servers:
                balancer.servers.remove(port)

    class Cluster:
        worker = None

        def add_worker(self, port):
            self.worker = WorkerProgram(
                tmp_path / "worker", server=f"http://127.0.0.1:{port}", slots=3, browser_build="shell"
            )

        def rows(self, statement):
            return postgres.instance().rows(database, statement)

        async def owner_is_new(self, former):
            [row] = self.rows("SELECT owner, state FROM browsers WHERE state <> 'stopped'")
            return row["state"] == "active" and str(row["owner"]) != former

    made = Cluster()
    made.server, made.balancer = server, balancer
    async with balancer.listening():
        try:
            yield made
        finally:
            if made.worker is not None:
                made.worker.end()


def port_of(pid):
    """Return the port that a process listens on."""
    import psutil

    [port] = {
        each.laddr.port
        for each in psutil.Process(pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    return port


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        # A death is observed for ten seconds; test_adoption.py has the same in a moment.
        pytest.param(signal.SIGKILL, id="SIGKILL", marks=pytest.mark.slow),
    ],
)
async def test_fault_b53_a_server_that_ends_ends_no_browser(cluster, number):
    async with cluster.server("a") as a, cluster.server("b") as b:
        cluster.add_worker(a.port)

        async def rented():
            answer = await a.http.post("/browsers", json={"timeout": 60})
            return answer.json() if answer.status_code == 201 else None

        browser = await until(rented)
        address = browser["cdpUrl"]
        assert urlsplit(address).port == cluster.balancer.port
        # The other shows the same, and leads there as well.
        async with connect(address.replace(f":{cluster.balancer.port}", f":{b.port}")) as connection:
            assert (await connection.root.send("Browser.getVersion"))["product"]
        async with websockets.connect(f"ws://127.0.0.1:{b.port}/live/socket") as socket:
            token = browser["liveUrl"].rpartition("/")[2]
            await socket.send(json.dumps({"type": "hello", "token": token, "share": False}))
            async with asyncio.timeout(60):
                while isinstance(await socket.recv(), str):
                    pass  # until the first picture
        [row] = cluster.rows("SELECT owner FROM browsers")
        async with connect(address, reconnect=True) as connection, async_playwright() as playwright:
            other = await playwright.chromium.connect_over_cdp(address)
            gone = asyncio.get_running_loop().create_future()
            other.on("disconnected", lambda _browser: gone.set_result(None))
            tab = await connection.new_tab("data:text/html,<title>kept</title>")
            await tab.send(Runtime.evaluate("window.kept = 42"))
            reports = []
            connection.on("reconnected", reports.append)
            cluster.balancer.servers.remove(a.port)
            a.process.send_signal(number)
            await asyncio.to_thread(a.process.wait, 60)
            await asyncio.wait_for(gone, 60)
            answer = await tab.send(Runtime.evaluate("`${document.title} ${window.kept}`"))
            assert answer.result.value == "kept 42"
            [report] = reports
            assert not report.lost
            assert (report.code == 1012) == (number == signal.SIGTERM)
            # Playwright connects again by itself as any client does.
            again = await playwright.chromium.connect_over_cdp(address)
            titles = [await page.title() for context in again.contexts for page in context.pages]
            assert "kept" in titles
            await again.close()
        await until(lambda: cluster.owner_is_new(str(row["owner"])))
        stopped = await b.stop(browser)
        assert (stopped["status"], stopped["endReason"]) == ("stopped", "stopped_by_caller")
        assert Decimal(stopped["browserCost"]) <= Decimal("0.001667")
        entries = cluster.rows("SELECT kind, entry FROM ledger WHERE browser_id IS NOT NULL")
        assert sorted(each["kind"] for each in entries) == ["charge", "refund"]
        assert cluster.rows("SELECT running, starting FROM workers") == [{"running": 0, "starting": 0}]
        # Nothing is left of the one that ended.
        await until(lambda: len(cluster.rows("SELECT id FROM servers")) == 1)
