"""A REST server of a few lines, recorded answers, and the reference they must fit."""

import json
from pathlib import Path

import httpx
import jsonschema
import pytest
import yaml

from cdpbridge.api import AsyncClient

SPEC = Path(__file__).parents[1] / "data" / "browser-use-cloud-v2.openapi.yaml"
KEY = "key-of-tests"
BASE_URL = "https://rest.test/api/v2"
BROWSER_ID = "11111111-2222-4333-8444-555555555555"
CDP_URL = f"https://{BROWSER_ID}.cdp0.browser-use.com"

# As the reference gives them; its own examples carry no zone.
BROWSER = {
    "id": BROWSER_ID,
    "status": "active",
    "liveUrl": f"https://live.browser-use.com?wss={CDP_URL}",
    "cdpUrl": CDP_URL,
    "timeoutAt": "2026-11-02T13:00:00Z",
    "startedAt": "2026-11-02T12:00:00Z",
    "finishedAt": None,
}
PROFILE = {
    "id": "99999999-2222-4333-8444-555555555555",
    "name": "work",
    "lastUsedAt": None,
    "createdAt": "2026-11-01T12:00:00Z",
    "updatedAt": "2026-11-01T12:00:00Z",
    "cookieDomains": ["example.com"],
}
ACCOUNT = {
    "name": "Tests",
    "monthlyCreditsBalanceUsd": 0.1,
    "additionalCreditsBalanceUsd": 99.975,
    "totalCreditsBalanceUsd": 100.075,
    "rateLimit": 10,
    "planInfo": {
        "planName": "paid",
        "subscriptionStatus": None,
        "subscriptionId": None,
        "subscriptionCurrentPeriodEnd": None,
        "subscriptionCanceledAt": None,
    },
    "projectId": "77777777-2222-4333-8444-555555555555",
}


def page_of(items, *, total=None, number=1, size=100):
    total = len(items) if total is None else total
    return {"items": items, "totalItems": total, "pageNumber": number, "pageSize": size}


class Rest:
    """Answers what it is told, in turn, the last one for ever; an exception is raised instead."""

    def __init__(self):
        self.requests = []
        self.answers = [httpx.Response(200, json=BROWSER)]
        self.pauses = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def body(self):
        return json.loads(self.requests[-1].content)

    def client(self, **options):
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return AsyncClient(KEY, BASE_URL, http_client=http, **options)


@pytest.fixture
def rest(monkeypatch):
    """Pauses between tries are noted, not waited for."""
    rest = Rest()

    async def note(seconds):
        rest.pauses.append(seconds)

    monkeypatch.setattr("cdpbridge.api._async_io.sleep", note)
    return rest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("BROWSER_USE_API_KEY", "CDPBRIDGE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def fits():
    """Is a value what the reference's schema of that name says?"""
    document = json.loads(json.dumps(yaml.safe_load(SPEC.read_text()), default=str))

    def fits(name, value):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        validator = jsonschema.Draft202012Validator
        jsonschema.validate(value, schema, cls=validator, format_checker=validator.FORMAT_CHECKER)

    return fits
