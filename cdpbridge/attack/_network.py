"""Attacks over the network: private addresses, the server's own ports, other browsers, ways around the forwarder."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from cdpbridge._concurrency import to_the_end
from cdpbridge.api import CustomProxy
from cdpbridge.cdp import CDPSession, Connection, connect
from cdpbridge.errors import APIError, CDPError, CommandError, UnprocessableEntityError

from ._canary import Canary
from ._findings import Verdict, held, through, untried
from ._page import SECONDS, evaluate, opened, opened_in, tab
from ._scene import Attack, Scene
from ._targets import (
    PRIVATE_HOSTS,
    PRIVATE_NAMES,
    Answer,
    judge_private_host,
    judge_service,
    loopback_hosts,
    url_host,
)

__all__ = ["list_attacks", "network_attacks"]

_SERVER_MARKS: Final = ('"status":"ok"', '{"detail"')
_BROWSER_MARKS: Final = ("webSocketDebuggerUrl", "Protocol-Version")
_NO_CANARY: Final = (
    "only a listener on the server's machine could notice it, and the server is on another one"
)
_LATE_SECONDS: Final = 2.0  # for a request that no page waits for
# A page that no network is needed for, with the rights of a secure origin.
_PAGE: Final = "https://attack.invalid/"
_LONGEST_LOOKED_AT: Final = 16 * 1024  # of the gateway, see docs/security.md

# Each makes one request to URL or WS, and answers without waiting for what comes of it.
_BLIND: Final = {
    "fetch without CORS": "fetch(URL, {mode: 'no-cors'}).catch(() => 0)",
    "an image": "new Image().src = URL",
    "a frame": "document.body.append(Object.assign(document.createElement('iframe'), {src: URL}))",
    "a script": "document.body.append(Object.assign(document.createElement('script'), {src: URL}))",
    "a beacon": "navigator.sendBeacon(URL, 'x')",
    "prefetch": "document.head.append(Object.assign(document.createElement('link'), {rel: 'prefetch', href: URL}))",
    "a ping of a link": "Object.assign(document.createElement('a'), {href: '#', ping: URL}).click()",
    "an EventSource": "new EventSource(URL)",
    "a WebSocket": "new WebSocket(WS)",
    "a form": "(() => { const frame = Object.assign(document.createElement('iframe'), {name: 'f'}); const form = "
    "Object.assign(document.createElement('form'), {action: URL, method: 'post', target: 'f'}); "
    "document.body.append(frame, form); form.submit(); })()",
    "a worker": "new Worker(URL_OF(`fetch('${URL}', {mode: 'no-cors'})`))",
    "a shared worker": "new SharedWorker(URL_OF(`fetch('${URL}', {mode: 'no-cors'})`))",
    "a background request (fetch keepalive)": "fetch(URL, {mode: 'no-cors', keepalive: true}).catch(() => 0)",
    "a media element": "document.body.append(Object.assign(document.createElement('video'), {src: URL, preload: 'auto'}))",
    "a style sheet's import": "document.head.append(Object.assign(document.createElement('style'), "
    "{textContent: `@import url(${URL})`}))",
    "a font": "new FontFace('x', `url(${URL})`).load().catch(() => 0)",
}
_HELPERS: Final = (
    "const URL_OF = text => window.URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));"
)
_SERVICE_WORKER: Final = (
    "navigator.serviceWorker.register('/worker.js').then(() => 'registered', e => e.message)"
)
_WEBRTC: Final = """new Promise(async done => {
  const one = new RTCPeerConnection({iceServers: URLS.map(urls => ({urls, username: 'x', credential: 'x'}))});
  one.createDataChannel('x');
  one.onicegatheringstatechange = () => one.iceGatheringState === 'complete' && done(1);
  await one.setLocalDescription(await one.createOffer());
  setTimeout(() => done(0), 3000);
})"""
_WEBTRANSPORT: Final = "new WebTransport(URL).ready.then(() => 1, () => 0)"


class _Way(NamedTuple):
    """A page of the attacker whose requests may go another way than the browser's own."""

    name: str
    enter: Callable[[Connection], Awaitable[str]]


def network_attacks(scene: Scene) -> Iterator[Attack]:
    """Yield the attacks on a browser without lists of hosts, in their order."""
    attacker = scene.attacker.connection
    hosts = loopback_hosts(scene.server.addresses)
    for host in hosts:
        yield Attack(
            "network", f"the server's own port at {host}", partial(_own_ports, scene, attacker, host)
        )
    for host in hosts:
        yield Attack(
            "network", f"another browser's port at {host}", partial(_neighbour_port, scene, attacker, host)
        )
    if scene.canary is not None:
        for host in hosts:
            yield Attack(
                "network", f"a service of the machine at {host}", partial(_service, scene, scene.canary, host)
            )
    for host in PRIVATE_HOSTS:
        yield Attack("network", f"the private address {host}", partial(_private, scene, host))
    for host in PRIVATE_NAMES:
        yield Attack("network", f"the name {host}", partial(_private, scene, host))
    yield Attack("network", "a redirect to the server's own port", partial(_redirect, scene))
    for way in _WAYS:
        yield Attack("network", f"the server's own port, {way.name}", partial(_around, scene, way))
    yield Attack("network", "UDP to the machine by WebRTC (STUN and TURN)", partial(_udp, scene), alone=True)
    yield Attack("network", "UDP to the machine by WebTransport", partial(_web_transport, scene), alone=True)
    for name, script in _BLIND.items():
        yield Attack(
            "network", f"a service of the machine by {name}", partial(_blind, scene, script, lists=False)
        )
    yield Attack(
        "network",
        "a service of the machine by a service worker",
        partial(_service_worker, scene, lists=False),
    )
    yield Attack(
        "network", "a proxy of one's own on the machine (customProxy)", partial(_custom_proxy, scene)
    )


def list_attacks(scene: Scene) -> Iterator[Attack]:
    """Yield the attacks of a browser that may reach no host at all."""
    attacker = scene.attacker.connection
    if scene.canary is not None:
        canary = scene.canary
        for host in ("127.0.0.1", "localhost"):
            name = f"past allowedHosts: a page at {host}"
            yield Attack("network", name, partial(_listed, canary, attacker, host))
        for name, script in _BLIND.items():
            yield Attack("network", f"past allowedHosts: {name}", partial(_blind, scene, script, lists=True))
        yield Attack(
            "network", "past allowedHosts: a service worker", partial(_service_worker, scene, lists=True)
        )
        for way in _WAYS:
            yield Attack(
                "network", f"past allowedHosts: {way.name}", partial(_listed_around, canary, attacker, way)
            )
    else:
        yield Attack("network", "past allowedHosts", _without_canary)


async def _without_canary() -> Verdict:
    return untried(_NO_CANARY)


# --- pages ------------------------------------------------------------------------------------------------------------


async def _own_ports(scene: Scene, connection: Connection, host: str, context: str | None = None) -> Verdict:
    verdict = held("nothing answered")
    for port in scene.server.ports:
        answer = await opened(connection, f"http://{host}:{port}/healthz", context)
        verdict = judge_service(answer, _SERVER_MARKS)
        if verdict.outcome == "through":
            break
    return verdict


async def _neighbour_port(scene: Scene, connection: Connection, host: str) -> Verdict:
    if scene.neighbour is None or not scene.neighbour.port:
        return untried(scene.no_neighbour or "its port is not known")
    answer = await opened(connection, f"http://{host}:{scene.neighbour.port}/json/version")
    return judge_service(answer, _BROWSER_MARKS)


async def _service(scene: Scene, canary: Canary, host: str) -> Verdict:
    word = canary.new_word()
    answer = await opened(scene.attacker.connection, f"http://{host}:{canary.port}/{word}")
    if canary.heard(word):
        return scene.private_reached("it was reached")
    return held("the forwarder has refused it" if answer.refused else answer.error or "it was not reached")


async def _private(scene: Scene, host: str) -> Verdict:
    try:
        answer: Answer | None = await opened(scene.attacker.connection, f"http://{host}/")
    except TimeoutError:
        answer = None
    verdict = judge_private_host(answer)
    return scene.private_reached(verdict.detail) if verdict.outcome == "through" else verdict


async def _redirect(scene: Scene) -> Verdict:
    """Answer a page's own request with a redirect: the browser follows it by itself."""
    target = f"http://127.0.0.1:{scene.server.ports[0]}/healthz"
    async with _standing_page(scene.attacker.connection, redirect=target) as session:
        answer = await opened_in(session, f"{_PAGE}redirect")
    return judge_service(answer, _SERVER_MARKS)


@asynccontextmanager
async def _standing_page(
    connection: Connection, *, script: str = "", redirect: str = ""
) -> AsyncIterator[CDPSession]:
    """Open a page of a secure origin, whose requests to that origin are answered here."""

    async def answer(event: Mapping[str, Any]) -> None:
        name = str(event["request"]["url"]).removeprefix(_PAGE)
        kind, body = ("text/javascript", script) if name == "worker.js" else ("text/html", "<body>attack")
        code, head = 200, {"name": "Content-Type", "value": kind}
        if name == "redirect":
            code, head = 302, {"name": "Location", "value": redirect}
        encoded = base64.b64encode(body.encode()).decode()
        given = {
            "requestId": event["requestId"],
            "responseCode": code,
            "responseHeaders": [head],
            "body": encoded,
        }
        with suppress(CDPError):  # the page has closed
            await session.send("Fetch.fulfillRequest", given)

    async with tab(connection) as session:
        session.on("Fetch.requestPaused", answer)
        await session.send("Fetch.enable", {"patterns": [{"urlPattern": f"{_PAGE}*"}]})
        await opened_in(session, _PAGE)
        yield session


async def _blind(scene: Scene, script: str, *, lists: bool) -> Verdict:
    if scene.canary is None:
        return untried(_NO_CANARY)
    word = scene.canary.new_word()
    address = f"127.0.0.1:{scene.canary.port}/{word}"
    names = f"const URL = {json.dumps(f'http://{address}')}, WS = {json.dumps(f'ws://{address}')};"
    async with _standing_page(scene.attacker.connection) as session:
        with suppress(ValueError):  # it is not allowed to the page
            await evaluate(session, f"(() => {{ {names} {_HELPERS} {script}; }})()", by_user=True)
        if await scene.canary.hears(word, _LATE_SECONDS):
            return through("it was reached") if lists else scene.private_reached("it was reached")
    return held("nothing came")


async def _service_worker(scene: Scene, *, lists: bool) -> Verdict:
    if scene.canary is None:
        return untried(_NO_CANARY)
    word = scene.canary.new_word()
    script = f"fetch('http://127.0.0.1:{scene.canary.port}/{word}', {{mode: 'no-cors'}})"
    async with _standing_page(scene.attacker.connection, script=script) as session:
        said = await evaluate(session, _SERVICE_WORKER)
        if await scene.canary.hears(word, _LATE_SECONDS):
            return through("it was reached") if lists else scene.private_reached("it was reached")
    return (
        held("nothing came")
        if said == "registered"
        else untried(f"no service worker could be registered: {said}")
    )


# --- around the forwarder ---------------------------------------------------------------------------------------------


async def _around(scene: Scene, way: _Way) -> Verdict:
    try:
        context = await way.enter(scene.attacker.connection)
    except CommandError as error:
        return held(error.message)
    return await _own_ports(scene, scene.attacker.connection, "127.0.0.1", context)


async def _listed_around(canary: Canary, connection: Connection, way: _Way) -> Verdict:
    try:
        context = await way.enter(connection)
    except CommandError as error:
        return held(error.message)
    return await _listed(canary, connection, "127.0.0.1", context)


async def _listed(canary: Canary, connection: Connection, host: str, context: str | None = None) -> Verdict:
    word = canary.new_word()
    answer = await opened(connection, f"http://{host}:{canary.port}/{word}", context)
    if canary.heard(word):
        return through("it was reached")
    return held("the forwarder has refused it" if answer.refused else answer.error or "it was not reached")


async def _plain(connection: Connection) -> str:
    return await _context(connection, {"proxyServer": "direct://"})


async def _bypassed(connection: Connection) -> str:
    return await _context(
        connection, {"proxyServer": "http://proxy.attack.invalid:1", "proxyBypassList": "*"}
    )


async def _long(connection: Connection) -> str:
    padding = ",".join(["attack.invalid"] * (_LONGEST_LOOKED_AT // 10))
    return await _context(connection, {"proxyServer": "direct://", "proxyBypassList": padding})


async def _context(connection: Connection, params: dict[str, str]) -> str:
    return str((await connection.root.send("Target.createBrowserContext", params))["browserContextId"])


async def _exposed(connection: Connection) -> str:
    """From a page that is given the protocol: its commands do not pass the gateway."""
    return await _from_page(connection, "Target.createBrowserContext")


async def _from_page(connection: Connection, method: str) -> str:
    command = json.dumps({"id": 1, "method": method, "params": {"proxyServer": "direct://"}})
    script = f"""new Promise(done => {{
      window.cdp.onmessage = text => {{ const m = JSON.parse(text); m.id === 1 && done(m); }};
      window.cdp.send({json.dumps(command)});
    }})"""
    async with tab(connection) as session:
        await opened_in(session, "data:text/html,<body>attack")
        asked = {"targetId": session.target_id, "bindingName": "cdp"}
        await connection.root.send("Target.exposeDevToolsProtocol", asked)
        reply = await evaluate(session, script)
    if "error" in reply:
        raise CommandError(method, reply["error"]["code"], reply["error"]["message"])
    return str(reply["result"]["browserContextId"])


_WAYS: Final = (
    _Way("in a context with direct://", _plain),
    _Way("in a context whose proxy is bypassed for all hosts", _bypassed),
    _Way("in a context with direct://, by a long command", _long),
    _Way("in a context with direct://, made by a page (Target.exposeDevToolsProtocol)", _exposed),
)


# --- UDP, proxies -----------------------------------------------------------------------------------------------------


async def _udp(scene: Scene) -> Verdict:
    canary = scene.canary
    if canary is None:
        return untried(_NO_CANARY)
    before = canary.datagrams
    hosts = ["127.0.0.1", *map(url_host, scene.server.addresses)]
    urls = [f"{kind}:{host}:{canary.udp_port}" for host in hosts for kind in ("stun", "turn")]
    async with tab(scene.attacker.connection) as session:
        await opened_in(session, "data:text/html,<body>attack")
        await evaluate(session, _WEBRTC.replace("URLS", json.dumps(urls)))
    return scene.private_reached("packets came") if canary.datagrams > before else held("no packet came")


async def _web_transport(scene: Scene) -> Verdict:
    canary = scene.canary
    if canary is None:
        return untried(_NO_CANARY)
    before = canary.datagrams
    async with _standing_page(scene.attacker.connection) as session:
        with suppress(ValueError, TimeoutError):
            url = json.dumps(f"https://127.0.0.1:{canary.udp_port}/")
            await evaluate(session, _WEBTRANSPORT.replace("URL", url))
    return scene.private_reached("packets came") if canary.datagrams > before else held("no packet came")


async def _custom_proxy(scene: Scene) -> Verdict:
    # To its end: the browser that it rents is stopped.
    return await to_the_end(_try_proxy(scene))


async def _try_proxy(scene: Scene) -> Verdict:
    canary = scene.canary
    host, port = ("169.254.169.254", 80) if canary is None else ("127.0.0.1", canary.port)
    proxy = CustomProxy(host=host, port=port)
    try:
        made = await scene.client.browsers.create(custom_proxy=proxy, timeout=timedelta(minutes=2))
    except UnprocessableEntityError:
        return held("such a browser is refused (422)")
    except APIError as error:
        return untried(f"no browser: {error}")
    try:
        if canary is None or made.cdp_url is None:
            return untried("it was taken; whether it is connected to cannot be seen from here")
        word = canary.new_word()
        async with asyncio.timeout(3 * SECONDS), connect(made.cdp_url) as connection:
            answer = await opened(connection, f"http://192.0.2.1/{word}")
        if canary.heard(word):
            return scene.private_reached("the server connects to it")
        return held(
            "the forwarder has refused it" if answer.refused else answer.error or "it is not connected to"
        )
    finally:
        await scene.client.browsers.stop(made.id)
