"""Every v2 method of the official SDK 3.x, sync or async. Prints what came back and which methods were called, as JSON.

Usage: drive_newest.py sync|async BASE_URL KEY
"""

import asyncio
import inspect
import json
import sys

import httpx
from browser_use_sdk import AsyncBrowserUse, BrowserUse
from browser_use_sdk._core.errors import BrowserUseError
from browser_use_sdk.generated.v2.models import CustomProxy, SessionSettings, SupportedLLMs

KIND, BASE_URL, KEY = sys.argv[1:]
RESOURCES = ("billing", "browsers", "files", "marketplace", "profiles", "sessions", "skills", "tasks")
called, seen = set(), {}


class Recording:
    """A resource whose methods say that they were called; awaits what has to be awaited."""

    def __init__(self, name, resource):
        self._name, self._resource = name, resource

    def __getattr__(self, method):
        function = getattr(self._resource, method)

        async def call(*arguments, **options):
            called.add(f"{self._name}.{function.__func__.__name__}")
            result = function(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return call


def methods(client):
    return sorted(
        f"{name}.{function.__name__}"
        for name in RESOURCES
        for attribute, function in vars(type(getattr(client, name))).items()
        if inspect.isfunction(function) and not attribute.startswith("_")
    )


async def refused(call):
    try:
        await call
    except BrowserUseError as error:
        return error.status_code
    return None


async def drive(client):
    api = {name: Recording(name, getattr(client, name)) for name in RESOURCES}
    account = await api["billing"].account()
    seen["account"] = [account.concurrent_session_limit, account.active_session_count]

    profiles = api["profiles"]
    profile = await profiles.create(name="Work of SDK")
    assert (await profiles.get(str(profile.id))).name == "Work of SDK"
    assert (await profiles.update(str(profile.id), name="Other of SDK")).name == "Other of SDK"
    seen["profiles"] = [found.name for found in (await profiles.list(query="other of", page_size=5)).items]

    browsers = api["browsers"]
    browser = await browsers.create(
        timeout=5,
        metadata={"by": KIND},
        browser_screen_width=800,
        browser_screen_height=600,
        proxy_country_code=None,
    )
    assert (await browsers.get(str(browser.id))).cdp_url == browser.cdp_url
    listed = await browsers.list(filter_by="active", metadata=[f"by:{KIND}"])
    seen["browsers"] = [str(found.id) == str(browser.id) for found in listed.items]
    seen["downloads"] = (await browsers.downloads(str(browser.id), limit=5, include_urls=True)).files
    upload = await api["files"].browser_url(
        str(browser.id), file_name="a.txt", content_type="text/plain", size_bytes=5
    )
    sent = httpx.post(upload.url, data=upload.fields, files={"file": (upload.file_name, b"hello")})
    seen["upload"] = sent.status_code
    stopped = await browsers.update(str(browser.id), action="stop")
    seen["stopped browser"] = [stopped.status.value, (await browsers.stop(str(browser.id))).status.value]

    sessions, tasks, files = api["sessions"], api["tasks"], api["files"]
    session = await sessions.create(profile_id=str(profile.id), keep_alive=True, persist_memory=True)
    seen["session"] = [session.status.value, session.keep_alive, session.persist_memory]
    upload = await files.session_url(
        str(session.id), file_name="b.txt", content_type="text/plain", size_bytes=5
    )
    assert httpx.post(upload.url, data=upload.fields, files={"file": ("b.txt", b"hello")}).status_code == 204
    share = await sessions.create_share(str(session.id))
    assert (await sessions.get_share(str(session.id))).share_token == share.share_token
    assert (await sessions.get(str(session.id))).public_share_url == share.share_url
    await sessions.delete_share(str(session.id))

    task = await tasks.create("Look around", session_id=str(session.id), metadata={"n": "1"}, max_steps=5)
    done = await tasks.wait(str(task.id), timeout=30, interval=0.05)
    seen["task"] = [done.status.value, done.is_success, len(done.steps), done.output.split(" over ")[0]]
    seen["screenshot"] = httpx.get(done.steps[0].screenshot_url).headers["content-type"]
    status = await tasks.status(str(task.id))
    assert (status.status, status.output) == (done.status, done.output)
    assert (await tasks.get(str(task.id))).output == done.output
    output = await files.task_output(str(task.id), str(done.output_files[0].id))
    part = httpx.get(output.download_url, headers={"Range": "bytes=2-4"})
    seen["output file"] = [output.file_name, part.status_code, part.text]
    seen["log"] = httpx.get((await tasks.logs(str(task.id))).download_url).status_code
    listed = await tasks.list(session_id=str(session.id), filter_by="finished")
    seen["tasks"] = [listed.total_items, str(listed.items[0].id) == str(task.id)]

    waiting = await tasks.create("Wait", session_id=str(session.id))
    seen["busy"] = await refused(tasks.create("More", session_id=str(session.id)))
    seen["stopped task"] = (await tasks.stop(str(waiting.id))).status.value
    waiting = await tasks.create("Wait", session_id=str(session.id))
    seen["updated task"] = (await tasks.update(str(waiting.id), action="stop")).status.value
    waiting = await tasks.create("Wait", session_id=str(session.id))
    ended = await tasks.stop_task_and_session(str(waiting.id))
    seen["stopped both"] = [ended.status.value, (await sessions.get(str(session.id))).status.value]
    seen["stopped session"] = [
        (await sessions.stop(str(session.id))).status.value,
        (await sessions.update(str(session.id), action="stop")).status.value,
    ]
    listed = await sessions.list(filter_by="stopped", page_size=1)
    seen["sessions"] = [str(found.id) == str(session.id) for found in listed.items]
    await sessions.purge(str(session.id))
    await sessions.delete(str(session.id))
    seen["deleted"] = await refused(sessions.get(str(session.id)))

    settings = SessionSettings(browser_screen_width=800)
    alone = await tasks.create("Alone", session_settings=settings)
    await tasks.wait(str(alone.id), timeout=30, interval=0.05)
    custom = CustomProxy(host="127.0.0.1", port=9, username="u", password="p")
    odd = await browsers.create(custom_proxy=custom)
    await browsers.stop(str(odd.id))
    newer = await browsers.create(
        proxy_country_code="us",
        allow_resizing=True,
        pdf_renderer_enabled=True,
        solve_captchas=True,
        extension_ids=[],
    )
    seen["newer fields"] = [newer.status.value, str(newer.proxy_cost)]
    await browsers.stop(str(newer.id))

    kept = await sessions.create(start_url="about:blank")
    seen["models"] = 0
    for model in SupportedLLMs:
        task = await tasks.create("Look", session_id=str(kept.id), llm=model.value, start_url="about:blank")
        ended = await tasks.wait(str(task.id), timeout=30, interval=0.02)
        seen["models"] += (ended.llm, ended.status.value) == (model.value, "finished")
    task = await tasks.create(
        "Look",
        session_id=str(kept.id),
        thinking_level="high",
        judge_ground_truth="42",
        judge_llm="gpt-4.1",
        skill_ids=[],
    )
    await tasks.wait(str(task.id), timeout=30, interval=0.02)
    if KIND == "sync":
        steps = [step.number for step in client.stream("Look", session_id=str(kept.id))]
    else:
        steps = [step.number async for step in client.run("Look", session_id=str(kept.id))]
    seen["streamed"] = steps
    await sessions.stop(str(kept.id))

    result = client.run("Run")
    result = await result if inspect.isawaitable(result) else result
    seen["run"] = result.output.split(" over ")[0]
    await profiles.delete(str(profile.id))
    seen["missing"] = await refused(profiles.get(str(profile.id)))

    for name in ("skills", "marketplace"):
        for method, function in list(vars(type(getattr(client, name))).items()):
            if inspect.isfunction(function) and not method.startswith("_"):
                needed = [
                    parameter
                    for parameter in list(inspect.signature(function).parameters.values())[1:]
                    if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
                ]
                positional = ["x" for parameter in needed if parameter.kind is not parameter.KEYWORD_ONLY]
                options = {p.name: "x" for p in needed if p.kind is p.KEYWORD_ONLY}
                answer = await refused(getattr(api[name], method)(*positional, **options))
                seen.setdefault("elsewhere", set()).add(answer)


async def main():
    if KIND == "sync":
        with BrowserUse(KEY, base_url=BASE_URL, max_retries=0) as client:
            await drive(client)
            missing = set(methods(client)) - called
    else:
        async with AsyncBrowserUse(KEY, base_url=BASE_URL, max_retries=0) as client:
            await drive(client)
            missing = set(methods(client)) - called
    print(json.dumps({"seen": seen, "missing": sorted(missing), "called": len(called)}, default=sorted))


asyncio.run(main())
