"""What a browser is shown of a machine, as data: no kernel is asked."""

import json

import pytest

from cdpbridge.isolation import PROXY_PORT, Folders, Launch, Means, Mount, Plan, Report, explain, make_plan
from cdpbridge.isolation._landlock import attributes, rules
from cdpbridge.isolation._links import error_of, messages
from tests.cases import cases

FOLDER, FILE = "folder", "file"
DEBIAN = {
    "/lib": ("usr/lib",),
    "/lib64": ("usr/lib64",),
    "/usr": FOLDER,
    "/usr/lib": FOLDER,
    "/usr/lib/x86_64-linux-gnu": FOLDER,
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": FILE,
    "/usr/lib64": FOLDER,
    "/usr/lib64/ld-linux-x86-64.so.2": ("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",),
    "/usr/lib/chromium": FOLDER,
    "/usr/lib/chromium/chromium": FILE,
    "/usr/lib/chromium/chrome_crashpad_handler": FILE,
    "/usr/bin": FOLDER,
    "/usr/bin/python3": FILE,
    "/usr/share": FOLDER,
    "/usr/share/fonts": FOLDER,
    "/etc": FOLDER,
    "/etc/fonts": FOLDER,
    "/etc/shadow": FILE,
    "/tmp": FOLDER,
    "/tmp/profile": FOLDER,
    "/var": FOLDER,
    "/var/run": ("/run",),
    "/run": FOLDER,
    "/run/uploads": FOLDER,
}
BINARY = "/usr/lib/chromium/chromium"
ON = Means()


def plan(folders, means=ON, machine="x86_64", **changes):
    tree = DEBIAN | changes.pop("tree", {})
    return make_plan(folders, means, tree.get, machine)


def mounts(made):
    return {mount.target: mount for mount in made.mounts}


def test_only_what_a_browser_needs_is_there():
    made = mounts(plan(Folders(BINARY, ["/tmp/profile"])))
    assert made["/usr/lib/x86_64-linux-gnu"] == Mount(
        "bind", "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", code=True
    )
    assert made["/usr/lib/chromium"].code
    assert not made["/usr/lib/chromium"].writable
    assert made["/tmp/profile"].writable
    assert not made["/tmp/profile"].code
    for absent in ("/", "/usr", "/usr/bin", "/etc", "/etc/shadow", "/home", "/root", "/run", "/var"):
        assert absent not in made


def test_nothing_that_can_be_written_can_be_code():
    made = plan(Folders(BINARY, ["/tmp/profile", "/usr/lib/chromium"]), tree={})
    assert not [mount for mount in made.mounts if mount.writable and mount.code]


def test_a_link_is_shown_as_a_link_to_its_real_path():
    made = mounts(plan(Folders(BINARY, [], ["/var/run/uploads"])))
    assert made["/var/run"] == Mount("link", "/var/run", "/run")
    assert made["/run/uploads"] == Mount("bind", "/run/uploads", "/run/uploads")
    assert made["/lib64"].source == "usr/lib64"
    assert made["/usr/lib64/ld-linux-x86-64.so.2"].kind == "link"


def test_only_chromium_and_the_loader_are_executable():
    assert plan(Folders(BINARY, ["/tmp/profile"])).executables == (
        BINARY,
        "/usr/lib/chromium/chrome_crashpad_handler",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    )


def test_a_binary_among_other_programs_comes_alone():
    made = mounts(plan(Folders("/usr/bin/chrome", []), tree={"/usr/bin/chrome": FILE}))
    assert made["/usr/bin/chrome"] == Mount(
        "bind", "/usr/bin/chrome", "/usr/bin/chrome", folder=False, code=True
    )
    assert "/usr/bin" not in made


def test_a_system_without_folders_of_an_architecture_shows_all_libraries():
    tree = {"/usr/lib/x86_64-linux-gnu": None, "/usr/lib64/libc.so": FILE}
    made = mounts(plan(Folders(BINARY, []), tree=tree))
    assert made["/usr/lib64"].code
    assert made["/usr/lib"].code
    assert "/usr/lib/chromium" not in made  # seen through its parent


def test_parents_come_before_what_is_in_them():
    made = [mount.target for mount in plan(Folders(BINARY, ["/tmp/profile"])).mounts]
    assert made.index("/tmp") < made.index("/tmp/profile")
    assert made.index("/dev") < made.index("/dev/shm") < len(made)


def test_a_folder_that_may_be_changed_inside_one_that_may_be_read():
    tree = {"/tmp/profile/downloads": FOLDER}
    made = mounts(plan(Folders(BINARY, ["/tmp/profile/downloads"], ["/tmp/profile"]), tree=tree))
    assert not made["/tmp/profile"].writable
    assert made["/tmp/profile/downloads"].writable


def test_a_folder_that_may_be_read_and_changed_may_be_changed():
    made = mounts(plan(Folders(BINARY, ["/tmp/profile"], ["/tmp/profile"])))
    assert made["/tmp/profile"].writable


def test_what_is_shown_at_home():
    tree = {"/home": FOLDER, "/home/me": FOLDER, "/home/me/.fonts": FOLDER}
    home = {"/home/me/.fonts": "/tmp/profile/.fonts", "/home/me/.absent": "/tmp/profile/.absent"}
    made = mounts(plan(Folders(BINARY, ["/tmp/profile"], home=home), tree=tree))
    assert made["/tmp/profile/.fonts"] == Mount("bind", "/tmp/profile/.fonts", "/home/me/.fonts")
    assert "/home/me/.fonts" not in made
    assert "/tmp/profile/.absent" not in made


def test_what_is_hidden_is_empty_but_for_what_a_browser_is_given_in_it():
    tree = dict.fromkeys(
        ["/home", "/home/me", "/home/me/data", "/home/me/data/x", "/home/me/data/x/profile", "/srv"], FOLDER
    )
    own = "/home/me/data/x/profile"
    made = plan(Folders(BINARY, [own], ["/home/me"], hidden=["/home/me/data", "/srv", "/absent"]), tree=tree)
    shown = mounts(made)
    assert (shown["/home/me"].kind, shown["/home/me/data"].kind, shown[own].writable) == (
        "bind",
        "tmpfs",
        True,
    )
    assert "/srv" not in shown
    targets = [mount.target for mount in made.mounts]
    assert targets.index("/home/me") < targets.index("/home/me/data") < targets.index(own)
    assert "/home/me/data" not in made.writable


def test_what_is_read_and_hidden_may_be_read():
    tree = dict.fromkeys(["/home", "/home/me", "/home/me/data"], FOLDER)
    made = plan(Folders(BINARY, [], ["/home/me", "/home/me/data"], hidden=["/home/me/data"]), tree=tree)
    assert "tmpfs" not in {mount.kind for mount in made.mounts if mount.target.startswith("/home")}


@pytest.mark.parametrize("folders", [Folders("/nowhere/chrome", []), Folders(BINARY, ["/tmp/absent"])])
def test_what_is_not_there_cannot_be_shown(folders):
    with pytest.raises(FileNotFoundError, match="cannot be shown to the browser"):
        plan(folders)


def test_links_in_a_circle_end():
    tree = {"/a": ("b",), "/b": ("a",), "/c": ("../c/d",)}
    for path in ("/a", "/c"):
        with pytest.raises(FileNotFoundError):
            plan(Folders(BINARY, [path]), tree=tree)


def test_without_a_process_namespace_the_machines_proc_is_bound():
    made = mounts(plan(Folders(BINARY, []), Means(processes=False)))
    assert (made["/proc"].kind, made["/proc"].source) == ("bind", "/proc")
    assert mounts(plan(Folders(BINARY, [])))["/proc"].kind == "proc"


def test_messages_come_back_as_they_were():
    launch = Launch(plan(Folders(BINARY, ["/tmp/profile"])), 700_001, ("/x", "--y"), {"HOME": "/z"})
    back = Launch.decode(launch.encode())
    assert back.plan == launch.plan
    assert (back.uid, list(back.arguments), back.environment) == (700_001, ["/x", "--y"], {"HOME": "/z"})
    agent = Launch(
        plan(Folders(BINARY, [])), 700_001, (), {}, 700_002, (2, 0, 1), (("127.0.1.1", 443),), False, True
    )
    assert Launch.decode(agent.encode()).encode() == agent.encode()
    assert Launch.decode(agent.encode()).listeners == agent.listeners
    report = Report("failed", error=1, step="mounts", detail="x")
    assert Report.decode(report.encode()) == report
    assert PROXY_PORT < 32768  # below the range in which the kernel gives Chromium its own port


# --- the second layer -------------------------------------------------------------------------------------------------

EXECUTE, WRITE_FILE, READ_FILE, MAKE_CHAR, TRUNCATE = 1, 2, 4, 1 << 6, 1 << 14


def test_landlock_lets_nothing_but_chromium_be_executed():
    made = plan(Folders(BINARY, ["/tmp/profile"]))
    allowed = rules(made, 7)
    assert {path for path, rights in allowed if rights & EXECUTE} == set(made.executables)
    writable = {path for path, rights in allowed if rights & WRITE_FILE}
    assert writable == {"/tmp/profile", "/tmp", "/dev/shm", "/dev", "/proc"}
    assert not any(rights & MAKE_CHAR for _, rights in allowed)


@cases("version", range(1, 9))
def test_landlock_is_asked_for_what_its_version_knows(version):
    made = plan(Folders(BINARY, ["/tmp/profile"]))
    handled = int.from_bytes(attributes(version)[:8], "little")
    assert bool(handled & TRUNCATE) == (version >= 3)
    assert len(attributes(version)) == (8 if version < 4 else 16 if version < 6 else 24)
    for _, rights in rules(made, version):
        assert rights
        assert not rights & ~handled


# --- the network ------------------------------------------------------------------------------------------------------


def test_messages_to_the_kernel_say_how_long_they_are():
    made = list(messages())
    assert len(made) == 7
    for message in made:
        assert int.from_bytes(message[:4], "little") == len(message)
        assert len(message) % 4 == 0


def test_an_answer_of_the_kernel():
    def answer(kind, error):
        return (
            b"\x24\0\0\0" + kind.to_bytes(2, "little") + bytes(10) + error.to_bytes(4, "little", signed=True)
        )

    assert error_of(answer(2, 0)) == 0
    assert error_of(answer(2, -95)) == 95
    with pytest.raises(ValueError, match="type 16"):
        error_of(answer(16, 0))


# --- what is missing --------------------------------------------------------------------------------------------------


@cases(
    ("report", "missing"),
    [
        (Report("failed", error=1, step="namespaces", detail="clone"), "--security-opt seccomp=seccomp.json"),
        (Report("failed", error=13, step="user", detail="uid_map"), "AppArmor forbids user namespaces"),
        (Report("failed", error=28, step="namespaces", detail="clone"), "user.max_user_namespaces"),
        (Report("failed", error=1, step="mounts", detail="mount proc at proc"), "systempaths=unconfined"),
        (
            Report("failed", error=1, step="mounts", detail="open_tree /usr"),
            "--security-opt seccomp=seccomp.json",
        ),
        (Report("failed", error=13, step="mounts", detail="mount tmpfs at /tmp"), "apparmor=unconfined"),
        (Report("failed", error=38, step="mounts", detail="mount_setattr"), "Linux 5.12"),
        (Report("failed", error=19, step="network", detail="lo"), "loopback interface"),
    ],
)
def test_a_refusal_says_what_is_missing(report, missing):
    assert missing in explain(report)
    assert report.detail in explain(report)


def test_a_refusal_of_another_kind_says_what_was_done():
    report = Report("failed", error=2, step="execute", detail="[Errno 2] No such file")
    assert explain(report) == "the browser cannot be isolated (execute: [Errno 2] No such file)"


def test_a_plan_survives_json():
    made = plan(Folders(BINARY, ["/tmp/profile"]), Means(landlock=False))
    assert Plan.decode(json.loads(json.dumps(made.encode()))) == made
