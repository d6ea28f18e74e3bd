"""The border to httpx: answers, failures, secrets."""

import subprocess
import sys
import traceback
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from cdpbridge import errors
from cdpbridge.api import calls
from cdpbridge.api._http import failure, read_answer
from cdpbridge.api._models import Answer
from cdpbridge.api._place import checked_base_url, checked_key
from tests.cases import cases

from .conftest import ACCOUNT, BROWSER, BROWSER_ID, CDP_URL, KEY, PROFILE, page_of

GET = calls.get_browser(BROWSER_ID)


def read(response, call=GET):
    return read_answer(call, response, secret=KEY)


def test_recorded_answers_are_the_reference_s(fits):
    fits("BrowserSessionItemView", BROWSER)
    fits("BrowserSessionView", BROWSER)
    fits("ProfileView", PROFILE)
    fits("AccountView", ACCOUNT)
    fits("BrowserSessionListResponse", page_of([BROWSER]))
    fits("ProfileListResponse", page_of([PROFILE]))


@cases(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequiredError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (418, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_fault_a85_each_status_has_its_error(status, kind):
    headers = {"X-Request-Id": "r-1", "Retry-After": "7"}
    with pytest.raises(errors.APIStatusError) as caught:
        read(httpx.Response(status, json={"detail": "no"}, headers=headers))
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.detail, error.request_id, error.retry_after) == (status, "no", "r-1", 7.0)
    assert str(error) == f"GET /browsers/{BROWSER_ID}: {status} no (request r-1)"


@cases(
    ("body", "words"),
    [
        (
            b'{"detail": [{"loc": ["body", "timeout"], "msg": "too long", "type": "x"}]}',
            "body.timeout: too long",
        ),
        (b'{"detail": [{"loc": null, "msg": "odd", "type": "x"}, "text"]}', "odd; text"),
        (b'{"detail": {"code": "spend_limit", "message": "limit reached"}}', "limit reached"),
        (b'{"message": "from elsewhere"}', "from elsewhere"),
        (b"", "422"),
        (b"[1]", "422"),
        (b"null", "422"),
        (b"\xff\xfe", "422"),
        (b"[" * 100_000, "422"),
        (b"<html><head><style>p{}</style></head><body><h1>502</h1>\n nginx</body></html>", "502 nginx"),
    ],
)
def test_whatever_an_error_says(body, words):
    with pytest.raises(errors.UnprocessableEntityError) as caught:
        read(httpx.Response(422, content=body))
    assert words in str(caught.value)
    assert "style" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_fault_a11_a_page_instead_of_the_api():
    with pytest.raises(errors.APIResponseError, match=r"begins with 'Sign in'; is the base URL"):
        read(httpx.Response(200, html="<html><body>Sign in</body></html>"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_fault_a11_a_redirect_is_told(status):
    with pytest.raises(errors.APIResponseError, match=f"{status}.*correct the base URL"):
        read(httpx.Response(status, headers={"Location": "https://elsewhere.test"}))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({key: value for key, value in BROWSER.items() if key != "timeoutAt"}, "timeoutAt: Field required"),
        (BROWSER | {"startedAt": "yesterday"}, "startedAt"),
        (BROWSER | {"id": CDP_URL}, "id: "),
        ([BROWSER], "body: "),
    ],
)
def test_an_answer_that_does_not_fit_is_named_and_not_quoted(body, words):
    with pytest.raises(errors.APIResponseError) as caught:
        read(httpx.Response(200, json=body))
    assert words in str(caught.value)
    assert "cdp0" not in "".join(traceback.format_exception(caught.value))


def test_torn_json_is_not_quoted():
    body = httpx.Response(200, json=BROWSER).content[:-40]
    with pytest.raises(errors.APIResponseError) as caught:
        read(httpx.Response(200, content=body))
    assert "cdp0" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [b"", b"null", b"\xff"])
def test_no_answer_where_one_was_promised(content):
    with pytest.raises(errors.APIResponseError):
        read(httpx.Response(200, content=content))


def test_an_empty_answer_where_none_was_promised():
    assert read(httpx.Response(204), calls.delete_profile(BROWSER_ID)) is None


@pytest.mark.parametrize("content", [f'{{"detail": "unknown key {KEY}"}}', f"<p>{KEY}</p>"])
def test_a_key_that_the_server_repeats_stays_secret(content):
    for status in (401, 200):
        with pytest.raises(errors.APIError) as caught:
            read(httpx.Response(status, text=content))
        assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [f"<p>{KEY}</p>", f'{{"id": 1, "cdpUrl": "{KEY}"}}'])
def test_the_first_answer_of_its_kind_is_not_quoted_either(content):
    """Models are built when they are used first; an adapter that was made before forgot to hide what it had read."""

    class New(Answer):
        id: UUID

    with pytest.raises(errors.APIResponseError) as caught:
        read(httpx.Response(200, text=content), replace(GET, answer=New))
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_unknown_fields_and_values_are_kept():
    browser = read(httpx.Response(200, json=BROWSER | {"status": "hibernating", "weather": "u"}))
    assert (browser.status, browser.model_extra) == ("hibernating", {"weather": "u"})


def test_a_date_without_a_zone_is_utc():
    browser = read(httpx.Response(200, json=BROWSER | {"startedAt": "2026-11-02T12:00:00"}))
    assert browser.started_at.isoformat() == "2026-11-02T12:00:00+00:00"


def test_money_is_exact():
    account = read(httpx.Response(200, json=ACCOUNT), calls.get_account())
    assert str(account.additional_credits_balance_usd) == "99.975"


@cases(
    ("error", "kind", "maybe_processed"),
    [
        (httpx.ConnectError("refused"), errors.APIConnectionError, False),
        (httpx.ConnectTimeout(""), errors.APITimeoutError, False),
        (httpx.PoolTimeout(""), errors.APITimeoutError, False),
        (httpx.ProxyError("407"), errors.APIConnectionError, False),
        (httpx.ReadTimeout(""), errors.APITimeoutError, True),
        (httpx.WriteTimeout(""), errors.APITimeoutError, True),
        (httpx.ReadError("reset"), errors.APIConnectionError, True),
        (httpx.WriteError("reset"), errors.APIConnectionError, True),
        (httpx.RemoteProtocolError("closed"), errors.APIConnectionError, True),
    ],
)
def test_fault_a11_no_answer(error, kind, maybe_processed):
    ours = failure(GET, error)
    assert (type(ours), ours.maybe_processed) == (kind, maybe_processed)


@pytest.mark.parametrize("error", [httpx.DecodingError("gzip"), httpx.InvalidURL("no")])
def test_what_is_no_failure_of_the_connection(error):
    assert type(failure(GET, error)) is errors.APIResponseError


def test_fault_a10_the_proxy_in_between_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.test:3128")
    for url, named in (("https://rest.test/", True), ("https://127.0.0.1/", False)):
        error = httpx.ConnectError("refused", request=httpx.Request("GET", url))
        text = str(failure(GET, error))
        assert ("proxy.test" in text) is named
        assert "secret" not in text


@cases(
    "url",
    [
        "",
        "localhost:1/api",
        "ftp://h",
        "http://",
        "http://h?x=1",
        "http://u:p@h",
        "http://h:0",
        "http://h:99999",
    ],
)
def test_no_base_url(url):
    with pytest.raises(errors.ConfigurationError, match="base URL"):
        checked_base_url(url)


@pytest.mark.parametrize("key", ["", "a b", "key\n", "schlüssel", "a\tb"])
def test_no_key(key):
    with pytest.raises(errors.ConfigurationError) as caught:
        checked_key(key)
    assert not key or key not in str(caught.value)


def test_httpx_comes_without_its_command_line_and_still_has_it():
    """click, rich and pygments are a sixth of what a program imports before its first request."""
    code = """
import sys
from cdpbridge.api import _async_io, _sync_io
_async_io._prepare()
# A client for an event loop talks to an embedded server without it.
assert "httpx" not in sys.modules
_sync_io._prepare()
# While the server starts, not after it: it takes as long as the rest of the program's start.
assert "httpcore" in sys.modules
from cdpbridge.api import Account, BrowserSession, Page
assert all(each.__pydantic_complete__ for each in (Account, BrowserSession, Page[BrowserSession]))
assert not {"click", "rich", "pygments", "httpx._main"} & sys.modules.keys()
import httpx
assert httpx.Client().get
httpx.main(["--help"], standalone_mode=False)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "httpx" in done.stdout
