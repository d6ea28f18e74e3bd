"""Every v2 method of the official SDK 2.0.15, sync or async. Prints what came back and which were called, as JSON.

Usage: drive_2_0_15.py sync|async BASE_URL KEY
"""

import asyncio
import inspect
import json
import sys
from typing import get_args

import httpx
from browser_use_sdk import AsyncBrowserUse, BrowserUse
from browser_use_sdk.core.api_error import ApiError
from browser_use_sdk.types.supported_ll_ms import SupportedLlMs

KIND, BASE_URL, KEY = sys.argv[1:]
RESOURCES = ("billing", "browsers", "files", "profiles", "sessions", "skills", "tasks")
MODELS = get_args(get_args(SupportedLlMs)[0])
called, seen = set(), {}


class Recording:
    def __init__(self, name, resource):
        self._name, self._resource = name, resource

    def __getattr__(self, method):
        function = getattr(self._resource, method)

        async def call(*arguments, **options):
            called.add(f"{self._name}.{method}")
            result = function(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return call


def methods(client):
    return sorted(
        f"{name}.{attribute}"
        for name in RESOURCES
        for attribute, function in inspect.getmembers(type(getattr(client, name)), inspect.isfunction)
        if not attribute.startswith("_")
    )


async def refused(call):
    try:
        await call
    except ApiError as error:
        return error.status_code
    return None


async def over(tasks, task_id):
    async with asyncio.timeout(30):
        while (await tasks.get_task_status(task_id)).status not in {"finished", "stopped"}:
            await asyncio.sleep(0.05)
    return await tasks.get_task(task_id)


async def drive(client):
    api = {name: Recording(name, getattr(client, name)) for name in RESOURCES}
    seen["account"] = (await api["billing"].get_account_billing()).total_credits_balance_usd

    profiles = api["profiles"]
    profile = await profiles.create_profile(name="Older")
    assert (await profiles.update_profile(profile.id, name="Newer")).name == "Newer"
    seen["profile"] = (await profiles.get_profile(profile.id)).name
    assert profile.id in [found.id for found in (await profiles.list_profiles(page_size=100)).items]

    browsers = api["browsers"]
    browser = await browsers.create_browser_session(timeout=5)
    assert (await browsers.get_browser_session(browser.id)).cdp_url == browser.cdp_url
    assert browser.id in [found.id for found in (await browsers.list_browser_sessions()).items]
    upload = await api["files"].browser_session_upload_file_presigned_url(
        browser.id, file_name="a.txt", content_type="text/plain", size_bytes=5
    )
    seen["upload"] = httpx.post(
        upload.url, data=upload.fields, files={"file": ("a.txt", b"hello")}
    ).status_code
    seen["stopped browser"] = (await browsers.update_browser_session(browser.id, action="stop")).status

    sessions, tasks, files = api["sessions"], api["tasks"], api["files"]
    session = await sessions.create_session(profile_id=profile.id, start_url=None)
    seen["session"] = session.status
    upload = await files.agent_session_upload_file_presigned_url(
        session.id, file_name="b.txt", content_type="text/plain", size_bytes=5
    )
    assert httpx.post(upload.url, data=upload.fields, files={"file": ("b.txt", b"hello")}).status_code == 204
    share = await sessions.create_session_public_share(session.id)
    assert (await sessions.get_session_public_share(session.id)).share_token == share.share_token
    await sessions.delete_session_public_share(session.id)
    assert session.id in [found.id for found in (await sessions.list_sessions(filter_by="active")).items]

    task = await tasks.create_task(task="Look around", session_id=session.id, llm="gpt-4.1")
    done = await over(tasks, task.id)
    seen["task"] = [done.status, done.is_success, len(done.steps), done.llm, done.output.split(" over ")[0]]
    output = await files.get_task_output_file_presigned_url(task.id, done.output_files[0].id)
    seen["output file"] = [output.file_name, httpx.get(output.download_url).text]
    seen["log"] = httpx.get((await tasks.get_task_logs(task.id)).download_url).status_code
    assert (await tasks.list_tasks(session_id=session.id)).total_items == 1

    seen["models"] = 0
    for model in MODELS:
        created = await tasks.create_task(
            task="Look", session_id=session.id, llm=model, start_url="about:blank"
        )
        seen["models"] += (await over(tasks, created.id)).llm == model
    created = await tasks.create_task(task="Look", session_id=session.id)
    whole = created.complete()
    whole = await whole if inspect.isawaitable(whole) else whole
    seen["complete"] = whole.status
    blank = await sessions.create_session(start_url="about:blank", proxy_country_code="us")
    await sessions.update_session(blank.id, action="stop")

    waiting = await tasks.create_task(task="Wait", session_id=session.id)
    seen["steered"] = [
        (await tasks.update_task(waiting.id, action=action)).status
        for action in ("pause", "resume", "stop_task_and_session")
    ]
    seen["stopped session"] = [
        (await sessions.get_session(session.id)).status,
        (await sessions.update_session(session.id, action="stop")).status,
    ]
    await sessions.delete_session(session.id)
    seen["deleted"] = await refused(sessions.get_session(session.id))
    await profiles.delete_browser_profile(profile.id)
    seen["missing"] = await refused(profiles.get_profile(profile.id))

    for name in ("skills",):
        for method, function in inspect.getmembers(type(getattr(client, name)), inspect.isfunction):
            if not method.startswith("_"):
                needed = [
                    parameter
                    for parameter in list(inspect.signature(function).parameters.values())[1:]
                    if parameter.default is parameter.empty
                ]
                positional = ["x" for parameter in needed if parameter.kind is not parameter.KEYWORD_ONLY]
                options = {p.name: "x" for p in needed if p.kind is p.KEYWORD_ONLY}
                options["request_options"] = {"max_retries": 0}
                answer = await refused(getattr(api[name], method)(*positional, **options))
                seen.setdefault("elsewhere", set()).add(answer)


async def main():
    client = (BrowserUse if KIND == "sync" else AsyncBrowserUse)(api_key=KEY, base_url=BASE_URL)
    await drive(client)
    missing = set(methods(client)) - called
    print(json.dumps({"seen": seen, "missing": sorted(missing), "called": len(called)}, default=sorted))


asyncio.run(main())
