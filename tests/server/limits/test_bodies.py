"""Fault D11: bodies without end on every route, on a real server."""

import asyncio
import json
import re

import pytest

pytestmark = [
    pytest.mark.one_build("limits of the server's own port"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

MIB = 2**20
KEY = "key-of-tests"
CHUNK = b"10000\r\n" + b"a" * 65_536 + b"\r\n"


async def flood(peer, piece, most):
    sent = 0
    while sent < most and await peer.send(piece):
        sent += len(piece)
    return sent


def statuses_of(answers):
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)


async def routes(target):
    """Method and path of everything that the server answers, with made-up ids."""
    document = (await target.server.http.get(f"{target.root}/openapi.json")).json()
    found = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    found += [
        ("POST", "/console/sign-in"),
        ("POST", "/console/sign-out"),
        ("GET", "/console/events"),
        ("GET", "/"),
        ("GET", "/console/static/app.js"),
        ("POST", "/files"),
        ("GET", "/files/x"),
        ("GET", "/cdp/x/json/version"),
        ("PUT", "/cdp/x/json/new"),
        ("GET", "/live/x"),
        ("POST", "/live/socket"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("POST", "/nothing"),
    ]
    return [
        (method, re.sub(r"\{[^}]*\}", "4f0e9b0e-7d0b-4c57-9d3c-3a1f5d3b7c11", path)) for method, path in found
    ]


@pytest.mark.parametrize("keyed", [False, True])
async def test_fault_d11_bodies_without_end_on_every_route(spawn_server, attack, keyed):
    async with spawn_server() as server:
        target = attack(server)
        own = [f"X-Browser-Use-API-Key: {KEY}"] if keyed else []
        before = target.rss()

        async def strike(method, path, length):
            fields = [*own, "Content-Type: application/json"]
            fields.append(f"Content-Length: {length}" if length else "Transfer-Encoding: chunked")
            peer = await target.connect(target.head(f"{method} {path}", *fields))
            first = b'{"key": "' if length else b'9\r\n{"key": "\r\n'
            await peer.send(first)
            flooding = asyncio.create_task(flood(peer, b"a" * 65_536 if length else CHUNK, 32 * MIB))
            answer = await peer.answer(60)
            assert await flooding < 32 * MIB, (method, path)
            statuses = statuses_of(answer)
            assert len(statuses) <= 1
            assert not statuses or 200 <= int(statuses[0]) < 500, (method, path, answer[:200])
            return int(statuses[0]) if statuses else None

        seen = {}
        for method, path in await routes(target):
            for length in (0, 400 * MIB):
                status = await strike(method, path, length)
                seen.setdefault((method, path), []).append(status)
        # The end of a connection that still sends may overtake the answer: ask again until it is read.
        for method, path in (("POST", "/console/sign-in"), ("POST", "/api/v2/profiles")):
            while 413 not in seen[method, path]:
                seen[method, path].append(await strike(method, path, 0))
        assert target.rss() - before < 48
        assert 413 in seen["POST", "/console/sign-in"]
        assert 413 in seen["POST", "/api/v2/profiles"]
        assert (await server.http.get("/profiles")).json()["totalItems"] == 0
        assert await target.serves()
        _, errors = await server.end()
        assert "Traceback" not in errors
        # One a minute, not one a request.
        assert errors.count("Invalid HTTP request") < len(seen)


async def test_fault_d11_the_limit_is_exact_and_says_what_it_is(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        root = f"{target.root}/console/sign-in"
        body = json.dumps({"key": KEY}).encode()
        whole = body[:-1] + b" " * (4096 - len(body)) + b"}"
        headers = {"Content-Type": "application/json"}
        assert (await server.http.post(root, content=whole, headers=headers)).status_code == 200
        refused = await server.http.post(root, content=whole + b" ", headers=headers)
        assert (refused.status_code, refused.json()) == (413, {"detail": "the body has more than 4096 bytes"})

        async def chunks():
            for at in range(0, 4097, 100):
                yield (whole + b" ")[at : at + 100]

        refused = await server.http.post(root, content=chunks(), headers=headers)
        assert (refused.status_code, refused.json()) == (413, {"detail": "the body has more than 4096 bytes"})
        # The API takes what its fields allow.
        large = {"name": "a" * 90, "userId": "x" * 900_000}
        assert (await server.http.post("/profiles", json=large)).status_code in {201, 422}
        large["userId"] = "x" * 1_100_000
        assert (await server.http.post("/profiles", json=large)).status_code == 413
        # A short body that was not looked at does not cost the connection.
        peer = await target.connect(target.head("POST /api/v2/browsers", "Content-Length: 30000"))
        assert await peer.status() == 401
        await peer.send(b"a" * 30_000 + target.head("GET /healthz", "Connection: close"))
        assert b"HTTP/1.1 200 " in await peer.answer()
        # Nor does a peer that asks first send it at all.
        head = target.head("POST /console/sign-in", "Content-Length: 400000000", "Expect: 100-continue")
        peer = await target.connect(head)
        assert await peer.status() == 413


async def test_an_upload_is_held_to_its_signed_size_and_to_few_fields_before(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        boundary = "b" * 16
        form = f'--{boundary}\r\nContent-Disposition: form-data; name="x"\r\n\r\n'.encode()
        kind = f"Content-Type: multipart/form-data; boundary={boundary}"
        before = target.rss()
        for first in (form, b"--" + boundary.encode() + b"\r\nX: ", b""):
            peer = await target.connect(target.head("POST /files", kind, "Transfer-Encoding: chunked"))
            await peer.send(b"%x\r\n%s\r\n" % (len(first), first) if first else b"")
            flooding = asyncio.create_task(flood(peer, CHUNK, 32 * MIB))
            answer = await peer.answer(60)
            assert await flooding < 32 * MIB
            assert statuses_of(answer) in ([], [b"400"], [b"413"])
        assert target.rss() - before < 24
        browser = await server.rent()
        content = b"1;2\n" * 500_000  # larger than the limit of other bodies
        body = {"fileName": "a.csv", "contentType": "text/csv", "sizeBytes": len(content)}
        signed = (await server.http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)).json()
        sent = await server.http.post(signed["url"], data=signed["fields"], files={"file": content})
        assert sent.status_code == 204
        await server.stop(browser)
