"""Each way to run the image: what the self-test of isolation makes of it, and which option its message names."""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from _container import Options
from _trial import AS_COMPOSE, PROFILE, READY, UID, Rows, Trial

__all__ = ["ways_to_run"]

# Where Debian's packages of buildah have Docker's default.
_DOCKERS_OWN: Final = Path("/usr/share/containers/seccomp.json")
# What a server needs that runs as root, so that each browser has a uid of its own.
_OF_ROOT: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")
_AS_ROOT: Final = Options(
    PROFILE, user=0, capabilities=_OF_ROOT, tmpfs=("/run", "/tmp", "/var/lib/cdpbridge")
)
_FIRST_UID: Final = 1_000_000
_NAMESPACES: Final = ("clone", "unshare")
_REFUSED: Final = "browsers cannot be isolated here"


@dataclass(frozen=True)
class _Way:
    """One way to run it.

    Attributes:
        name: For the table.
        options: Of the container.
        found: For the table, if it is as expected.
        words: What the log has to say.
        starts: Or else it ends with an error.
        owner: Of the volume.
    """

    name: str
    options: Options
    found: str
    words: Collection[str] = ()
    starts: bool = True
    owner: int = UID


def _ways(work: Path) -> Iterator[_Way]:
    yield _Way("as compose.yaml runs it", AS_COMPOSE, "isolation on: all of it")
    yield _Way(
        "without systempaths=unconfined",
        replace(AS_COMPOSE, masked=True),
        "isolation on, no process namespace: the log names the option",
        ("no process namespace", "systempaths=unconfined"),
    )
    yield _Way(
        "as root with six capabilities", _AS_ROOT, "isolation on, each browser with a uid of its own", owner=0
    )
    yield _Way(
        "in a user namespace (hostUsers: false)",
        replace(AS_COMPOSE, first_uid=_FIRST_UID),
        "isolation on: all of it",
        owner=_FIRST_UID + UID,
    )
    yield _Way(
        "as root in a user namespace",
        replace(_AS_ROOT, first_uid=_FIRST_UID),
        "isolation on, each browser with a uid of its own",
        owner=_FIRST_UID,
    )

    def refused(name: str, profile: Path, *words: str) -> _Way:
        found = "does not start: the message names the option"
        return _Way(name, replace(AS_COMPOSE, seccomp=profile), found, (_REFUSED, *words), starts=False)

    yield refused(
        "with Docker's default seccomp profile", _DOCKERS_OWN, "--security-opt seccomp=seccomp.json"
    )
    # Then it permits what isolation needs, and much else. The user of the container holds neither of the two.
    yield _Way(
        "the same, --cap-add SYS_ADMIN, SYS_CHROOT",
        replace(AS_COMPOSE, seccomp=_DOCKERS_OWN, capabilities=("CAP_SYS_ADMIN", "CAP_SYS_CHROOT")),
        "isolation on: all of it",
    )
    for call in ("mount", "pivot_root", "umount2", "open_tree", "move_mount", "mount_setattr", "chroot"):
        profile = _refusing(work, errno.EPERM, call)
        yield refused(f"a profile that refuses {call}", profile, "--security-opt seccomp=seccomp.json", call)
    # AppArmor answers with another error than a filter of system calls; there is none on this machine.
    yield refused(
        "as where AppArmor refuses mount",
        _refusing(work, errno.EACCES, "mount"),
        "--security-opt apparmor=unconfined",
    )
    yield refused(
        "as where AppArmor refuses user namespaces",
        _refusing(work, errno.EACCES, *_NAMESPACES),
        "--security-opt apparmor=cdpbridge",
    )
    yield refused(
        "as where no user namespace is left",
        _refusing(work, errno.ENOSPC, *_NAMESPACES),
        "sysctl user.max_user_namespaces",
    )
    named = "does not start: the message names the option"
    yield _Way(
        "without --tmpfs /tmp",
        replace(AS_COMPOSE, tmpfs=("/run",)),
        named,
        ("--tmpfs /tmp:mode=1777",),
        starts=False,
    )
    yield _Way(
        "without a volume",
        replace(AS_COMPOSE, volume=False),
        named,
        ("--volume cdpbridge:/data",),
        starts=False,
    )
    yield _Way(
        "as root with 20,000 uids",
        replace(_AS_ROOT, first_uid=_FIRST_UID, uids=20_000),
        "does not start: the message names the setting",
        ("set browser_uids",),
        starts=False,
        owner=_FIRST_UID,
    )


def _refusing(work: Path, number: int, *calls: str) -> Path:
    """Write our profile without these calls; user namespaces are refused, other processes are not."""
    profile = json.loads(PROFILE.read_text())
    rules = [
        {**rule, "names": [name for name in rule["names"] if name not in calls]}
        for rule in profile["syscalls"]
    ]
    rules = [rule for rule in rules if rule["names"]]
    for call in calls:
        rules.append({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": number})
        if call in _NAMESPACES:
            user = 0x10000000
            rules[-1]["args"] = [{"index": 0, "value": user, "valueTwo": user, "op": "SCMP_CMP_MASKED_EQ"}]
            plain = [{"index": 0, "value": user, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
            rules.append({"names": [call], "action": "SCMP_ACT_ALLOW", "args": plain})
    file = work / f"seccomp-{'-'.join(calls)}-{number}.json"
    file.write_text(json.dumps(profile | {"syscalls": rules}))
    return file


def ways_to_run(trial: Trial) -> Rows:
    """Say what the self-test makes of each way to run the image.

    Raises:
        AssertionError: It is not as it must be.
        RuntimeError: The container did not start.
    """
    for number, way in enumerate(_ways(trial.work)):
        data = trial.data(f"way-{number}", way.owner)
        with trial.run(data, options=way.options) as container:
            if way.starts:
                seconds = container.wait_for(READY)
                if number == 0:
                    yield "first start to ready, self-test included", f"{seconds:.1f} s"
                # On, and nothing to warn of.
                assert way.words or "isolation of browsers" not in container.text, container.text
            else:
                assert container.wait() != 0, (way.name, container.text)
            for words in way.words:
                assert words in container.text, (way.name, words, container.text)
            yield way.name, way.found
