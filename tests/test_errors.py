"""Errors leave a worker process whole: every class of the package, found by walking the tree."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID

import pytest

import cdpbridge
from cdpbridge.errors import (
    APIStatusError,
    BrowserExpired,
    CDPBridgeError,
    CommandTimeout,
    ConnectionClosed,
    LeaseTimeout,
    NavigationError,
)
from cdpbridge.errors._base import seconds_text
from cdpbridge.server.workers._auth import Status
from tests.cases import cases

# A script that only alembic runs; and what is installed in the environment of agents only.
NOT_HERE = {"cdpbridge.server.store.migrations.env"}
OF_AGENTS = {"PIL", "browser_use", "onepassword", "pypdf"}
OF_EXTRAS = {
    "crawlee",
    "griffe",
    "ray",
    "robot",
}  # not in the environment of the lowest versions, `ray` in none but that of slow tests
AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
# An argument for each annotation that an error's `__init__` has; a new one needs a line here.
SAMPLES = {
    "Any": [{"loc": ["body", "timeout"], "msg": "too long"}],
    "BaseException | str": "no answer",
    "ConnectionClosed | None": ConnectionClosed(1001, "session expired", sent=True),
    "HTTPStatus": HTTPStatus.NOT_FOUND,
    "Status | None": Status.NO_BROWSER,
    "Sequence[str]": ["browser 1", "browser 2"],
    "bool": True,
    "bool | None": False,
    "bytes": b"\x00raw",
    "datetime": AT,
    "datetime | None": AT,
    "float | None": 1.5,
    "int": 503,
    "int | None": 17,
    "object": UUID(int=7),
    "object | None": UUID(int=8),
    "list[bytes]": [b"Basic"],
    "str": "some text",
    "str | None": "more text",
    "timedelta": timedelta(seconds=2.5),
}


def subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def all_errors():
    """Every exception that some module of the package defines, inside the tree and outside it."""
    for module in pkgutil.walk_packages(cdpbridge.__path__, "cdpbridge."):
        if module.name not in NOT_HERE and not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name not in OF_AGENTS | OF_EXTRAS:
                    raise
    found = {each for each in subclasses(Exception) if each.__module__.startswith("cdpbridge")}
    return sorted(found, key=lambda each: (each.__module__, each.__qualname__))


def sample(kind):
    """One with a value for every argument that it takes."""
    given, named = [], {}
    if not inspect.isfunction(kind.__init__):  # that of Exception
        given = ["some text"]
    else:
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[name] = SAMPLES[parameter.annotation]
            else:
                given.append(SAMPLES[parameter.annotation])
    error = kind(*given, **named)
    error.add_note("a note")
    return error


@pytest.fixture(scope="module")
def errors():
    return [sample(kind) for kind in all_errors()]


def same(one, other):
    def plain(attributes):  # an error compares by identity
        return {
            name: (type(value), str(value)) if isinstance(value, BaseException) else value
            for name, value in vars(attributes).items()
        }

    assert type(one) is type(other)
    assert (str(one), repr(one), one.args) == (str(other), repr(other), other.args)
    assert plain(one) == plain(other)
    assert one.__notes__ == other.__notes__


def test_the_tree_is_found(errors):
    assert {type(error) for error in errors} >= {BrowserExpired, LeaseTimeout, APIStatusError, CDPBridgeError}
    assert len(errors) > 60


def test_every_error_is_copied_and_pickled(errors):
    for error in errors:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            once = pickle.loads(pickle.dumps(error, protocol))
            same(once, error)
            same(pickle.loads(pickle.dumps(once, protocol)), error)
        same(copy.copy(error), error)
        same(copy.deepcopy(error), error)


def test_a_note_on_a_copy_is_none_of_the_original():
    error = sample(LeaseTimeout)
    copy.copy(error).add_note("item 3")
    assert error.__notes__ == ["a note"]


def test_a_copy_has_no_cause_and_no_more_than_the_error_says():
    """An exception's cause, context and traceback are not in its pickle: they may hold what the text leaves out."""
    try:
        try:
            raise ValueError("https://key-that-is-secret.example")
        except ValueError as cause:
            raise sample(BrowserExpired) from cause
    except BrowserExpired as error:
        pickled = pickle.dumps(error)
    assert b"secret" not in pickled
    assert (pickle.loads(pickled).__cause__, pickle.loads(pickled).__context__) == (None, None)


TIMEOUTS = {
    "APITimeoutError",
    "ActionTimeout",
    "CommandTimeout",
    "ConnectTimeout",
    "DownloadTimeout",
    "LeaseTimeout",
    "NoFreeSlot",
    "TaskTimeout",
}


def test_a_wait_that_took_too_long_is_a_timeout_error(errors):
    """`except TimeoutError` is what users write; each such class can still be told from `asyncio.timeout`'s own error."""
    timeouts = [error for error in errors if isinstance(error, TimeoutError)]
    assert {type(error).__name__ for error in timeouts} == TIMEOUTS
    named = {type(error).__name__ for error in errors if "timeout" in type(error).__name__.lower()}
    assert named <= TIMEOUTS
    for error in timeouts:
        assert str(error) == error.args[0]  # an OSError with a number would print that
        assert (error.errno, error.filename) == (None, None)


class Ours(CDPBridgeError):
    """A user's own, whose text is not what it is made with."""

    def __init__(self, *, shop, tries):
        super().__init__(f"{shop} after {tries}")
        self.shop, self.tries = shop, tries


class OnDisk(CDPBridgeError, OSError):
    """One with fields that only C code sees."""


class Several(CDPBridgeError, ExceptionGroup):
    """One that holds others."""


def test_errors_of_users_that_inherit_ours():
    for copied in (copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))):
        ours = copied(Ours(shop="a", tries=3))
        assert (str(ours), ours.shop, ours.tries) == ("a after 3", "a", 3)
        full = copied(OnDisk(28, "No space left on device", "/data/x"))
        assert (full.errno, full.filename, str(full)) == (28, "/data/x", str(OnDisk(*_DISK)))
        group = copied(Several("both", [ours, ValueError("b")]))
        assert [str(each) for each in group.exceptions] == ["a after 3", "b"]


_DISK = (28, "No space left on device", "/data/x")

WORKERS = """
import concurrent.futures, multiprocessing, pickle, sys

def fail(pickled):
    raise pickle.loads(pickled)

def told(call):
    try:
        call()
    except Exception as error:
        return type(error).__qualname__, str(error), vars(error).get("__notes__"), sorted(vars(error))
    return None

def main():
    given = pickle.loads(open(sys.argv[1], "rb").read())
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        futures = [told(pool.submit(fail, each).result) for each in given]
    with spawn.Pool(1) as pool:
        results = [told(pool.apply_async(fail, (each,)).get) for each in given]
    sys.stdout.buffer.write(pickle.dumps((futures, results)))

if __name__ == "__main__":
    main()
"""


@pytest.mark.programs
def test_every_error_leaves_a_worker_process(errors, tmp_path):
    """One that cannot be read ends the executor, and hangs `multiprocessing.Pool` for ever."""
    script, given = tmp_path / "workers.py", tmp_path / "given"
    script.write_text(WORKERS)
    given.write_bytes(pickle.dumps([pickle.dumps(error) for error in errors]))
    done = subprocess.run([sys.executable, script, given], capture_output=True, timeout=280, check=True)
    futures, results = pickle.loads(done.stdout)
    expected = [
        (type(error).__qualname__, str(error), error.__notes__, sorted(vars(error))) for error in errors
    ]
    assert futures == expected
    assert results == expected


@cases(
    ("url", "kept"),
    [
        ("http://user:topsecret@example.com/a@b", "http://example.com/a@b"),
        ("user:topsecret@example.com", "example.com"),
        ("//user:topsecret@example.com", "//example.com"),
        ("view-source:https://user:topsecret@example.com", "view-source:https://example.com"),
        ("https://user:top@topsecret@example.com", "https://example.com"),
        ("https://example.com/@user?mail=a@b", "https://example.com/@user?mail=a@b"),
        ("data:text/html,a@b", "data:text/html,a@b"),
    ],
)
def test_a_navigation_error_has_no_password(url, kept):
    error = NavigationError(url, f"it failed: {url!r}; is it https://{url.lstrip('/')} ?")
    assert error.url == kept
    assert kept.lstrip("/") in str(error)
    assert "topsecret" not in f"{error} {error.args} {vars(error)}"


@cases(
    ("seconds", "text"),
    [
        (2.00174, "2 s"),
        (30, "30 s"),
        (1.25, "1.25 s"),
        (0.4, "0.4 s"),
        (0.3004, "0.3 s"),
        (0.0123, "0.012 s"),
        (12.34567, "12.3 s"),
        (100.04, "100 s"),
        (86400.0, "86400 s"),
        (0, "0 s"),
    ],
)
def test_durations_are_written_as_exactly_as_a_reader_needs(seconds, text):
    assert seconds_text(seconds) == seconds_text(timedelta(seconds=seconds)) == text
    error = CommandTimeout("Page.reload", target="page T", waited=timedelta(seconds=seconds))
    assert str(error).endswith(f"within {text}")
    assert error.waited == timedelta(seconds=seconds)
