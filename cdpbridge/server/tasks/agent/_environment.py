"""The environment that agents run in: is browser-use there? Asked once, of its own interpreter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["AgentEnvironment", "look_at"]

_ASK_SECONDS: Final = 20  # for a cold disk; normally 0.1
_ASK: Final = """
import importlib.metadata, importlib.util, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": sys.version_info[:2], "browser_use": version("browser-use"),
    "missing": [name for name in ("browser_use", "jsonschema") if importlib.util.find_spec(name) is None],
    "onepassword": importlib.util.find_spec("onepassword") is not None,
}))
"""


@dataclass(frozen=True, slots=True)
class AgentEnvironment:
    """The packages that an interpreter offers.

    Attributes:
        version: Of browser-use.
        onepassword: Whether 1Password's SDK is there.
        refusal: Why no agent can run in it.
    """

    python: Path
    version: str | None = None
    onepassword: bool = False
    refusal: str | None = None


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
        environment = AgentEnvironment(path, found["browser_use"], found["onepassword"])
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
