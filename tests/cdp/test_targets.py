"""The tree of attachments."""

import pytest

from cdpbridge.cdp._targets import Crash, Targets
from cdpbridge.errors import TargetClosed, TargetCrashed


@pytest.fixture
def targets():
    return Targets()


def grow(targets):
    page, _ = targets.attach(targets.root, "P", "page-target", "page")
    frame, _ = targets.attach(page, "F", "frame-target", "iframe")
    worker, _ = targets.attach(frame, "W", "worker-target", "worker")
    return page, frame, worker


def test_attach_is_told_once(targets):
    page, new = targets.attach(targets.root, "P", "T", "page")
    assert new
    again, new = targets.attach(targets.root, "P", "T", "page")
    assert again is page
    assert not new
    assert targets.root.children == {"P": page}
    assert targets.nodes == {"": targets.root, "P": page}


def test_two_sessions_on_one_target(targets):
    one, _ = targets.attach(targets.root, "A", "T", "page")
    two, _ = targets.attach(targets.root, "B", "T", "page")
    assert one is not two
    assert [node.session_id for node in targets.detach("A")] == ["A"]
    assert two.closed is None


def test_detach_takes_descendants_along(targets):
    page, frame, worker = grow(targets)
    assert targets.detach("P") == [page, frame, worker]
    assert [node.closed for node in (page, frame, worker)] == ["closed", "parent", "parent"]
    assert targets.nodes == {"": targets.root}
    assert not targets.root.children


def test_detach_of_a_child_leaves_the_parent(targets):
    page, frame, worker = grow(targets)
    assert targets.detach("F") == [frame, worker]
    assert page.closed is None
    assert not page.children


@pytest.mark.parametrize("session_id", ["", "unknown"])
def test_detach_of_nothing(targets, session_id):
    assert targets.detach(session_id) == []
    assert targets.root.closed is None


def test_reason_tells_who_detached(targets):
    page, *_ = grow(targets)
    page.detaching = True
    targets.detach("P")
    assert page.closed == "detached"
    assert isinstance(page.error(), TargetClosed)
    assert page.error("Page.reload").reason == "detached"
    assert "Page.reload" in str(page.error("Page.reload"))


def test_crash_is_news_once_and_grows(targets):
    page, *_ = grow(targets)
    assert targets.crash(page, Crash())
    assert not targets.crash(page, Crash("killed", 9))
    assert not targets.crash(page, Crash())
    error = page.error("Runtime.evaluate")
    assert isinstance(error, TargetCrashed)
    assert (error.status, error.error_code) == ("killed", 9)
    targets.detach("P")
    assert page.closed == "crashed"


def test_crash_forgets_what_the_renderer_held(targets):
    page, *_ = grow(targets)
    page.dialog = {"type": "alert"}
    page.paused["r1"] = None
    assert "alert" in page.hint()
    assert "1 requests" in page.hint()
    targets.crash(page, Crash())
    assert page.hint() is None


def test_crash_of_a_target_marks_each_session(targets):
    one, _ = targets.attach(targets.root, "A", "T", "page")
    two, _ = targets.attach(targets.root, "B", "T", "page")
    other, _ = targets.attach(targets.root, "C", "U", "page")
    targets.crash(one, Crash())
    assert targets.crash_target("T", Crash("crashed", 5)) == [two]
    assert one.crash == two.crash == Crash("crashed", 5)
    assert other.crash is None


def test_revive(targets):
    page, *_ = grow(targets)
    targets.crash(page, Crash())
    targets.revive(page)
    assert page.crash is None


def test_description(targets):
    page, *_ = grow(targets)
    assert page.describe() == "page page-tar"
    assert targets.root.describe() == "browser"
    assert targets.root.error().reason == "closed"
