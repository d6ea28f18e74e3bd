"""A scripted endpoint that speaks OpenAI's chat completions: it answers what the test tells it to, late or wrong too."""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


def act(*actions, memory="", goal=""):
    """An answer with these actions."""
    said = {"evaluation_previous_goal": "fine", "memory": memory, "next_goal": goal, "action": list(actions)}
    return json.dumps(said)


def done(text="all done", **more):
    return act({"done": {"text": text, "success": True} | more})


def go(url):
    return act({"navigate": {"url": url, "new_tab": False}})


def typed(request, name):
    """Index of the field with this name on the page that the model is shown."""
    found = re.findall(rf"\[(\d+)\]<input[^>]*\b{name}\b", request.text)
    assert found, request.text[-3000:]
    return int(found[-1])


@dataclass
class Request:
    """One question of an agent."""

    body: dict
    key: str
    at: float

    @property
    def actions(self):
        """Names of the actions that the schema allows."""
        return set(_find(self.body.get("response_format") or {}, "action"))

    @property
    def judge(self):
        return "verdict" in json.dumps(self.body.get("response_format") or {})

    @property
    def text(self):
        """Everything that the model is shown, pictures left out."""
        parts = []
        for message in self.body["messages"]:
            content = message["content"]
            parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        return "\n".join(parts)

    @property
    def pictures(self):
        contents = [message["content"] for message in self.body["messages"]]
        return sum(
            part.get("type") == "image_url"
            for content in contents
            if isinstance(content, list)
            for part in content
        )


def _find(node, name):
    if isinstance(node, dict):
        if isinstance(items := node.get(name), dict) and "items" in items:
            options = items["items"].get("anyOf", [items["items"]])
            yield from (key for option in options for key in option.get("properties", {}))
        for inner in node.values():
            yield from _find(inner, name)
    elif isinstance(node, list):
        for inner in node:
            yield from _find(inner, name)


@dataclass
class Model:
    """`answer(request, number)` gives text, a status to fail with, or an awaitable of these; number counts from 1."""

    base_url: str
    answer: object = None
    requests: list[Request] = field(default_factory=list)
    verdict: bool | None = None
    judged: list[Request] = field(default_factory=list)
    judge: object = None  # as `answer`, for the judge's questions
    judge_all: bool = False  # there is no agent here
    finish_reason: str = "stop"

    async def reply(self, request):
        if request.judge or self.judge_all:
            self.judged.append(request)
            if self.judge is not None:
                answer = self.judge(request, len(self.judged))
                return await answer if asyncio.iscoroutine(answer) else answer
            return json.dumps({"verdict": self.verdict, "reasoning": "seen", "failure_reason": ""})
        self.requests.append(request)
        answer = self.answer(request, len(self.requests))
        return await answer if asyncio.iscoroutine(answer) else answer


@asynccontextmanager
async def serve_model(answer=None):
    """A block in which a scripted model is served on loopback."""

    connections = set()

    async def connected(reader, writer):
        connections.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(
                    line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line
                )
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
                assert head.startswith(b"POST /v1/chat/completions ")
                answer = await model.reply(Request(body, headers["authorization"], time.monotonic()))
                status, content = (answer, "") if isinstance(answer, int) else (200, answer)
                message = {"role": "assistant", "content": content}
                choice = {"index": 0, "finish_reason": model.finish_reason, "message": message}
                full = {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                data = json.dumps(full if status == 200 else {"error": {"message": "broken"}}).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nretry-after-ms: 1\r\n"
                    b"Content-Length: %d\r\n\r\n" % (status, len(data))
                )
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the agent has gone, or was ended in the midst; or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=16 * 1024 * 1024)
    model = Model(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", answer)
    try:
        yield model
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections)
