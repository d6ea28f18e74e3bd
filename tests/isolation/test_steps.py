"""What `doctor` finds out about the kernel, one by one."""

import errno
import subprocess

import pytest

from cdpbridge.chromium import uses_browser_uids
from cdpbridge.chromium._uid_ranges import default_uids
from cdpbridge.cli._doctor_machine import isolation_checks
from cdpbridge.isolation import Step, probe_command, read_steps
from tests.isolation.kernel import needs_isolation
from tests.user_namespace import run_in_user_namespace

WORKING = [Step(name, 0, "") for name in ("namespaces", "mounts", "network", "pages", "processes")]


def outcome(steps):
    return [(each.status, each.text, each.remedy) for each in isolation_checks(steps)]


def test_each_step_is_a_line():
    assert {status for status, _, _ in outcome([*WORKING, Step("landlock", 0, "7")])} == {"ok"}
    assert outcome([*WORKING, Step("landlock", 0, "0")])[-1][0] == "warn"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (
            Step("namespaces", errno.EPERM, "clone: Operation not permitted"),
            "kernel.unprivileged_userns_clone",
        ),
        (Step("namespaces", errno.ENOSPC, "clone: No space left on device"), "user.max_user_namespaces"),
        (
            Step("mounts", errno.EACCES, "open_tree /usr: Permission denied"),
            "AppArmor forbids mount",
        ),
        (
            Step("processes", errno.EPERM, "mount proc at /proc: Operation not permitted"),
            "systempaths=unconfined",
        ),
        (Step("namespaces", errno.ENOSYS, "clone: Function not implemented"), "Linux 5.12"),
    ],
)
def test_what_is_refused_is_named_with_what_grants_it(step, words):
    steps = [each for each in WORKING if each.name != step.name]
    refused = [
        (text, remedy)
        for status, text, remedy in outcome([*steps, step, Step("landlock", 0, "7")])
        if status == "warn"
    ]
    [(text, remedy)] = refused
    assert step.detail in text
    assert words in remedy


def test_what_is_not_reached_says_so():
    found = outcome([Step("namespaces", errno.EPERM, "clone"), Step("landlock", 0, "7")])
    assert [text.endswith("that needs what is missing above") for _, text, _ in found] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]


@needs_isolation
def test_what_this_kernel_offers():
    """As it is for the browsers of this process's own server; it leaves no process behind."""
    uid = default_uids()[0] if uses_browser_uids() else None
    done = subprocess.run(probe_command(uid), capture_output=True, text=True, check=True, timeout=60)
    found = {each.name: each for each in read_steps(done.stdout)}
    assert list(found) == ["namespaces", "mounts", "network", "pages", "processes", "landlock"], done.stdout
    for name in ("namespaces", "mounts", "network"):
        assert not found[name].error, found[name]
    assert done.stderr == ""


@pytest.mark.skipif(not uses_browser_uids(), reason="only root may make a user namespace with other limits")
def test_a_kernel_that_allows_no_user_namespaces():
    program = (
        "import subprocess, sys\nfrom pathlib import Path\n"
        "Path('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "from cdpbridge.isolation import probe_command\n"
        "print(subprocess.run(probe_command(700000), capture_output=True, text=True).stdout)\n"
    )
    done = run_in_user_namespace("0 0 4294967295", program)
    [namespaces, _landlock] = read_steps(done.stdout.strip())
    assert (namespaces.name, namespaces.error) == ("namespaces", errno.ENOSPC), (done.stdout, done.stderr)
    assert "user.max_user_namespaces" in isolation_checks([namespaces])[0].remedy
