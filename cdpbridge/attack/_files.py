"""Attacks on files: of the server's machine, of the server, of another browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Final
from urllib.parse import quote

from cdpbridge._concurrency import in_thread
from cdpbridge.cdp import Connection

from ._findings import Verdict, held, through, untried
from ._page import chosen, downloaded, evaluate, loaded_resource, opened, opened_in, tab
from ._scene import Attack, Scene
from ._targets import MACHINE_FILES, data_files, judge_read

__all__ = ["file_attacks"]

_MARK: Final = "cdpbridge-attack"
# No such file is there, and none is executed where it would be: a harmless line in a folder that others use.
_FOREIGN_FOLDERS: Final = ("/var/tmp", "/tmp", "/dev/shm", "/usr/local/lib", "/etc")  # noqa: S108  # of the server's machine
_FRAME: Final = """new Promise(done => {
  const frame = Object.assign(document.createElement('iframe'), {src: URL});
  frame.onload = () => { try { done(frame.contentDocument.documentElement.innerText.length); } catch { done(0); } };
  document.body.append(frame);
  setTimeout(() => done(0), 2000);
})"""
_FETCH: Final = "fetch(URL).then(r => r.text()).then(t => t.length, () => 0)"
_XHR: Final = """new Promise(done => {
  const request = new XMLHttpRequest();
  request.onload = () => done(request.responseText.length);
  request.onerror = () => done(0);
  request.open('GET', URL); request.send();
})"""


def file_attacks(scene: Scene) -> Iterator[Attack]:
    """Yield the attacks, in their order."""
    for path in MACHINE_FILES:
        yield Attack("files", f"read {path}", partial(_read, scene.attacker.connection, path))
    for path in data_files(scene.paths, scene.attacker.profile):
        yield Attack("files", f"read {path} (server)", partial(_read, scene.attacker.connection, path))
    yield Attack("files", "read files of another browser", partial(_read_neighbour, scene))
    yield Attack("files", "list the folder of all browsers", partial(_list_browsers, scene))
    yield Attack(
        "files", "read /etc/passwd from a page: fetch, XMLHttpRequest, frame", partial(_read_by_script, scene)
    )
    yield Attack("files", "read /etc/passwd by a link among its own files", partial(_read_traversal, scene))
    own = [
        str(PurePosixPath(each.folder)) for each in (scene.attacker, scene.neighbour) if each and each.folder
    ]
    beside = [scene.neighbour.downloads] if scene.neighbour and scene.neighbour.downloads else []
    for folder in (*_FOREIGN_FOLDERS, *scene.paths, *beside, *own):
        for domain in ("Browser", "Page"):
            name = f"{domain}.setDownloadBehavior to {folder}"
            yield Attack("files", name, partial(_write, scene, folder, domain), alone=True)
    yield Attack("files", "a download called ../../x", partial(_write_traversal, scene), alone=True)


async def _read(connection: Connection, path: str) -> Verdict:
    url = f"file://{quote(path)}"
    async with tab(connection) as session:
        answers = [
            ("DOM.setFileInputFiles", *await chosen(session, path)),
            ("Network.loadNetworkResource", *await loaded_resource(session, url)),
        ]
        for way, address in (("file:", url), ("view-source:", f"view-source:{url}")):
            answer = await opened_in(session, address)
            answers.append((way, answer.error, len(answer.text.strip())))
    return judge_read(answers)


async def _read_neighbour(scene: Scene) -> Verdict:
    neighbour = scene.neighbour
    if neighbour is None or not neighbour.profile:
        return untried(scene.no_neighbour or "where it lives is not known")
    # There while it runs, in both builds.
    paths = [f"{neighbour.profile}/{name}" for name in ("DevToolsActivePort", "Local State")]
    for path in paths:
        verdict = await _read(scene.attacker.connection, path)
        if verdict.outcome != "held":
            return verdict
    return verdict


async def _list_browsers(scene: Scene) -> Verdict:
    neighbour = scene.neighbour
    if neighbour is None or not neighbour.folder:
        return untried(scene.no_neighbour or "where it lives is not known")
    place = PurePosixPath(neighbour.folder)
    answer = await opened(scene.attacker.connection, f"file://{quote(str(place.parent))}/")
    if place.name in answer.text:
        return through("the other browser's folder is in the list")
    return held(answer.error or "it lists no other browser")


async def _read_by_script(scene: Scene) -> Verdict:
    own = scene.attacker.profile
    async with tab(scene.attacker.connection) as session:
        for page in (f"file://{quote(own)}/" if own else "about:blank", "data:text/html,<body>"):
            await session.send("Page.navigate", {"url": page})
            for name, script in (("fetch", _FETCH), ("XMLHttpRequest", _XHR), ("frame", _FRAME)):
                with suppress(ValueError, TimeoutError):
                    if await evaluate(session, script.replace("URL", "'file:///etc/passwd'")):
                        return through(f"{name} of {page.partition(':')[0]}: it was read")
    return held("nothing was read")


async def _read_traversal(scene: Scene) -> Verdict:
    if not scene.attacker.profile:
        return untried("where the browser lives is not known")
    up = "..%2f" * 20
    return judge_read(
        [
            (way, answer.error, len(answer.text.strip()))
            for way in (f"file://{quote(scene.attacker.profile)}/{up}etc/passwd", "file://localhost/etc/passwd",
                        "file:/etc/passwd", "file:///etc/./passwd", "filesystem:file:///etc/passwd")
            for answer in [await opened(scene.attacker.connection, way)]
        ]
    )  # fmt: skip


async def _write(scene: Scene, folder: str, domain: str) -> Verdict:
    name = f"{_MARK}-{token_hex(6)}.txt"
    path = str(PurePosixPath(folder) / name)
    try:
        how = await downloaded(scene.attacker.connection, folder, name, by=domain)
    except TimeoutError:
        how = "no end in time"
    if scene.server.here and await in_thread(_removed, Path(path)):
        return through(f"{how}: the file stood there (and was removed)")
    if scene.neighbour is not None:
        answer = await opened(scene.neighbour.connection, f"file://{quote(path)}")
        if answer.text.strip():
            return through(f"{how}: another browser reads the file")
    if how == "completed" and not scene.server.here:
        return untried(
            "it was written, perhaps in a folder of the browser's own; that cannot be seen from here"
        )
    return held(how if how != "completed" else "written in a folder of the browser's own, which goes with it")


async def _write_traversal(scene: Scene) -> Verdict:
    own = scene.attacker.downloads
    if not own:
        return untried("the folder of downloads is not known")
    name = f"{_MARK}-{token_hex(6)}.txt"
    up = "../" * 12
    how = await downloaded(scene.attacker.connection, own, f"{up}var/tmp/{name}")
    for folder in (PurePosixPath("/var/tmp"), PurePosixPath(own).parent):  # noqa: S108  # of the server's machine
        if scene.server.here and await in_thread(_removed, Path(folder / name)):
            return through(f"it stood in {folder} (and was removed)")
        if (await opened(scene.attacker.connection, f"file://{quote(str(folder / name))}")).text:
            return through(f"it stands in {folder}")
    return held(f"{how}, under a harmless name")


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
