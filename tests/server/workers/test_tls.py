"""TLS between servers and workers: real worker programs, and what servers say when certificate, name, time or protocol are wrong."""

import asyncio
import os
import socket
import ssl
import sys
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
import trustme

from cdpbridge.cdp import connect
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.gateway import Registry, Upstream
from cdpbridge.server.hosts import BrowserSpec, CloseFrame
from cdpbridge.server.workers import LinkLimits, ServerTls, WorkerAddress
from cdpbridge.server.workers._dial import Dialler, NotAdmitted, host_and_port
from cdpbridge.server.workers._port import WorkerPort
from cdpbridge.server.workers._protocol import Hello
from cdpbridge.server.workers._tls import AuthorityFile, WorkerTls, bound
from tests import programs
from tests.conftest import clean_environment, until
from tests.server.workers.worker_programs import (
    SECRET,
    Calls,
    MemorySlots,
    WorkerProgram,
    answers,
    worker_hosts,
)

AUTHORITY = trustme.CA()
OTHER_AUTHORITY = trustme.CA()
END = CloseFrame(1001, "stopped by the caller")
QUICK = LinkLimits(every=timedelta(seconds=0.8))


def issue(path, *names, authority=AUTHORITY, **times):
    """Write certificate and key, in one go, as a program that renews does."""
    issued = authority.issue_cert(*(names or ("127.0.0.1",)), **times)
    new = path.with_name(f".{path.name}")
    issued.private_key_and_cert_chain_pem.write_to_path(new)
    new.replace(path)
    return issued


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
    OTHER_AUTHORITY.cert_pem.write_to_path(folder / "other.pem")
    issue(folder / "worker.pem")
    return folder


@pytest.fixture(scope="module")
def worker(folder):
    """A worker with TLS that outlives the tests which use it."""
    worker = WorkerProgram(
        folder / "worker",
        "--alone",
        "600",
        browser_build="shell",
        worker_tls_certificate=folder / "worker.pem",
    )
    yield worker
    worker.end()


def dialler(folder, authority="ca.pem", name=None, secret=SECRET):
    return Dialler(secret.encode(), ServerTls(authority and folder / authority, name))


async def admitted(dialler, worker):
    """True, or why not."""
    try:
        channel = await dialler.dial(worker, Hello(worker.id, "control"))
    except NotAdmitted as error:
        return str(error)
    channel.abort()
    return True


async def test_the_secret_or_an_authority_says_that_it_is_the_worker(folder, worker):
    assert await admitted(dialler(folder), worker.known) is True
    assert await admitted(dialler(folder, None), worker.known) is True
    # The certificate itself will do: what no authority has issued.
    (folder / "alone.pem").write_bytes(ssl.DER_cert_to_PEM_cert(await shown(worker)).encode())
    assert await admitted(dialler(folder, "alone.pem"), worker.known) is True


async def shown(worker):
    """The certificate that a worker shows now."""
    context = ssl._create_unverified_context()
    _, writer = await asyncio.open_connection(*host_and_port(worker.address), ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()


async def test_what_is_wrong_is_said_with_what_to_do(folder, worker):
    said = await admitted(dialler(folder, "other.pem"), worker.known)
    assert "from no authority in `worker_tls_ca`; add the certificate of its authority" in said
    said = await admitted(dialler(folder, name="workers.example"), worker.known)
    assert "is not for the name 'workers.example'" in said
    assert "`worker_tls_name`" in said
    said = await admitted(dialler(folder, secret="x" * 40), worker.known)
    assert "it may have another secret" in said
    # It has not registered with TLS: what it said was changed, or is old.
    plain = WorkerAddress(worker.known.id, worker.address, 3)
    assert "this server takes no such worker, as `worker_tls_ca` is set" in await admitted(
        dialler(folder), plain
    )


@asynccontextmanager
async def listening(taken, context=None):
    """A port of this test, by its address."""
    writers = []

    async def accepted(reader, writer):
        writers.append(writer)
        await taken(reader, writer)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def silent(reader, writer):
    pass


@asynccontextmanager
async def with_certificate(path):
    """A port that shows a certificate, which no worker program would be given."""
    context, _ = WorkerTls(path, None).get()
    async with listening(silent, context) as address:
        yield WorkerAddress(uuid4(), address, 1, tls=True)


async def test_an_expired_certificate_and_one_that_is_not_valid_yet(folder, tmp_path):
    now = datetime.now(UTC)
    day = timedelta(days=1)
    issue(tmp_path / "old.pem", not_before=now - 2 * day, not_after=now - day)
    async with with_certificate(tmp_path / "old.pem") as known:
        assert "has expired; renew it" in await admitted(dialler(folder), known)
    issue(tmp_path / "new.pem", not_before=now + day, not_after=now + 2 * day)
    async with with_certificate(tmp_path / "new.pem") as known:
        assert "is not valid yet; compare the clocks" in await admitted(dialler(folder), known)


async def test_plaintext_where_tls_is_meant_and_tls_where_plaintext_is(folder, worker):
    async def speak(reader, writer):
        writer.write(b"CBW\x01" + bytes(32))

    async with listening(speak) as address:
        known = WorkerAddress(uuid4(), address, 1, tls=True)
        assert "speaks no TLS, and the worker has registered with it" in await admitted(
            dialler(folder), known
        )
    # A server of before, and anything else that sends no ClientHello: nothing is answered.
    reader, writer = await asyncio.open_connection(*host_and_port(worker.address))
    writer.write(b"CBS\x01" + bytes(200))
    with suppress(ConnectionResetError):
        assert b"CBW" not in await reader.read()
    writer.transport.abort()


async def test_one_in_between_is_found_by_the_secret_alone(folder, worker):
    """It has a certificate of its own, and passes on everything that both ends say."""
    issue(folder / "between.pem", authority=OTHER_AUTHORITY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "between.pem")

    async def between(reader, writer):
        to_worker = await asyncio.open_connection(
            *host_and_port(worker.address), ssl=ssl._create_unverified_context()
        )

        async def copied(source, sink):
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.transport.abort()

        await asyncio.gather(copied(reader, to_worker[1]), copied(to_worker[0], writer))

    async with listening(between, context) as address:
        known = WorkerAddress(worker.known.id, address, 3, tls=True)
        assert "something in between shows its own certificate" in await admitted(
            dialler(folder, None), known
        )


async def test_a_renewed_certificate_and_authority_are_taken_up_while_all_runs(tmp_path):
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    issue(tmp_path / "worker.pem")
    worker = WorkerProgram(
        tmp_path / "worker", browser_build="shell", worker_tls_certificate=tmp_path / "worker.pem"
    )
    try:
        dials = dialler(tmp_path)
        first = await shown(worker)
        assert await admitted(dials, worker.known) is True
        issue(tmp_path / "worker.pem", authority=OTHER_AUTHORITY)
        assert await shown(worker) != first
        assert "from no authority" in await admitted(dials, worker.known)
        OTHER_AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
        assert await admitted(dials, worker.known) is True
        # Half of a file that is being written changes nothing.
        (tmp_path / "worker.pem").write_bytes((tmp_path / "worker.pem").read_bytes()[:300])
        assert await admitted(dials, worker.known) is True
        (tmp_path / "ca.pem").write_text("")
        assert await admitted(dials, worker.known) is True
    finally:
        worker.end()


def test_files_that_are_none_are_said_at_the_start(tmp_path):
    issued = issue(tmp_path / "worker.pem")
    AUTHORITY.issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "other-key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigurationError, match="do not belong together"):
        WorkerTls(tmp_path / "certificate.pem", tmp_path / "other-key.pem")
    for certificate, key in (("certificate.pem", None), ("junk.pem", None), ("absent.pem", None)):
        with pytest.raises(ConfigurationError, match="correct `worker_tls_certificate` and `worker_tls_key`"):
            WorkerTls(tmp_path / certificate, key)
    for name in ("junk.pem", "absent.pem"):
        for made in (ServerTls, AuthorityFile):
            with pytest.raises(ConfigurationError, match="correct `worker_tls_ca`"):
                made(tmp_path / name)
    assert bound(b"secret", None) == b"secret"
    assert bound(b"secret", b"a") != bound(b"secret", b"b")
    assert ServerTls(None).required is False
    environment = clean_environment(
        CDPBRIDGE_WORKER_SECRET=SECRET, CDPBRIDGE_WORKER_TLS_CERTIFICATE=str(tmp_path / "junk.pem")
    )
    command = [sys.executable, "-m", "cdpbridge", "worker", "--server", "http://127.0.0.1:9", "--slots", "1"]
    command += ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path)]
    done = programs.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "correct `worker_tls_certificate`" in done.stderr


@asynccontextmanager
async def relayed(certificate, taken):
    """A connection over a worker's port to what runs `taken` as a browser's debugging port does."""
    worker_id, browser_id = uuid4(), uuid4()
    tls = None if certificate is None else WorkerTls(certificate, None)
    async with listening(taken) as browser:
        entry = SimpleNamespace(upstream=Upstream(*host_and_port(browser), "/"), downloads_reset=None)
        browsers = SimpleNamespace(entry=lambda asked: entry if asked == browser_id else None)
        port = WorkerPort(worker_id, SECRET.encode(), None, browsers, None, obey=lambda rules: None, tls=tls)
        with socket.create_server(("127.0.0.1", 0)) as listens:
            listens.setblocking(False)
            serving = asyncio.create_task(port.serve(listens))
            known = WorkerAddress(worker_id, f"127.0.0.1:{listens.getsockname()[1]}", 1, tls is not None)
            try:
                with pytest.raises(NotAdmitted, match="does not run this browser"):
                    await Dialler(SECRET.encode()).dial(known, Hello(worker_id, "relay", uuid4()))
                hello = Hello(worker_id, "relay", browser_id)
                reader, writer = await Dialler(SECRET.encode()).streams(known, hello)
                yield reader, writer
                writer.transport.abort()
            finally:
                serving.cancel()
                await asyncio.wait({serving})
                await port.close()


@pytest.mark.parametrize("certificate", [None, "worker.pem"], ids=["plain", "tls"])
async def test_one_that_reads_nothing_stops_the_other_and_nothing_is_lost_at_an_end(folder, certificate):
    """64 MB wait at their sender: a worker that kept them in memory would be ended by the kernel, with all its browsers."""
    piece, count, most = b"x" * 2**20, 64, 40
    sent = [0, 0]

    async def sends(writer, which):
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
            sent[which] += 1

    async def counted(reader):
        total = 0
        while data := await reader.read(2**20):
            total += len(data)
        return total

    def stands_still(which):
        """A condition: it has been the same twenty times."""
        seen = [0, 0]

        def looked():
            seen[:] = [sent[which], seen[1] + 1 if seen[0] == sent[which] > 0 else 0]
            return seen[1] >= 20

        return looked

    may_read = asyncio.Event()

    async def browser(reader, writer):
        await sends(writer, 0)
        await may_read.wait()
        found.append(await counted(reader))

    found = []
    async with relayed(folder / certificate if certificate else None, browser) as (reader, writer):
        await until(stands_still(0))
        assert sent[0] < most
        for _ in range(count):
            await reader.readexactly(len(piece))
        sending = asyncio.create_task(sends(writer, 1))
        await until(stands_still(1))
        assert sent[1] < most
        may_read.set()
        await sending
        # What was written before the end arrives.
        writer.close()
        await until(lambda: found)
        assert found == [count * len(piece)]


@pytest.mark.chromium
@pytest.mark.one_build("bytes between server and worker, whichever browser they are of")
async def test_browsers_files_and_large_messages_pass_over_tls(folder, worker, tmp_path):
    """Messages of 24 MB pass both ways: more than any buffer on the way holds."""
    registry, spec = Registry(), BrowserSpec(uuid4())
    tls = ServerTls(folder / "ca.pem")
    async with worker_hosts(tmp_path, MemorySlots(worker), registry=registry, tls=tls) as hosts:
        placement = await Calls().start(hosts, spec)
        assert "200" in await answers(registry.find(placement.token).upstream)
        connection = await hosts.connection(spec.id)
        tab = await connection.new_tab()
        text = "x" * 24_000_000
        answer = await tab.send("Runtime.evaluate", {"expression": f"'{text}'.length"})
        assert answer["result"]["value"] == len(text)
        answer = await tab.send("Runtime.evaluate", {"expression": "'y'.repeat(24e6)"})
        assert len(answer["result"]["value"]) == 24_000_000
        # An upload over a connection of its own.
        (tmp_path / "given").write_bytes(os.urandom(5_000_000))
        await hosts.give_upload(spec.id, tmp_path / "given")
        assert await hosts.stop(spec.id, END, save=False) is not None


@pytest.mark.chromium
@pytest.mark.one_build("what a server and a worker know of each other")
async def test_a_worker_says_when_it_drains_and_when_it_ends(spawn_server, folder, tmp_path):
    """Its certificate is wrong at first: `workers list` says so, and the worker's log, until that is put right on disk."""
    issue(tmp_path / "worker.pem", authority=OTHER_AUTHORITY)
    terms = {"browsers": "workers", "worker_secret": SECRET, "admin_keys": "operator-key-of-this-test"}
    async with spawn_server(worker_tls_ca=folder / "ca.pem", **terms) as server:
        url = str(server.http.base_url).rstrip("/").removesuffix("/api/v2")

        async def listed():
            key = {"X-Browser-Use-API-Key": "operator-key-of-this-test"}
            answer = await server.http.get(f"{url}/admin/v1/workers", headers=key)
            return answer.json()["items"]

        worker = WorkerProgram(
            tmp_path / "worker",
            *("--drain", "600"),
            server=url,
            slots=2,
            browser_build="shell",
            worker_tls_certificate=tmp_path / "worker.pem",
        )
        try:

            async def with_problem():
                return next((each["problem"] for each in await listed() if each["problem"]), None)

            said = await until(with_problem)
            assert "from no authority in `worker_tls_ca`" in said
            assert not (await listed())[0]["accepting"]
            issue(tmp_path / "worker.pem")
            browser = await server.rent()
            [row] = await listed()
            assert (row["accepting"], row["tls"], row["problem"]) == (True, True, None)

            worker.process.terminate()

            async def drains():
                [row] = await listed()
                return row["draining"] and row["running"] == 1

            await until(drains)
            async with connect(browser["cdpUrl"]) as connection:
                await connection.root.send("Browser.getVersion")
            stopped = await server.stop(browser)
            assert stopped["endReason"] == "stopped_by_caller"
            assert await asyncio.to_thread(worker.process.wait, 60) == 0
            assert await listed() == []
        finally:
            worker.end()
