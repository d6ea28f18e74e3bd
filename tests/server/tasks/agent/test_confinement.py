"""An agent's process reaches its own files, its browser and its model, and nothing else of the machine."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cdpbridge.isolation import _kernel
from cdpbridge.server.tasks.agent import _child_confinement as confinement
from tests.server.tasks.agent.llm import done, go

SPEC = {
    "confine": "require",
    "cdp_url": "http://127.0.0.1:8700/cdp/token",
    "llm_base_url": "https://models.example.com/v1",
    "op_vault_id": None,
    "uploads": [],
}
LANDLOCK = _kernel.landlock_version() if sys.platform == "linux" else 0
needs_landlock = pytest.mark.skipif(
    LANDLOCK < 4, reason="the kernel has no Landlock, or none for ports (Linux 6.7)"
)


@pytest.mark.parametrize(
    ("more", "environment", "expected"),
    [
        ({}, {}, [53, 443, 8700]),
        ({"llm_base_url": "http://127.0.0.1:11434/v1"}, {}, [53, 8700, 11434]),
        ({"llm_base_url": "http://127.0.0.1:1/v1", "op_vault_id": "vault"}, {}, [1, 53, 443, 8700]),
        ({}, {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": ""}, [53, 443, 3128, 8700]),
    ],
)
def test_the_ports_that_an_agent_needs(more, environment, expected):
    assert confinement.ports(SPEC | more, environment) == expected


def test_the_files_that_an_agent_may_read_are_no_users_and_no_keys(tmp_path):
    upload = tmp_path / "upload.txt"
    upload.touch()
    found = confinement.readable(
        SPEC | {"uploads": [str(upload), str(tmp_path / "absent")]}, {"SSL_CERT_FILE": "/absent"}
    )
    assert str(upload) in found
    assert os.path.realpath(sys.prefix) in found
    assert not {"/", "/etc", "/usr", "/etc/passwd", "/root", "/home", str(tmp_path)} & set(found)


class _Without:
    """A kernel without Landlock."""

    @staticmethod
    def landlock_version():
        return 0


def test_a_kernel_without_the_rules():
    assert confinement.confine(_Without, SPEC | {"confine": "auto"}) == "off: the kernel has no Landlock"
    assert confinement.confine(_Without, SPEC | {"confine": "none"}).startswith("off: the setting")
    with pytest.raises(confinement.Refused, match="the kernel has no Landlock"):
        confinement.confine(_Without, SPEC)


# As the child does it, then everything that code in the agent could try.
ATTACKS = """
import json, os, signal, socket, sys
from importlib.util import module_from_spec, spec_from_file_location

def load(path):
    found = spec_from_file_location("loaded", path)
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module

spec, files, ports, parent = json.loads(sys.argv[1])
print(load(sys.argv[2]).confine(load(sys.argv[3]), spec), flush=True)

def attempt(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "done"

found = {}
for name, path in files.items():
    found["read " + name] = attempt(lambda: open(path, "rb").read(1))
    found["write " + name] = attempt(lambda: open(path, "ab").close())
for name, port in ports.items():
    found["connect " + name] = attempt(lambda: socket.create_connection(("127.0.0.1", port), 5).close())
found["listen"] = attempt(lambda: socket.create_server(("127.0.0.1", 0)).close())
found["execute"] = attempt(lambda: os.posix_spawn("/bin/true", ["true"], {}))
found["signal"] = attempt(lambda: os.kill(parent, 0))
found["environ"] = attempt(lambda: open(f"/proc/{parent}/environ", "rb").read(1))
found["memory"] = attempt(lambda: open(f"/proc/{parent}/mem", "rb").read(1))
found["link"] = attempt(lambda: os.link(files["a key"], spec["folder"] + "/link"))
found["list"] = attempt(lambda: os.listdir("/etc"))
print(json.dumps(found))
"""


@needs_landlock
def test_fault_d17_what_code_in_an_agent_reaches(tmp_path):
    """Its environment, its task's folder, its browser's port: these, and no key, task, process or service of the machine."""
    own, other = tmp_path / "task", tmp_path / "other-task"
    for folder in (own, other):
        folder.mkdir()
    key, its = tmp_path / "signing.key", own / "its.txt"
    for path in (key, its, other / "log"):
        path.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as browser, socket.create_server(("127.0.0.1", 0)) as service:
        ports = {"its browser": browser.getsockname()[1], "a service": service.getsockname()[1]}
        spec = SPEC | dict.fromkeys(("folder", "shared", "scratch"), str(own))
        spec["cdp_url"] = f"http://127.0.0.1:{ports['its browser']}/cdp/x"
        files = {
            "its own": str(its),
            "a key": str(key),
            "another task": str(other / "log"),
            "users": "/etc/passwd",
            "shadow": "/etc/shadow",
        }
        modules = [confinement.__file__, _kernel.__file__]
        arguments = [json.dumps([spec, files, ports, os.getpid()]), *modules]
        run = subprocess.run(
            [sys.executable, "-c", ATTACKS, *arguments], capture_output=True, text=True, check=True
        )
    state, found = run.stdout.splitlines()
    assert state.startswith("on: files, executables, ports")
    done_, refused = set(), set()
    for name, how in json.loads(found).items():
        (done_ if how == "done" else refused).add(name)
    assert done_ == {"read its own", "write its own", "connect its browser"} | (
        {"signal"} if LANDLOCK < 6 else set()
    ), found
    assert len(refused) >= 14
    assert not (own / "link").exists()


@needs_landlock
@pytest.mark.chromium
@pytest.mark.one_build("the agent does not see the build")
async def test_fault_d17_an_agent_that_a_page_leads_astray(make_server, make_desk, model):
    """It is told to open files and private addresses, and shows its model nothing of them; it works all the same."""
    async with make_server(isolation="require", private_network="deny") as server:
        browser = await server.rent()
        async with make_desk(isolation="require") as desk:
            desk.cdp_url = browser["cdpUrl"]
            astray = [
                "file:///etc/passwd",
                f"file://{server.data_dir}/signing.key",
                "http://169.254.169.254/latest/",
            ]
            answers = [*map(go, astray), done("never mind")]
            model.answer = lambda _, number: answers[number - 1]
            result = await desk.do()
        assert result.output == "never mind"
        assert Path(result.log).read_text().startswith("confinement of the agent: on")
        shown = "\n".join(request.text for request in model.requests)
        assert "root:x:0" not in shown
        assert "ami-id" not in shown
