"""The quota of a project's files."""

import asyncio
from uuid import UUID, uuid4

from cdpbridge.server.files import FileQuota, FileStore

MIB = 1024**2


async def test_a_look_at_the_quota_asks_only_for_browsers_that_have_files(tmp_path):
    """Once, for orders that come together: it was done for every browser that the project ever had, by each of them."""
    files = FileStore(tmp_path)
    mine, other, project, asked = uuid4(), uuid4(), uuid4(), []
    for browser in (mine, other):
        (files.make(files.downloads(browser)) / "report.bin").write_bytes(bytes(MIB))

    async def owned(project_id, browsers):
        asked.append((project_id, set(browsers)))
        await asyncio.sleep(0)
        return [mine]

    async def kept(_project_id):
        return 0

    quota = FileQuota(files, owned, kept, 2)
    refusals = await asyncio.gather(*(quota.refusal(project, more) for more in (0, MIB // 2, MIB)))
    assert [reason is None for reason in refusals] == [True, True, False]
    assert asked == [(project, {mine, other})]
    quota.forget(project)
    assert await quota.refusal(project) is None
    assert len(asked) == 2


async def test_browsers_are_told_apart_by_project_whatever_their_number(make_api):
    async with make_api() as api:
        project, found = await api.project(), [uuid4() for _ in range(1200)]
        mine = UUID((await api.rent())["id"])
        assert await api.services.store.owned_by(project, found) == []
        assert await api.services.store.owned_by(project, [*found, mine]) == [mine]
        assert await api.services.store.owned_by(uuid4(), [mine]) == []
