"""What is in `examples/deploy`: the image's description, the profiles, Compose and Kubernetes files; and all of it tried, once, slowly."""

from __future__ import annotations

import ast
import ctypes.util
import errno
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cdpbridge._environment import SERVER_SETTINGS
from tests.cases import cases

from . import programs
from .conftest import RunningServer

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"
PROFILE = json.loads((DEPLOY / "seccomp.json").read_text())
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

# linux/sched.h
NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x80,
    0x20000,
    0x2000000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
SIGCHLD = 17


# --- the seccomp profile ----------------------------------------------------------------------------------------------


def answer(call: str, *arguments: int) -> int:
    """What the profile makes of a system call: 0 when it passes, else the error."""
    compare = {
        "SCMP_CMP_EQ": lambda value, rule: value == rule["value"],
        "SCMP_CMP_MASKED_EQ": lambda value, rule: value & rule["value"] == rule["valueTwo"],
    }
    for rule in PROFILE["syscalls"]:
        if call in rule["names"] and all(
            compare[each["op"]](arguments[each["index"]], each) for each in rule.get("args", ())
        ):
            return 0 if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
    return PROFILE["defaultErrnoRet"]


@cases(
    "call",
    [
        ("clone", NEWUSER | NEWNS | NEWNET | NEWIPC | NEWUTS | NEWPID | SIGCHLD),
        ("clone", SIGCHLD),
        ("unshare", NEWUSER | NEWNS),
        *[
            (name,)
            for name in (
                "setns",
                "mount",
                "umount2",
                "pivot_root",
                "chroot",
                "sethostname",
                "seccomp",
                "prctl",
            )
        ],
        *[(f"landlock_{name}",) for name in ("create_ruleset", "add_rule", "restrict_self")],
        *[("socket", family) for family in (1, 2, 10, 16)],
    ],
    ids=str,
)
def test_the_profile_permits_what_isolation_needs(call):
    assert answer(*call) == 0


def test_the_profile_permits_every_system_call_that_isolation_makes_by_number():
    tree = ast.parse((ROOT / "cdpbridge" / "isolation" / "_kernel.py").read_text())
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    numbers = [each.args[1] for each in calls if ast.unparse(each.func) == "_call"]
    numbers += [each.args[0].args[0] for each in calls if ast.unparse(each.func) == "_libc.syscall"]
    names = {ast.unparse(each).removeprefix("_") for each in numbers} - {"number"}
    assert {"PIVOT_ROOT", "OPEN_TREE", "MOVE_MOUNT", "MOUNT_SETATTR", "CLONE"} <= names
    for name in names:
        assert answer(name.lower(), NEWUSER) == 0, name


@cases(
    "call",
    [
        ("clone", NEWUSER | NEWCGROUP | SIGCHLD),
        ("unshare", NEWCGROUP),
        ("unshare", NEWUSER | NEWTIME),
        *[("socket", family) for family in (17, 38, 40)],  # AF_PACKET, AF_ALG, AF_VSOCK
        ("personality", 0x0040000),  # ADDR_NO_RANDOMIZE
        *[
            (name,)
            for name in (
                "acct",
                "add_key",
                "bpf",
                "delete_module",
                "finit_module",
                "fsconfig",
                "fsmount",
                "fsopen",
                "init_module",
                "io_uring_setup",
                "ioperm",
                "iopl",
                "kexec_file_load",
                "kexec_load",
                "keyctl",
                "modify_ldt",
                "name_to_handle_at",
                "open_by_handle_at",
                "perf_event_open",
                "pidfd_getfd",
                "process_vm_readv",
                "process_vm_writev",
                "ptrace",
                "quotactl",
                "reboot",
                "request_key",
                "settimeofday",
                "swapon",
                "syslog",
                "userfaultfd",
            )
        ],
    ],
    ids=str,
)
def test_the_profile_refuses_what_reaches_the_machine(call):
    assert answer(*call) == errno.EPERM


def test_the_profile_sends_the_c_library_from_clone3_to_clone():
    assert answer("clone3") == errno.ENOSYS


def test_the_profile_is_read_alike_by_docker_and_by_other_runtimes():
    """Conditions (`includes`, `excludes`, `archMap`) are Docker's own: others leave them out, and permit more."""
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert PROFILE["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert PROFILE.keys() == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    for rule in PROFILE["syscalls"]:
        assert rule.keys() <= {"comment", "names", "action", "args", "errnoRet"}
    names = [name for rule in PROFILE["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len(names) == len(set(names))


# Loads the profile as a runtime does, then tries calls; answers with the errors, 0 for none.
UNDER_THE_PROFILE = """
import ctypes, json, os, subprocess, sys, threading
profile, name = json.load(open(sys.argv[1])), sys.argv[2]
library = ctypes.CDLL(name)
library.seccomp_init.restype = ctypes.c_void_p
class Compare(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]
ALLOW, ERRNO = 0x7fff0000, 0x00050000
OPS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ERRNO | profile["defaultErrnoRet"])))
for rule in profile["syscalls"]:
    action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"]
    given = [Compare(each["index"], OPS[each["op"]], each["value"], each["valueTwo"]) for each in rule.get("args", ())]
    for call in rule["names"]:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else of another architecture, or newer than the library
            done = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(given), (Compare * len(given))(*given))
            assert done == 0, (call, done)
assert library.seccomp_load(context) == 0
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0 else 0
def resolved(call):
    return library.seccomp_syscall_resolve_name(call.encode())
found = {}
thread = threading.Thread(target=lambda: found.update(thread=0)); thread.start(); thread.join()
found["program"] = subprocess.run(["/bin/true"]).returncode
found["ptrace"] = tried(resolved("ptrace"), 0)
found["AF_ALG"] = tried(resolved("socket"), 38, 2, 0)
found["AF_INET"] = tried(resolved("socket"), 2, 1, 0)
found["clone3"] = tried(435, 0, 0)
found["cgroup"] = tried(resolved("unshare"), 0x2000000)
found["bpf"] = tried(resolved("bpf"), 0, 0, 0)
found["keyctl"] = tried(resolved("keyctl"), 0, 0, 0)
found["unshare"] = tried(resolved("unshare"), 0x10020000)
found["mount"] = 0 if libc.mount(None, b"/", None, 16384 | (1 << 18), None) == 0 else ctypes.get_errno()
print(json.dumps(found))
"""


@pytest.mark.skipif(
    platform.machine() not in MACHINES or ctypes.util.find_library("seccomp") is None,
    reason="no libseccomp, which container engines load profiles with",
)
def test_the_profile_does_in_the_kernel_what_it_says():
    command = [sys.executable, "-c", UNDER_THE_PROFILE, str(DEPLOY / "seccomp.json")]
    done = subprocess.run(
        [*command, ctypes.util.find_library("seccomp") or ""],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    refused = {name: error for name, error in found.items() if error}
    assert refused == {
        "ptrace": errno.EPERM,
        "AF_ALG": errno.EPERM,
        "clone3": errno.ENOSYS,
        "cgroup": errno.EPERM,
        "bpf": errno.EPERM,
        "keyctl": errno.EPERM,
    }
    assert set(found) - set(refused) == {"thread", "program", "AF_INET", "unshare", "mount"}


# --- the image --------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Name and text of each instruction of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def test_the_image_is_of_any_base_and_its_last_stage_compiles_nothing():
    found = instructions()
    assert found[0] == ("ARG", "BASE=debian:bookworm-slim")
    assert [text.split()[0] for name, text in found if name == "FROM"] == ["${BASE}", "${BASE}"]
    programs_of_it = " ".join(text for name, text in last_stage() if name == "RUN")
    assert not set(programs_of_it.split()) & {"gcc", "build-essential", "python3-dev", "python3-venv", "pip"}
    assert {"chromium", "chromium-headless-shell", "fonts-noto-cjk", "fonts-noto-color-emoji", "tini"} <= set(
        programs_of_it.split()
    )


def test_the_image_runs_as_an_ordinary_user_below_an_init_and_requires_isolation():
    found = dict(last_stage())
    uid, gid = map(int, found["USER"].split(":"))
    assert 0 < uid < 65536
    assert 0 < gid < 65536
    assert json.loads(found["ENTRYPOINT"]) == ["tini", "--", "cdpbridge"]
    assert json.loads(found["CMD"]) == ["serve"]
    assert "CDPBRIDGE_ISOLATION=require" in found["ENV"].split()
    for name in re.findall(r"CDPBRIDGE_(\w+)=", found["ENV"]):
        assert name.lower() in SERVER_SETTINGS


def test_the_image_has_every_file_that_it_copies():
    for name, text in instructions():
        if name == "COPY" and "--from" not in text:
            for source in text.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


@pytest.mark.chromium
@pytest.mark.one_build("no browser is rented")
def test_the_health_check_asks_the_server(server: RunningServer):
    command = json.loads(dict(last_stage())["HEALTHCHECK"].partition("CMD")[2])
    port = re.search(r":(\d+)/", server.base_url)
    assert port is not None

    def status(number: str) -> int:
        environment = os.environ | {"CDPBRIDGE_PORT": number, "http_proxy": "http://127.0.0.1:1"}
        return subprocess.run(
            [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=60, check=False
        ).returncode

    assert status(port[1]) == 0
    assert status("1") != 0


# --- Compose ----------------------------------------------------------------------------------------------------------


def services(name: str) -> dict[str, Any]:
    """The services of a Compose file that run the image."""
    found = yaml.safe_load((DEPLOY / name).read_text())["services"]
    return {key: service for key, service in found.items() if service.get("image") == "cdpbridge"}


def substituted(text: str, shell: dict[str, str]) -> str:
    """A value as Compose reads it: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        return shell[name] if kind == ":?" else shell.get(name, rest or "")

    return re.sub(r"\$\{(\w+)(:[-?])?([^}]*)\}", value, text)


@pytest.mark.parametrize(
    ("file", "service"),
    [
        (file, service)
        for file in ("compose.yaml", "compose.cluster.yaml")
        for service in services(file).values()
    ],
)
def test_compose_runs_it_with_what_isolation_needs_and_no_more(file, service):
    assert service["read_only"] is True
    assert {mount.partition(":")[0] for mount in service["tmpfs"]} == {"/run", "/tmp"}
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "userns_mode"} & service.keys()
    options = dict(re.split("[=:]", each, maxsplit=1) for each in service["security_opt"])
    assert options == {
        "no-new-privileges": "true",
        "seccomp": "seccomp.json",
        "systempaths": "unconfined",
        "apparmor": "${APPARMOR_PROFILE:-unconfined}",
    }
    assert (DEPLOY / options["seccomp"]).exists()
    assert service["stop_grace_period"] == "60s"
    # A worker is reached by servers only.
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:870\d:8700", port)
    assert ("ports" in service) is ("command" not in service)
    assert (
        DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]
    ).resolve() == DEPLOY / "Dockerfile"
    for variable in service["environment"]:
        assert variable.partition("=")[0].removeprefix("CDPBRIDGE_").lower() in SERVER_SETTINGS


def test_a_cluster_shares_database_and_storage_and_each_server_has_an_address_and_a_volume(monkeypatch):
    from cdpbridge.server import Settings

    found = {name: each for name, each in services("compose.cluster.yaml").items() if "command" not in each}
    assert len(found) == 2
    addresses = set()
    shell = {
        "CDPBRIDGE_API_KEYS": "key-of-tests",
        "CDPBRIDGE_SECRET_KEY": "x" * 32,
        "CDPBRIDGE_WORKER_SECRET": "y" * 32,
        "POSTGRES_PASSWORD": "word",
        "STORAGE_PASSWORD": "other",
    }
    for service in found.values():
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, substituted(value, shell))
        settings = Settings.load()
        assert settings.database_url is not None
        assert settings.database_url.get_secret_value().startswith("postgresql+asyncpg://")
        assert settings.storage_url == "s3://cdpbridge"
        assert settings.browsers == "workers"
        assert settings.worker_secret is not None
        assert settings.served_names == [*found, "127.0.0.1"]
        assert settings.storage_options["secret_access_key"].get_secret_value() == "other"
        addresses.add((settings.public_url, *service["volumes"]))
    assert addresses == {("http://127.0.0.1:8701", "data-1:/data"), ("http://127.0.0.1:8702", "data-2:/data")}
    assert ("ARG", "EXTRAS=local,recording,cluster") in instructions()


def options_of(command: list[str]) -> dict[str, Any]:
    """The options of `cdpbridge worker` as it reads them; it raises for one that it does not have."""
    from cdpbridge.cli._app import app

    assert command[0] == "worker"
    worker = app.get_command(click.Context(app), "worker")
    assert worker is not None
    return worker.make_context("worker", command[1:]).params


def test_compose_of_several_servers_has_workers_that_register_with_each():
    everything = services("compose.cluster.yaml")
    servers = [name for name, each in everything.items() if "command" not in each]
    workers = [each for each in everything.values() if "command" in each]
    assert len(workers) == 2
    for each in workers:
        options = options_of(each["command"])
        assert options["servers"] == tuple(f"http://{name}:8700" for name in servers)
        # The image's own asks a server.
        assert options["listen"].endswith(":8710")
        check = each["healthcheck"]["test"]
        with socket.create_server(("127.0.0.1", 0)) as listening:
            command = [part.replace("8710", str(listening.getsockname()[1])) for part in check[2:]]
            assert subprocess.run([sys.executable, *command], timeout=60, check=False).returncode == 0
        done = subprocess.run([sys.executable, *command], capture_output=True, timeout=60, check=False)
        assert done.returncode != 0
        # No other secret: pages that mean harm are opened there.
        assert each["environment"] == {"CDPBRIDGE_WORKER_SECRET": "${CDPBRIDGE_WORKER_SECRET}"}
    assert len({each["volumes"][0] for each in workers}) == 2


def test_compose_with_tls_believes_the_proxy_and_no_other_address(monkeypatch):
    from cdpbridge.server import Settings

    found = yaml.safe_load((DEPLOY / "compose.tls.yaml").read_text())
    values = dict(each.split("=", 1) for each in found["services"]["server"]["environment"])
    for name, value in values.items():
        monkeypatch.setenv(name, substituted(value, {"DOMAIN": "browsers.example.com"}))
    [network] = found["networks"]["default"]["ipam"]["config"]
    settings = Settings.load()
    assert settings.trusted_proxies == [network["subnet"]]
    assert settings.public_url == "https://browsers.example.com"


@pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="no apparmor_parser on this machine")
def test_the_apparmor_profile_is_one():
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--stdout", DEPLOY / "apparmor"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# --- Kubernetes -------------------------------------------------------------------------------------------------------


# With several servers: those of one, changed, and more.
CLUSTER = DEPLOY.with_name("deploy-cluster")
OVERLAYS = (DEPLOY, CLUSTER)


def manifests(overlay: Path = DEPLOY) -> list[dict[str, Any]]:
    found = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    return [
        each
        for path in found["resources"]
        if (overlay / path).is_file()
        for each in yaml.safe_load_all((overlay / path).read_text())
        if each
    ]


def kind(name: str, overlay: Path = DEPLOY) -> dict[str, Any]:
    [found] = [each for each in manifests(overlay) if each["kind"] == name]
    return found


def validate(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_each_manifest_is_valid_by_the_published_schema():
    for manifest in [each for overlay in OVERLAYS for each in manifests(overlay)]:
        validate(manifest)


def test_the_check_of_manifests_finds_a_misspelt_field():
    from kubernetes_validate import ValidationError

    manifest = kind("Deployment")
    manifest["spec"]["template"]["spec"]["hostUser"] = False
    with pytest.raises(ValidationError, match="hostUser"):
        validate(manifest)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_kustomize_makes_valid_manifests_of_all_files():
    for overlay in OVERLAYS:
        done = subprocess.run(
            ["kubectl", "kustomize", overlay], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        made = list(yaml.safe_load_all(done.stdout))
        kinds = [m["kind"] for m in manifests()]
        if overlay == CLUSTER:
            kinds = [m["kind"] for m in manifests(CLUSTER)] + kinds
            # Nothing is kept on a server.
            kinds.remove("PersistentVolumeClaim")
            [server] = [each["spec"] for each in made if each["kind"] == "Deployment"]
            assert server["replicas"] == 2
            assert server["strategy"] == {"type": "RollingUpdate"}
            assert {"name": "data", "emptyDir": {}} in server["template"]["spec"]["volumes"]
        assert sorted(each["kind"] for each in made) == sorted([*kinds, "ConfigMap"])
        for manifest in made:
            validate(manifest)
    [laid] = [each["data"]["seccomp.json"] for each in made if each["kind"] == "ConfigMap"]
    assert json.loads(laid) == PROFILE


def test_the_pod_has_what_isolation_needs_and_no_more():
    pod = kind("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["hostUsers"] is False
    assert pod["enableServiceLinks"] is False  # or CDPBRIDGE_PORT is an address
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(dict(last_stage())["USER"].split(":")[0])
    rights = container["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["procMount"] == "Unmasked"
    assert rights["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp", "/run"}
    # The file that the DaemonSet lays is the one that the pod asks for.
    [install] = kind("DaemonSet")["spec"]["template"]["spec"]["initContainers"]
    assert Path(install["command"][-1]).name == pod["securityContext"]["seccompProfile"]["localhostProfile"]
    assert kind("Deployment")["spec"]["strategy"]["type"] == "Recreate"


def test_a_worker_has_what_isolation_needs_and_one_secret():
    [workers] = [
        each["spec"]["template"]["spec"]
        for each in manifests(CLUSTER)
        if each["kind"] == "StatefulSet" and each["metadata"]["name"] == "worker"
    ]
    server = kind("Deployment")["spec"]["template"]["spec"]
    for name in ("hostUsers", "enableServiceLinks", "automountServiceAccountToken"):
        assert workers[name] is server[name] is False
    # Its folder is new with each pod.
    changed = {"fsGroupChangePolicy": "OnRootMismatch"}
    assert workers["securityContext"] | changed == server["securityContext"]
    [container], [of_server] = workers["containers"], server["containers"]
    assert container["securityContext"] == of_server["securityContext"]
    options = options_of(container["args"])
    assert options["servers"] == (f"http://{kind('Service')['metadata']['name']}:8700",)
    assert workers["terminationGracePeriodSeconds"] > options["drain"]
    secrets = [
        each["valueFrom"]["secretKeyRef"]["key"]
        for each in container["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    ]
    assert secrets == ["CDPBRIDGE_WORKER_SECRET"]
    [certificate] = [
        mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "certificate"
    ]
    files = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert files == {
        "CDPBRIDGE_WORKER_TLS_CERTIFICATE": f"{certificate}/tls.crt",
        "CDPBRIDGE_WORKER_TLS_KEY": f"{certificate}/tls.key",
    }
    assert "envFrom" not in container
    [allowed] = [each["spec"]["ingress"] for each in manifests(CLUSTER) if each["kind"] == "NetworkPolicy"]
    assert allowed[0]["from"] == [{"podSelector": {"matchLabels": kind("Service")["metadata"]["labels"]}}]


def test_emptying_nodes_takes_one_server_and_one_worker_at_a_time():
    budgets = [each for each in manifests(CLUSTER) if each["kind"] == "PodDisruptionBudget"]
    assert {each["metadata"]["name"] for each in budgets} == {"server", "worker"}
    for each in budgets:
        assert each["spec"]["maxUnavailable"] == 1
    # One server with a volume: a budget would keep its node from being emptied.
    assert "PodDisruptionBudget" not in {each["kind"] for each in manifests()}
    selected = [each["spec"]["selector"]["matchLabels"] for each in budgets]
    everything = [*manifests(), *manifests(CLUSTER)]
    pods = [each["spec"]["template"] for each in everything if "template" in each.get("spec", {})]
    for labels in selected:
        assert sum(pod.get("metadata", {}).get("labels") == labels for pod in pods) == 1


def test_every_container_that_serves_is_probed_and_limited():
    for each in [*manifests(), *manifests(CLUSTER)]:
        if each["kind"] in {"Deployment", "StatefulSet"} and "selector" in each["spec"]:
            [container] = each["spec"]["template"]["spec"]["containers"]
            assert {"startupProbe", "readinessProbe"} <= container.keys(), container["name"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


# --- all of it --------------------------------------------------------------------------------------------------------

NEEDED = ("buildah", "crun", "debootstrap")

# In namespaces of its own: a mount in its folder, and a process that ignores signals and outlives its parent.
APART = """
import subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from _apart import run_apart
if "--folder" not in sys.argv:
    sys.exit(run_apart([sys.executable, "-c", Path(sys.argv[3]).read_text(), *sys.argv[1:]], Path(sys.argv[2])))
folder = Path(sys.argv[-1])
(folder / "mounted").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "mounted"], check=True)
subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 600"], cwd=folder, start_new_session=True)
print(folder, flush=True)
sys.exit(3) if sys.argv[4] == "fails" else time.sleep(600)
"""


def processes_in(folder: Path) -> list[str]:
    """Processes whose working folder is, or was, below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if str(folder) in os.readlink(entry / "cwd"):
                    found.append(entry.name)
            except OSError:  # it has ended
                continue
    return found


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None,
    reason="needs root, setpriv and unshare",
)
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(None, 3, id="fails in the middle"),
        pytest.param(signal.SIGINT, 128 + signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
    ],
)
def test_the_trial_leaves_no_process_no_mount_and_no_folder(tmp_path, sent, status):
    program, place = tmp_path / "apart.py", tmp_path / "place"
    program.write_text(APART)
    place.mkdir()
    how = "fails" if sent is None else "waits"
    command = [sys.executable, "-c", APART, str(DEPLOY), str(place), str(program), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith(str(place)), process.stderr.read() if process.stderr else ""
        if sent is not None:
            assert processes_in(place)
            process.send_signal(sent)
        assert process.wait(60) == status
    finally:
        process.kill()
        process.communicate()
    assert list(place.iterdir()) == []
    assert processes_in(place) == []
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.slow  # builds an image of 1.5 GB and starts a hundred servers: half an hour
@pytest.mark.chromium
@pytest.mark.one_build("runs both: rentals with a profile on the full build, others on the shell")
@pytest.mark.timeout(7200)
@pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(each) is None for each in NEEDED),
    reason="needs root, and the packages buildah, crun and debootstrap",
)
def test_fault_b19_the_image_is_built_and_holds(tmp_path):
    """Both builds: rentals with a profile run on the full one, the others on the shell."""
    storage = Path("/var/lib/containers")
    existed = storage.exists()
    done = programs.run(
        [sys.executable, str(DEPLOY / "verify.py"), "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=7000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "demo, both builds",
        "attacks",
        "50 kills, SIGTERM and SIGKILL in turns",
        "SIGTERM with 50 profiles to save",
        "none is left",
        "restored",
        "ledger of both servers",
    ):
        assert words in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == []
    assert storage.exists() == existed
