"""The operations on files."""

import httpx
import pytest

from cdpbridge.api import UPLOAD_CONTENT_TYPES
from tests.cases import cases

from .conftest import UNKNOWN

OF_SESSION = "/files/sessions/{session_id}/presigned-url"
OF_BROWSER = "/files/browsers/{session_id}/presigned-url"
OUTPUT = "/files/tasks/{task_id}/output-files/{file_id}"
GOOD = {"fileName": "note.txt", "contentType": "text/plain", "sizeBytes": 3}


def owner(api, template):
    return (api.session() if template == OF_SESSION else api.browser())["id"]


@pytest.mark.parametrize("template", [OF_SESSION, OF_BROWSER])
def test_presigned_form(api, template):
    """Lines 1635-1658: address, method, fields, name and age of an upload; no other headers are needed."""
    given = api.call("POST", template, GOOD, status=200, session_id=owner(api, template))
    assert (given["method"], given["fileName"], given["expiresIn"]) == ("POST", "note.txt", 600)
    assert given["fields"]["Content-Type"] == "text/plain"
    sent = httpx.post(given["url"], data=given["fields"], files={"file": ("note.txt", b"abc")})
    assert sent.status_code == 204
    sent = httpx.post(given["url"], data=given["fields"], files={"file": ("note.txt", b"abc")})
    assert sent.status_code == 409  # an address is for one upload
    for content, status in ((b"abcd", 413), (b"ab", 400)):
        given = api.call("POST", template, GOOD, status=200, session_id=owner(api, template))
        sent = httpx.post(given["url"], data=given["fields"], files={"file": ("note.txt", content)})
        assert sent.status_code == status
    sent = httpx.post(
        given["url"], data=given["fields"] | {"policy": "x"}, files={"file": ("note.txt", b"abc")}
    )
    assert sent.status_code == 401


@cases("kind", UPLOAD_CONTENT_TYPES)
def test_content_types(api, kind):
    """Lines 1604-1621: each of the fourteen types, which the part must have."""
    given = api.call(
        "POST", OF_BROWSER, GOOD | {"contentType": kind}, status=200, session_id=api.browser()["id"]
    )
    wrong = "image/png" if kind != "image/png" else "text/plain"
    for sent, status in ((wrong, 400), (kind, 204)):
        answer = httpx.post(given["url"], data=given["fields"], files={"file": ("x", b"abc", sent)})
        assert answer.status_code == status


@pytest.mark.parametrize("template", [OF_SESSION, OF_BROWSER])
def test_unsupported_type(api, template):
    """Lines 1543-1596: 400 for another type."""
    for kind in ("application/zip", "TEXT/PLAIN", ""):
        body = GOOD | {"contentType": kind}
        answer = api.call("POST", template, body, status=400, session_id=owner(api, template))
        assert answer["detail"] == "Unsupported content type"


@pytest.mark.parametrize("template", [OF_SESSION, OF_BROWSER])
def test_required_fields(api, template):
    """Lines 1622-1634: name, type and size are needed."""
    ids = {"session_id": owner(api, template)}
    for name in GOOD:
        body = {key: value for key, value in GOOD.items() if key != name}
        api.refused("POST", template, body, name, **ids)
    for size in (0, 10_485_761, "3", 3.5):
        api.refused("POST", template, GOOD | {"sizeBytes": size}, "sizeBytes", **ids)
    api.refused("POST", template, GOOD | {"fileName": ""}, "fileName", **ids)
    assert (
        "/" not in api.call("POST", template, GOOD | {"fileName": "../../x"}, status=200, **ids)["fileName"]
    )


@pytest.mark.parametrize("template", [OF_SESSION, OF_BROWSER])
def test_owner(api, template):
    """Lines 1661-1777: 404 for an owner that is not there, 400 for one that is stopped."""
    api.call("POST", template, GOOD, status=404, session_id=UNKNOWN)
    api.call("POST", template, GOOD, status=422, session_id="nonsense")
    ids = {"session_id": owner(api, template)}
    stop = "/sessions/{session_id}" if template == OF_SESSION else "/browsers/{session_id}"
    api.call("PATCH", stop, {"action": "stop"}, status=200, **ids)
    api.call("POST", template, GOOD, status=400, **ids)


def test_output_file(api):
    """Lines 1779-1848: a file that a task has written, by a signed address."""
    task = api.done()
    [file] = task["outputFiles"]
    found = api.call("GET", OUTPUT, status=200, task_id=task["id"], file_id=file["id"])
    assert (found["id"], found["fileName"]) == (file["id"], "answer.txt")
    assert httpx.get(found["downloadUrl"]).content == b"0123456789"
    api.call("GET", OUTPUT, status=404, task_id=UNKNOWN, file_id=file["id"])
    api.call("GET", OUTPUT, status=404, task_id=task["id"], file_id=UNKNOWN)
    api.call("GET", OUTPUT, status=422, task_id=task["id"], file_id="nonsense")
