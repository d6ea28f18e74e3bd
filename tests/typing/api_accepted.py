"""What type checkers let through: the typed output of a task, raw answers, pages."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

from pydantic import BaseModel

from cdpbridge import AsyncClient, Client
from cdpbridge.api import AsyncPages, BrowserSession, Page, RawResponse, TaskItem, TaskResult, TaskRun, calls


class Price(BaseModel):
    amount: float


async def with_a_loop(client: AsyncClient) -> None:
    assert_type(await client.run("t", output_model=Price, llm="gpt-4o"), TaskResult[Price])
    assert_type((await client.run("t")).parsed, None)
    await client.tasks.create("t", session_id="id", vision="auto", structured_output=Price, judge=False)
    assert_type(client.tasks.list(), AsyncPages[TaskItem])
    assert_type(await client.send_raw(calls.get_browser("id")), RawResponse[BrowserSession])
    assert_type([task.id async for task in client.tasks.list(status="started")], list[UUID])


def without_a_loop(client: Client) -> None:
    assert_type(client.run("t", output_model=Price).parsed, Price)
    assert_type(client.start("t", keep_session=True), TaskRun[None])
    assert_type(client.browsers.list().page(), Page[BrowserSession])
    assert_type(client.send_raw(calls.list_tasks()).parsed, Page[TaskItem])
