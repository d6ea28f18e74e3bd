"""Profiles in object storage: the row decides which version counts, and the machine has what was used last."""

import asyncio
import io
import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from cdpbridge.server._sweep import Sweep
from cdpbridge.server.hosts import Placement, SavedState, StopReport, saved_before
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.profiles import (
    Archives,
    ProfileNotRestored,
    ProfileStore,
    ProfileTooBig,
    ProfileVersion,
    _archives,
)
from cdpbridge.server.rentals._recovery import Recovery
from cdpbridge.server.store import Browser, Profile, Server

PROFILE = UUID("11111111-2222-4333-8444-555555555555")
COOKIES = [{"name": "n", "value": "s3cret", "domain": ".a.example"}]


def write(folder, text):
    (folder / "Default").mkdir(parents=True, exist_ok=True)
    (folder / "Default" / "Preferences").write_text(text)
    return folder


def machine(tmp_path, storage, name="one", **limits):
    """The profiles of one machine."""
    return ProfileStore(tmp_path / name, archives=Archives(storage), **limits)


def restored(store, tmp_path, version, profile=PROFILE):
    target = tmp_path / f"restored-{uuid4()}"
    store.restore(profile, target, version)
    return (target / "Default" / "Preferences").read_text() if any(target.iterdir()) else None


def version_of(saved):
    return ProfileVersion(saved.version, saved.archive)


def test_what_one_machine_saves_another_restores(tmp_path, storage):
    saved = machine(tmp_path, storage).save(
        PROFILE, write(tmp_path / "browser", "1"), COOKIES, writer=uuid4()
    )
    assert (saved.version, saved.cookie_domains) == (1, ["a.example"])
    other = machine(tmp_path, storage, "other")
    assert restored(other, tmp_path, version_of(saved)) == "1"
    assert other.load_cookies(PROFILE, version_of(saved)) == COOKIES
    for path in (tmp_path / "other").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    # From its own disk, now.
    storage.delete_all("profiles")
    assert restored(other, tmp_path, version_of(saved)) == "1"


def test_a_name_is_written_once(tmp_path, storage):
    """Two browsers that save from one version, and one that saves twice, write nothing over."""
    store, writer = machine(tmp_path, storage), uuid4()
    base = version_of(store.save(PROFILE, write(tmp_path / "browser", "1"), None, writer=writer))
    saves = [
        store.save(PROFILE, write(tmp_path / "browser", text), None, base=base, writer=who)
        for text, who in (("2", writer), ("3", writer), ("4", uuid4()))
    ]
    assert {saved.version for saved in saves} == {2}
    assert len({saved.archive for saved in saves} | {base.archive}) == 4
    assert all(str(PROFILE) in saved.archive for saved in saves)
    assert str(writer) in saves[0].archive
    other = machine(tmp_path, storage, "other")
    assert [restored(other, tmp_path, version_of(saved)) for saved in saves] == ["2", "3", "4"]
    assert restored(store, tmp_path, base) == "1"


def test_a_version_that_is_missing_starts_no_browser(tmp_path, storage):
    """Without its logins it would sign in again, or save an empty profile over the full one."""
    saved = machine(tmp_path, storage).save(PROFILE, write(tmp_path / "browser", "1"), None)
    other = machine(tmp_path, storage, "other")
    storage.delete([saved.archive])
    with pytest.raises(ProfileNotRestored, match=f"{PROFILE}.*not in the object storage any more"):
        restored(other, tmp_path, version_of(saved))
    with pytest.raises(ProfileNotRestored, match="set `storage_url`"):
        restored(ProfileStore(tmp_path / "none"), tmp_path, version_of(saved))
    assert list((tmp_path / "other" / str(PROFILE)).iterdir()) == []


def test_profiles_of_before_are_used_until_their_next_save(tmp_path, storage):
    """A server gets a storage after some time without."""
    folder = write(tmp_path / "browser", "old")
    ProfileStore(tmp_path / "one").save(PROFILE, folder, COOKIES)
    store = machine(tmp_path, storage)
    assert restored(store, tmp_path, ProfileVersion(1)) == "old"
    assert store.load_cookies(PROFILE, ProfileVersion(1)) == COOKIES
    saved = store.save(PROFILE, write(folder, "new"), None, base=ProfileVersion(1))
    # It does not count yet.
    assert restored(store, tmp_path, ProfileVersion(1)) == "old"
    assert restored(store, tmp_path, version_of(saved)) == "new"
    store.save(PROFILE, write(folder, "newer"), None, base=version_of(saved))
    assert not list((tmp_path / "one" / str(PROFILE)).glob("v0*"))


def test_servers_without_a_storage_do_not_mix_up_their_profiles(tmp_path, storage):
    """A profile that another server has saved last is refused: not empty, and not as it was some time ago."""
    here, there = (ProfileStore(tmp_path / name, alone=False) for name in ("here", "there"))
    first = version_of(here.save(PROFILE, write(tmp_path / "browser", "1"), None))
    assert restored(here, tmp_path, first) == "1"
    for store in (there, machine(tmp_path, storage, "with storage")):
        with pytest.raises(
            ProfileNotRestored, match=f"{PROFILE} was last saved in the data folder of another"
        ):
            restored(store, tmp_path, first)
    with pytest.raises(ProfileNotRestored, match="`storage_url`, which all servers share"):
        restored(here, tmp_path, ProfileVersion(2))
    # One server has no other to mix it up with.
    assert restored(ProfileStore(tmp_path / "here"), tmp_path, ProfileVersion(2)) == "1"
    # Its save was not noted yet.
    here.save(PROFILE, write(tmp_path / "browser", "2"), None, base=first)
    assert restored(here, tmp_path, first) == "2"


def test_a_deleted_profile_is_deleted_in_the_storage(tmp_path, storage):
    store, other = machine(tmp_path, storage), uuid4()
    store.save(PROFILE, write(tmp_path / "browser", "1"), None)
    kept = store.save(other, write(tmp_path / "browser", "1"), None)
    store.delete(PROFILE)
    assert [found.name for found in storage.listing("profiles")] == [kept.archive]
    assert [entry.name for entry in (tmp_path / "one").iterdir()] == [str(other)]


def test_versions_are_discarded_after_a_while(tmp_path, storage):
    store = machine(tmp_path, storage)
    first = store.save(PROFILE, write(tmp_path / "browser", "1"), None)
    late = store.save(PROFILE, write(tmp_path / "browser", "2"), None)
    archives = Archives(storage)
    assert archives.older() == []  # it may be about to be noted
    assert set(archives.older(wall=time.time() + 7200)) == {first.archive, late.archive}
    store.discard(PROFILE, late.archive)
    assert [found.name for found in storage.listing("profiles")] == [first.archive]
    store.discard(PROFILE, first.archive)
    assert list(storage.listing("profiles")) == []
    assert list((tmp_path / "one" / str(PROFILE)).iterdir()) == []


def test_the_cache_is_bounded(tmp_path, storage):
    """The least recently used go; the one used last stays, however large."""
    profiles = [uuid4() for _ in range(4)]
    folder = write(tmp_path / "browser", "x" * 1000)
    maker = machine(tmp_path, storage, "maker")
    versions = {each: version_of(maker.save(each, folder, None)) for each in profiles}
    store = machine(tmp_path, storage, "small", max_cache_bytes=2500)
    for number, each in enumerate(profiles[:3]):
        assert restored(store, tmp_path, versions[each], each)
        for place in (tmp_path / "small" / str(each)).iterdir():
            os.utime(place, (number, number))
    assert restored(store, tmp_path, versions[profiles[3]], profiles[3])
    kept = {path.parent.name for path in (tmp_path / "small").glob("*/cached-*")}
    assert kept == {str(profiles[2]), str(profiles[3])}
    tiny = machine(tmp_path, storage, "tiny", max_cache_bytes=0)
    for each in profiles[:2]:
        assert restored(tiny, tmp_path, versions[each], each)
    assert [path.parent.name for path in (tmp_path / "tiny").glob("*/cached-*")] == [str(profiles[1])]


def test_a_download_that_breaks_off_leaves_no_entry(tmp_path, storage, monkeypatch, caplog):
    saved = machine(tmp_path, storage).save(PROFILE, write(tmp_path / "browser", "1"), None)
    other = machine(tmp_path, storage, "other")
    with monkeypatch.context() as patch:

        def broken(self, name, folder, budget):
            (folder / "user-data").mkdir()
            raise ObjectStorageError("cut here")

        patch.setattr(Archives, "fetch", broken)
        with pytest.raises(ProfileNotRestored, match="the server's log says more"):
            restored(other, tmp_path, version_of(saved))
    assert "cut here" in caplog.text
    assert list((tmp_path / "other" / str(PROFILE)).iterdir()) == []
    assert restored(other, tmp_path, version_of(saved)) == "1"


def test_an_upload_that_breaks_off_saves_nothing(tmp_path, storage):
    store = machine(tmp_path, storage, max_seconds=0)
    with pytest.raises(ProfileTooBig):
        store.save(PROFILE, write(tmp_path / "browser", "1"), None)
    assert list(storage.listing("profiles")) == []
    assert list((tmp_path / "one" / str(PROFILE)).iterdir()) == []


def test_what_is_just_within_the_limits_is_restored(tmp_path, storage):
    """The limits are for saving: cookies, and the folder around it, do not count against them."""
    limits = {"max_bytes": 1000, "max_files": 70}
    folder = tmp_path / "browser" / "/".join(["d"] * 63)
    folder.mkdir(parents=True)
    (folder / "Preferences").write_bytes(bytes(1000))
    cookies = [{"name": "n", "value": "x" * 5000, "domain": "a.example"}]
    saved = machine(tmp_path, storage, **limits).save(PROFILE, tmp_path / "browser", cookies)
    other = machine(tmp_path, storage, "other", **limits)
    other.restore(PROFILE, tmp_path / "restored", version_of(saved))
    assert [path.stat().st_size for path in (tmp_path / "restored").rglob("Preferences")] == [1000]
    assert other.load_cookies(PROFILE, version_of(saved)) == cookies


@pytest.mark.parametrize("content", [b"", b"PK\3\4", "beside"])
def test_fault_b32_an_object_that_is_no_profile_starts_no_browser(tmp_path, storage, content):
    name = f"profiles/{PROFILE}/00000001-x.tar.zst"
    if content == "beside":
        folder = write(tmp_path / "made" / "user-data", "1").parent
        (folder / "more").write_text("x")
        sink = io.BytesIO()
        from cdpbridge.server.profiles._archive import pack

        pack(folder, sink, ProfileStore(tmp_path / "none")._budget())
        content = sink.getvalue()
    storage.put_file(name, io.BytesIO(content))
    store = machine(tmp_path, storage)
    with pytest.raises(ProfileNotRestored, match="archive"):
        restored(store, tmp_path, ProfileVersion(1, name))
    assert list((tmp_path / "one" / str(PROFILE)).iterdir()) == []


# --- behind a server --------------------------------------------------------------------------------------------------


class SavingHosts:
    """Machines without browsers: a browser writes its own id into its profile and ends."""

    def __init__(self, profiles, folder):
        self.profiles, self.root, self.running, self.may_end = profiles, folder, {}, asyncio.Event()
        self.may_end.set()

    async def start(self, spec, *, on_exit, on_limit):
        folder = self.root / str(spec.id)
        writable = None
        if spec.profile_id is not None:
            writable = self.profiles.try_lease(spec.profile_id, str(spec.id))
            await self.profiles.run(self.profiles.restore, spec.profile_id, folder, spec.profile_version)
        self.running[spec.id] = spec, Placement(spec.id.hex, writable), folder
        return self.running[spec.id][1]

    def placement(self, browser_id):
        return self.running[browser_id][1] if browser_id in self.running else None

    async def connection(self, browser_id):
        return None

    def proxy_bytes(self, browser_id):
        return 0

    def traffic(self, browser_id):
        return ()

    def blocked_requests(self, browser_id):
        return None

    def read(self, browser_id):
        """What a browser has in its profile."""
        file = self.running[browser_id][2] / "Default" / "Preferences"
        return file.read_text() if file.exists() else None

    async def stop(self, browser_id, frame, *, save):
        spec, _, folder = self.running.pop(browser_id)
        saved = None
        if save:
            write(folder, str(browser_id))
            found = await asyncio.to_thread(
                self.profiles.save,
                spec.profile_id,
                folder,
                None,
                base=spec.profile_version,
                writer=browser_id,
            )
            saved = SavedState(found.version, list(found.cookie_domains), found.archive)
        await self.may_end.wait()
        if spec.profile_id is not None:
            self.profiles.release(spec.profile_id, str(browser_id))
        return StopReport("closed", saved, 0)

    ready = 0
    waiting = 0

    def lost(self, browser_id):
        return False

    def answered(self):
        return ()

    def remains(self):
        return []

    def fits_ready(self, spec):
        return False

    def start_ahead(self, _readable):
        """No order is guessed here."""

    async def release_ready(self):
        return False

    async def recover(self, left):
        found = {
            each.id: self.profiles.saved_by(each.profile_id, each.id) for each in left if each.profile_id
        }
        return {
            each: SavedState(saved.version, list(saved.cookie_domains), saved.archive)
            for each, saved in found.items()
            if saved is not None
        }

    async def close(self):
        assert not self.running


@pytest.fixture
def make_machine(make_api, tmp_path, storage, storage_place):
    """A server in this process on a machine of its own, with the one database."""

    def make_machine(name="one"):
        profiles = machine(tmp_path, storage, f"{name}-profiles")
        hosts = SavingHosts(profiles, tmp_path / f"{name}-browsers")
        return make_api(
            hosts=hosts,
            data_dir=tmp_path / name,
            database_url=f"sqlite+aiosqlite:///{tmp_path / 'cluster.sqlite3'}",
            storage_url=storage_place.url,
            storage_options=storage_place.options,
        )

    return make_machine


async def test_a_profile_moves_from_machine_to_machine(make_machine):
    async with make_machine("one") as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        first = await api.rent(profileId=profile)
        await api.stop(first)
    async with make_machine("two") as api:
        second = await api.rent(profileId=profile)
        assert api.hosts.read(UUID(second["id"])) == first["id"]
        await api.stop(second)
        assert await api.services.store.profile_version(UUID(profile)) == (2, _Any())
    async with make_machine("one") as api:  # whose cache has an older one
        third = await api.rent(profileId=profile)
        assert api.hosts.read(UUID(third["id"])) == second["id"]
        await api.stop(third)


class _Any:
    def __eq__(self, other):
        return True

    __hash__ = None


async def test_a_late_upload_does_not_count(make_machine, storage, caplog):
    """A machine was thought dead, another browser may save now: what the first uploads changes nothing, and is removed."""
    async with make_machine() as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        await api.stop(await api.rent(profileId=profile))
        counted = await api.services.store.profile_version(UUID(profile))
        late = await api.rent(profileId=profile)
        # As a server does that has taken the profile for a browser of its own.
        async with api.services.store._write() as session:
            await session.execute(update(Profile).values(writer=uuid4()))
        stopped = await api.stop(late)
        assert stopped["status"] == "stopped"
        assert await api.services.store.profile_version(UUID(profile)) == counted
        assert [found.name for found in storage.listing("profiles")] == [counted[1]]
        assert "is not saved by browser" in caplog.text
        after = await api.rent(profileId=profile)
        assert api.hosts.read(UUID(after["id"])) not in {late["id"], None}
        await api.stop(after)


async def test_a_profile_deleted_while_it_is_uploaded_leaves_no_object(make_machine, storage):
    async with make_machine() as api:
        profile = (await api.post("/profiles", {})).json()["id"]
        browser = await api.rent(profileId=profile)
        api.hosts.may_end.clear()
        stopping = asyncio.create_task(api.stop(browser))
        async with asyncio.timeout(60):
            while not list(storage.listing("profiles")):
                await asyncio.sleep(0.01)
        assert (await api.request("DELETE", f"/profiles/{profile}")).status_code == 204
        api.hosts.may_end.set()
        await stopping
        assert list(storage.listing("profiles")) == []


async def test_an_upload_that_was_not_noted_counts_after_a_restart(make_machine, monkeypatch):
    """The database is away when a profile has been uploaded, and the server ends before it is back."""

    async def away(*_arguments, **_options):
        raise OperationalError("away", None, RuntimeError())

    with monkeypatch.context() as patch:
        async with make_machine() as api:
            profile = (await api.post("/profiles", {})).json()["id"]
            browser = await api.rent(profileId=profile)
            patch.setattr(api.services.store, "profile_saved", away)
            await api.stop(browser)
            assert await api.services.store.profile_version(UUID(profile)) == (0, None)
            patch.setattr(api.services.rentals._endings, "retry", lambda: asyncio.sleep(0))
    async with make_machine() as api:
        assert (await api.browser(browser))["status"] == "stopped"
        after = await api.rent(profileId=profile)
        assert api.hosts.read(UUID(after["id"])) == browser["id"]
        await api.stop(after)


async def ends_with_its_server(_browser, _uptime):
    return False


async def test_an_upload_counts_whose_server_was_lost(make_machine):
    """Another server settles its browser, finds what was uploaded, and notes it; what comes later changes nothing."""
    async with make_machine() as api:
        store, profiles = api.services.store, api.hosts.profiles
        profile = UUID((await api.post("/profiles", {})).json()["id"])
        browser = await api.rent(profileId=str(profile))
        spec, _, folder = api.hosts.running[UUID(browser["id"])]
        write(folder, "uploaded")
        save = partial(profiles.save, profile, folder, None, base=spec.profile_version, writer=spec.id)
        uploaded = await asyncio.to_thread(save)
        lost = Server(id=uuid4(), name="lost", beats=1, uptime_ms=1000, joined_at=api.wall())
        async with store._write() as session:
            await session.execute(update(Browser).values(owner=lost.id))
        find = partial(saved_before, profiles)
        await Recovery(store, find, ends_with_its_server, timedelta, api.wall).take_over(lost)
        counted = (1, uploaded.archive)
        assert await store.profile_version(profile) == counted
        assert (await api.browser(browser))["status"] == "stopped"
    async with make_machine("two") as api:
        assert await api.services.store.profile_version(profile) == counted
        after = await api.rent(profileId=str(profile))
        assert api.hosts.read(UUID(after["id"])) == "uploaded"
        await api.stop(after)


async def test_the_sweep_removes_former_versions_and_nothing_that_may_count(
    make_machine, storage, monkeypatch
):
    async with make_machine() as api:
        store, archives = api.services.store, Archives(storage)
        profile = (await api.post("/profiles", {})).json()["id"]
        for _ in range(3):
            await api.stop(await api.rent(profileId=profile))
        runs = await api.rent(profileId=profile)
        saving = archives.name(UUID(profile), f"00000004-{runs['id']}-00")
        foreign = archives.name(UUID(profile), f"00000004-{uuid4()}-00")
        for name in (saving, foreign):
            storage.put_file(name, io.BytesIO(b"x"))
        sweep = Sweep(store, archives)
        assert await sweep.once() == 0
        monkeypatch.setattr(_archives, "_SWEEP_AGE_SECONDS", -3600)
        assert await sweep.once() == 3
        _, counted = await store.profile_version(UUID(profile))
        assert {found.name for found in storage.listing("profiles")} == {counted, saving}
        await api.stop(runs)


@pytest.mark.chromium
@pytest.mark.programs
@pytest.mark.parametrize("build", ["shell", pytest.param("full", marks=pytest.mark.slow)])
async def test_logins_outlive_the_machine(make_server, s3, build):
    """Real browsers: the folder of profiles is lost, and the login is there."""
    settings = {
        "storage_url": f"s3://{s3.bucket()}",
        "storage_options": s3.options,
        "browser_build": build,
    }
    async with make_server(**settings) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "lasting")
        await server.set_cookies(browser, "login", session=True)
        await server.stop(browser)
        shutil.rmtree(server.data_dir / "profiles")
        assert await server.cookies_of_profile(profile) == {"lasting", "login"}
        saved = (await server.http.get(f"/profiles/{profile}")).json()
        assert saved["cookieDomains"] == ["example.com"]


@pytest.mark.slow
@pytest.mark.chromium
@pytest.mark.programs
@pytest.mark.one_build("the upload of a killed server; both builds are stopped by the same code")
async def test_fault_b29_killed_while_a_profile_is_uploaded(spawn_server, s3):
    """What one session has seen, the next one sees, at whatever moment of a stop its server was killed."""
    bucket = s3.bucket()
    settings = {"storage_url": f"s3://{bucket}", "storage_options": json.dumps(s3.options)}
    profile, seen, chance = None, set(), random.Random(29)
    for round_ in range(5):
        async with spawn_server(**settings) as server:
            profile = profile or await server.profile()
            browser = await server.rent(profileId=profile)
            found = await server.cookies(browser)
            assert seen <= found
            seen = found
            await server.set_cookies(browser, f"round-{round_}")
            stopping = asyncio.create_task(server.stop(browser))
            await asyncio.sleep(chance.uniform(0, 0.6))
            await server.end(signal.SIGKILL)
            with suppress(httpx.HTTPError):
                await stopping
    assert seen
    async with spawn_server(**settings) as server:
        assert seen <= await server.cookies_of_profile(profile)
        assert s3.unfinished_uploads(bucket) == 0
