"""The environment that agents run in: is browser-use there? Asked once, of its own interpreter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["AgentEnvironment", "look_at"]

_TOO_MUCH: Final = frozenset({"/", "/usr", "/tmp", "/var/tmp"})  # noqa: S108  # nothing is written there
_ASK_SECONDS: Final = 20  # for a cold disk; normally 0.1
_ASK: Final = """
import importlib.metadata, importlib.util, json, os, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "executable": sys.executable,
    "libraries": [sys.prefix, sys.base_prefix, *sys.path],
    "variables": {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH") if name in os.environ},
    "python": sys.version_info[:2], "browser_use": version("browser-use"),
    "missing": [name for name in ("browser_use", "jsonschema") if importlib.util.find_spec(name) is None],
    "onepassword": importlib.util.find_spec("onepassword") is not None,
}))
"""


@dataclass(frozen=True, slots=True)
class AgentEnvironment:
    """The packages that an interpreter offers.

    Attributes:
        python: What is executed; it may be a script that finds the interpreter.
        version: Of browser-use.
        onepassword: Whether 1Password's SDK is there.
        refusal: Why no agent can run in it.
        executable: The interpreter itself, as it names itself.
        libraries: Folders and archives that its modules are in.
        variables: Of its environment, as a script may have set them.
    """

    python: Path
    version: str | None = None
    onepassword: bool = False
    refusal: str | None = None
    executable: str = ""
    libraries: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def look_at(python: Path | None) -> AgentEnvironment:
    """Return what this interpreter offers; default: our own."""
    named = str((python or Path(sys.executable)).expanduser())
    # Not resolved: what a virtual environment is, its interpreter knows by its own path. Absolute: agents run elsewhere.
    path = Path(shutil.which(named) or named).absolute()
    where = "agent_python" if python else "the server's own environment"
    install = f"{path} -m pip install browser-use jsonschema, or name another environment in `agent_python`"
    try:
        asked = subprocess.run(  # noqa: S603  # the operator's own setting
            [path, "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        found = json.loads(asked.stdout)
        environment = AgentEnvironment(
            path,
            found["browser_use"],
            found["onepassword"],
            executable=found.get("executable") or str(path),
            libraries=_shown(found.get("libraries") or ()),
            variables=found.get("variables") or {},
        )
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        words = (said if isinstance(said, str) else said.decode(errors="replace")).strip()
        why = f"{where} ({path}) is no Python that works: {error}{f': {words[-500:]}' if words else ''}"
        return AgentEnvironment(path, refusal=f"{why}; {install}")
    if found["python"] < [3, 11]:
        return AgentEnvironment(path, refusal=f"{where} ({path}) is older than Python 3.11; {install}")
    if found["missing"]:
        missing = ", ".join(found["missing"])
        return AgentEnvironment(path, refusal=f"{missing} is not installed in {where}: {install}")
    return environment


def _shown(paths: Iterable[str]) -> tuple[str, ...]:
    """Return these paths without folders that hold more than a Python: "/usr" does where the system's own is asked."""
    return tuple(dict.fromkeys(path for path in paths if path.startswith("/") and path not in _TOO_MUCH))
