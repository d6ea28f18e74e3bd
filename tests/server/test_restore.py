"""A copy of `data_dir` is a backup: a server that finds it goes on where the former one ended."""

import shutil

import pytest

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the copy is of files; a profile of the other build is a folder, too"),
]


async def test_a_restored_copy_has_keys_balance_logins_and_records(make_server, tmp_path):
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with make_server(credits_usd=7, admin_keys="admin-key-of-tests") as server:
        made = await server.http.post(
            server.http.base_url.copy_with(path="/admin/v1/keys"),
            json={"project": "default", "name": "made before the backup"},
            headers={"X-Browser-Use-API-Key": "admin-key-of-tests"},
        )
        assert made.status_code == 201, made.text
        profile = await server.profile("kept")
        browser = await server.rent(profileId=profile)
        await server.set_cookies(browser, "login")
        stopped = await server.stop(browser)
        await server.stopped(browser)
        account = await server.account()
    assert account["totalCreditsBalanceUsd"] < 7

    shutil.copytree(data, copy)
    shutil.rmtree(data)
    copy.rename(data)
    async with make_server(credits_usd=7) as server:
        assert await server.browser(browser) == stopped
        assert await server.account() == account
        server.http.headers["X-Browser-Use-API-Key"] = made.json()["key"]
        assert await server.cookies_of_profile(profile) == {"login"}
