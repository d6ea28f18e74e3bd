"""A start that is given up while a thread is at work for it: what the thread did is undone, too."""

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserOptions, BrowserSpec, Builds
from cdpbridge.server.hosts._browser import LocalBrowser
from cdpbridge.server.hosts._place import Place
from cdpbridge.server.profiles import ProfileStore

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("a start that is cancelled ends a process, whichever the build"),
]

SECOND = timedelta(seconds=1)


class PausedProfiles(ProfileStore):
    """One of its methods waits, in its thread, until it is told to go on."""

    def __init__(self, root, method):
        super().__init__(root)
        self.entered, self.go_on, self.left = threading.Event(), threading.Event(), threading.Event()
        real = getattr(self, method)

        def paused(*arguments):
            self.entered.set()
            self.go_on.wait(100)
            try:
                return real(*arguments)
            finally:
                self.left.set()

        setattr(self, method, paused)


@pytest.mark.parametrize("method", ["restore", "load_cookies"])
async def test_a_start_given_up_while_its_profile_is_copied_leaves_no_folder_and_no_lease(tmp_path, method):
    profile_id = uuid4()
    saved = tmp_path / "saved"
    (saved / "Default").mkdir(parents=True)
    (saved / "Default" / "Preferences").write_text("{}")
    profiles = PausedProfiles(tmp_path / "profiles", method)
    profiles.save(profile_id, saved, None)
    (tmp_path / "browsers").mkdir()
    spec = BrowserSpec(uuid4(), profile_id)
    options = BrowserOptions(Builds.found(None, None), (), 30 * SECOND, SECOND, SECOND, SECOND, SECOND)
    browser = LocalBrowser(
        spec,
        Place(spec.id, tmp_path / "browsers" / "it", options),
        udp=True,
        options=options,
        profiles=profiles,
        registry=Registry(),
        on_exit=lambda _id: None,
        on_limit=lambda _id, _limit: None,
    )
    starting = asyncio.create_task(browser.start())
    assert await asyncio.to_thread(profiles.entered.wait, 30)
    starting.cancel()
    await asyncio.wait({starting}, timeout=0.1)  # it may be over before its thread is
    profiles.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await asyncio.to_thread(profiles.left.wait, 30)
    assert list((tmp_path / "browsers").iterdir()) == []
    assert ProfileStore.try_lease(profiles, profile_id, "somebody else")
