"""A server of a few lines with one task, for what waits for tasks."""

import json
from uuid import UUID

import httpx

TASK_ID = UUID("22222222-2222-4333-8444-555555555555")
SESSION_ID = UUID("33333333-2222-4333-8444-555555555555")
LIVE_URL = "https://live.browser-use.com?wss=secret"
NOW = "2026-11-02T12:00:00Z"


class Service:
    """A server with one task, which makes a step each time it is looked at, and a clock that moves when it is waited for."""

    def __init__(self):
        self.steps = 3
        self.done = 0
        self.output = "42"
        self.end = "finished"
        self.stopped = None
        self.session = None
        self.has_status = True
        self.log = []
        self.body = None
        self.failures = []  # for the requests to come, in turn
        self.refuse = {}  # (method, path) -> response
        self.now = 0.0

    def __call__(self, request):
        path = request.url.path.removeprefix("/api/v2")
        self.log.append(f"{request.method} {path.replace(str(TASK_ID), 'T').replace(str(SESSION_ID), 'S')}")
        if self.failures and request.method == "GET":
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            if failure is not None:
                return failure
        if (refusal := self.refuse.get((request.method, path))) is not None:
            if isinstance(refusal, Exception):
                raise refusal
            return refusal
        body = json.loads(request.content) if request.content else None
        return self.answer(request.method, path, body)

    def answer(self, method, path, body):
        match method, path.split("/")[1:]:
            case "POST", ["tasks"]:
                self.body = body
                self.session = self.session or "active"
                return httpx.Response(202, json={"id": str(TASK_ID), "sessionId": str(SESSION_ID)})
            case "POST", ["sessions"]:
                self.session_body, self.session = body, "active"
                return httpx.Response(201, json=self.session_view())
            case "GET", ["sessions", _]:
                return httpx.Response(200, json=self.session_view() | {"tasks": []})
            case "PATCH", ["sessions", _]:
                self.session = "stopped"
                return httpx.Response(200, json=self.session_view() | {"tasks": []})
            case "GET", ["tasks", _, "status"]:
                if not self.has_status:
                    return httpx.Response(404, json={"detail": "Not Found"})
                self.move()
                return httpx.Response(200, json={"id": str(TASK_ID), "status": self.status})
            case "GET", ["tasks", _]:
                self.move()
                return httpx.Response(200, json=self.view())
            case "PATCH", ["tasks", _]:
                self.stopped = body["action"]
                if body["action"] == "stop_task_and_session":
                    self.session = "stopped"
                return httpx.Response(200, json=self.view())
        raise AssertionError((method, path))

    def move(self):
        self.done = min(self.done + 1, self.steps)

    @property
    def status(self):
        if self.stopped:
            return "stopped"
        return self.end if self.done == self.steps else "started"

    def session_view(self):
        return {"id": str(SESSION_ID), "status": self.session, "liveUrl": LIVE_URL, "startedAt": NOW}

    def view(self):
        over = self.status != "started"
        step = {"memory": "m", "evaluationPreviousGoal": "e", "nextGoal": "g", "url": "u", "actions": []}
        return {
            "id": str(TASK_ID),
            "sessionId": str(SESSION_ID),
            "llm": "gpt-4o",
            "task": "t",
            "status": self.status,
            "startedAt": NOW,
            "output": self.output if over else None,
            "isSuccess": True if over else None,
            "steps": [step | {"number": number} for number in range(self.done, 0, -1)],
            "outputFiles": [],
        }

    def patches(self):
        return [line for line in self.log if line.startswith("PATCH")]
