"""Our models know everything that our server answers."""

import sys

from cdpbridge.api import PresignedUpload, Profile, Share, TaskCreated, TaskLogFile, TaskOutputFile, drift
from tests import programs
from tests.conftest import clean_environment


def test_doctor_finds_no_difference(api):
    """All: `cdpbridge doctor --all` finds nothing that differs on our own server."""
    api.call("POST", "/profiles", {"name": "x"}, status=201)
    api.browser(metadata={"a": "b"}, proxyCountryCode="de", extensionIds=[])
    api.done(llm="claude-sonnet-5", sessionSettings={"proxyCountryCode": "us"})
    environment = clean_environment(CDPBRIDGE_PROVIDER=api.base_url, BROWSER_USE_API_KEY=api.key)
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", "doctor", "--all"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 200 in ") == 10
    assert done.stdout.splitlines()[-1] == "0 differences from the models"


def test_the_other_answers_do_not_differ(api):
    """All: what `doctor` does not ask for, because it would change something, does not differ either."""
    session = api.session()
    task = api.done(sessionId=session["id"])
    ids = {"session_id": session["id"]}
    upload = {"fileName": "a.txt", "contentType": "text/plain", "sizeBytes": 3}
    file = {"task_id": task["id"], "file_id": task["outputFiles"][0]["id"]}
    for kind, answer in (
        (Profile, api.call("POST", "/profiles", {}, status=201)),
        (TaskCreated, api.call("POST", "/tasks", {"task": "Look", "sessionId": session["id"]}, status=202)),
        (TaskLogFile, api.call("GET", "/tasks/{task_id}/logs", status=200, task_id=task["id"])),
        (
            TaskOutputFile,
            api.call("GET", "/files/tasks/{task_id}/output-files/{file_id}", status=200, **file),
        ),
        (
            PresignedUpload,
            api.call("POST", "/files/sessions/{session_id}/presigned-url", upload, status=200, **ids),
        ),
        (Share, api.call("POST", "/sessions/{session_id}/public-share", status=201, **ids)),
    ):
        assert drift(kind, answer) == [], kind
