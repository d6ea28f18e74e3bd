"""Attacks on the borders of the server itself: keys, addresses that are guessed, and another project's records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from secrets import token_hex, token_urlsafe
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from cdpbridge._concurrency import in_thread, to_the_end
from cdpbridge.api import AsyncClient, Call, calls
from cdpbridge.browser import open_browser
from cdpbridge.cdp import connect
from cdpbridge.errors import APIError, APIStatusError, CDPError, NotFoundError

from ._ask import get
from ._findings import Verdict, held, through, untried
from ._page import SECONDS
from ._scene import Attack, Scene, Server

__all__ = ["Victim", "no_victim", "project_attacks", "stopped_attack", "victim", "victim_attacks"]

# Each would name a file of the server if a part of it took paths as they come.
_PATHS: Final = (
    "/../../../../etc/passwd",
    "/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/console/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/../../../../etc/passwd",
    "/files/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/api/v2/files/..%2f..%2fsigning.key",
    "//etc/passwd",
    "/live/..%2f..%2flive-key",
)
_FILE_MARKS: Final = (b"root:x:0", b"root:*:0", b"SQLite format 3")
_OPEN_WITHOUT_KEY: Final = ("/browsers", "/profiles", "/sessions", "/tasks", "/billing/account")
_ADMIN: Final = ("/admin/v1/keys", "/admin/v1/projects")
_UPLOAD: Final[dict[str, Any]] = {
    "file_name": "../../attack.txt",
    "content_type": "text/plain",
    "size_bytes": 1,
}


def project_attacks(scene: Scene) -> Iterator[Attack]:
    """Yield the attacks that need no second key."""
    yield Attack(
        "projects", "the API without a key and with a made-up one", partial(_without_key, scene.server)
    )
    yield Attack("projects", "the operator's API with this key", partial(_admin, scene))
    yield Attack("projects", "files of the server by its own paths", partial(_paths, scene.server))
    yield Attack("projects", "an upload whose name leads elsewhere", partial(_upload_name, scene))
    yield Attack("projects", "cdpUrl: guesses near one's own", partial(_guesses, scene))


class Victim(NamedTuple):
    """What another project has: a browser and a profile."""

    browser: str
    profile: str


@asynccontextmanager
async def victim(client: AsyncClient) -> AsyncIterator[Victim]:
    """Make what is attacked, for a block."""
    profile = await client.profiles.create(name=f"attack-{token_hex(4)}")
    try:
        async with open_browser(client, reap=False) as browser:
            yield Victim(str(browser.id), str(profile.id))
    finally:
        await to_the_end(client.profiles.delete(profile.id))


def victim_attacks(scene: Scene, other: AsyncClient, theirs: Victim) -> Iterator[Attack]:
    """Yield the attacks on what another project has."""
    browser, profile = theirs
    table: tuple[tuple[str, Call[Any]], ...] = (
        ("read its browser", calls.get_browser(browser)),
        ("stop its browser", calls.stop_browser(browser)),
        ("list its downloads", calls.list_downloads(browser)),
        ("read its recording", calls.get_recording(browser)),
        (
            "upload to its browser",
            calls.create_browser_upload(browser, **(_UPLOAD | {"file_name": "attack.txt"})),
        ),
        ("remove its files", Call("DELETE", f"/browsers/{browser}/files", None)),
        ("read its profile", calls.get_profile(profile)),
        ("rename its profile", calls.update_profile(profile, name="attacked")),
        ("rent with its profile", calls.create_browser(profile_id=profile)),
        ("open a session with its profile", calls.create_session(profile_id=profile)),
        ("read a session of its browser's id", calls.get_session(browser)),
        ("read a task of its browser's id", calls.get_task(browser)),
    )
    for name, call in table:
        yield Attack("projects", f"another project: {name}", partial(_foreign, scene, call))
    yield Attack("projects", "another project: delete its profile", partial(_delete, scene, other, profile))
    yield Attack("projects", "another project: find its browser in a list", partial(_listed, scene, browser))
    yield Attack("projects", "another project: its browser still runs", partial(_runs, other, browser))


def no_victim(why: str) -> Attack:
    """Return the entry of the table in place of `victim_attacks`."""

    async def work() -> Verdict:
        return untried(why)

    return Attack("projects", "another project's browsers, profiles, files, sessions", work)


def stopped_attack(cdp_url: str) -> Attack:
    """Return the attack with the address of a browser that was stopped."""

    async def work() -> Verdict:
        return through("it is still connected to") if await _connects(cdp_url) else held("it is refused")

    return Attack("projects", "cdpUrl of a browser that was stopped", work)


async def _foreign(scene: Scene, call: Call[Any]) -> Verdict:
    try:
        answer = await scene.client.send_raw(call)
    except NotFoundError:
        return held("404")
    except APIStatusError as error:
        # Not one of ours, or not for this plan; it has done nothing.
        return held(str(error.status))
    except APIError as error:
        return untried(str(error))
    with suppress(AttributeError, APIError):
        if call.path == "/browsers":  # it was made for us, and is stopped
            await scene.client.browsers.stop(answer.parsed.id)
        elif call.path == "/sessions":
            await scene.client.sessions.delete(answer.parsed.id)
    return through(f"answered with {answer.status}")


async def _delete(scene: Scene, other: AsyncClient, profile: str) -> Verdict:
    with suppress(APIStatusError):  # 204 for an unknown one, by the reference
        await scene.client.profiles.delete(profile)
    try:
        await other.profiles.get(profile)
    except NotFoundError:
        return through("it was deleted")
    return held("it is still there")


async def _listed(scene: Scene, browser: str) -> Verdict:
    page = await scene.client.send(calls.list_browsers(page_size=100))
    found = any(str(each.id) == browser for each in page.items)
    return through("it is in the list") if found else held("it is not in the list")


async def _runs(other: AsyncClient, browser: str) -> Verdict:
    state = (await other.browsers.get(browser)).status
    return held("it does") if str(state) == "active" else through(f"it is {state}")


# --- without another project ------------------------------------------------------------------------------------------


async def _without_key(server: Server) -> Verdict:
    base = urlsplit(server.base_url).path.rstrip("/")
    for key in ("", f"bu_{token_urlsafe(24)}"):
        for path in _OPEN_WITHOUT_KEY:
            headers = {"X-Browser-Use-API-Key": key} if key else {}
            status, _ = await in_thread(get, server.origin, base + path, headers)
            if status < 400:
                return through(f"{path} answers with {status}")
    return held("refused")


async def _admin(scene: Scene) -> Verdict:
    headers = {"X-Browser-Use-API-Key": scene.client.address()["api_key"]}
    for path in _ADMIN:
        status, _ = await in_thread(get, scene.server.origin, path, headers)
        if status < 400:
            return untried(
                f"{path} answers with {status}: this is a key of the operator; take one of a customer"
            )
    return held("refused")


async def _paths(server: Server) -> Verdict:
    for path in _PATHS:
        status, body = await in_thread(get, server.origin, path, {})
        a_key = status == 200 and path.endswith("key") and not body.lstrip().startswith((b"<", b"{"))
        if a_key or any(mark in body for mark in _FILE_MARKS):
            return through(f"{path} answers with {status} and a file")
    return held(f"{len(_PATHS)} spellings, no file")


async def _upload_name(scene: Scene) -> Verdict:
    browser = scene.attacker.browser.id
    try:
        form = await scene.client.send(calls.create_browser_upload(browser, **_UPLOAD))
    except APIStatusError as error:
        return held(f"refused with {error.status}")
    path = str((form.model_extra or {}).get("path") or form.file_name)
    return (
        through(f"it becomes {path}")
        if ".." in path.split("/")
        else held(f"it becomes {path.rpartition('/')[2]}")
    )


async def _guesses(scene: Scene) -> Verdict:
    """Change one's own address a little, as far as that tells what makes it valid."""
    url = scene.attacker.browser.cdp_url
    parts = urlsplit(url)
    head, _, token = parts.path.rstrip("/").rpartition("/")
    if not head or not token:
        return untried("the address has no path of its own")
    other = "A" if token[-1] != "A" else "B"
    guesses = [
        str(scene.attacker.browser.id),
        token[:-1],
        token[:-1] + other,
        token.swapcase(),
        token + "A",
        "",
        "*",
        "%00",
        token_urlsafe(32),
    ]
    if (live := scene.attacker.browser.live_url) is not None:
        guesses.append(urlsplit(live).path.rstrip("/").rpartition("/")[2])
    for guess in guesses:
        if guess != token and await _connects(parts._replace(path=f"{head}/{guess}").geturl()):
            return through("an address that differs from the own one is connected to")
    return held(f"{len(guesses)} refused")


async def _connects(address: str) -> bool:
    try:
        async with connect(address, timeout=SECONDS):
            return True
    except CDPError:
        return False
