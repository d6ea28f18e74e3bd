"""What an agent's process is given: its environment, its first line, and the table of the secrets in that. Pure, but for `os.environ`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ._base import AgentSpec

__all__ = ["child_environment", "first_line", "secrets_of"]

_TOKEN_CHARACTERS: Final = 16  # shorter parts of a cdpUrl's path are words
# What a program needs to find its libraries and the way out; the rest of our environment is not the agent's business.
_PASSED_ON: Final = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# browser-use calls home in five ways; none of them from here.
_SWITCHED_OFF: Final = {
    "ANONYMIZED_TELEMETRY": "false",
    "BROWSER_USE_CLOUD_SYNC": "false",
    "BROWSER_USE_CLOUD_HINTS": "false",
    "BROWSER_USE_VERSION_CHECK": "false",
    "BROWSER_USE_DISABLE_EXTENSIONS": "1",
    "BROWSER_USE_SETUP_LOGGING": "false",
    "SKIP_LLM_API_KEY_VERIFICATION": "true",
    "PYTHON_DOTENV_DISABLED": "1",  # it would read an .env file of any folder above
    "PYTHONUTF8": "1",
}


def child_environment(scratch: Path, cdp_url: str, *, proxies: bool = True) -> dict[str, str]:
    """Return the variables of its process.

    Args:
        scratch: Folder for everything that goes when it does.
        proxies: It finds its way to the model through the server's own proxies; in a place, the server does.
    """
    names = (*_PASSED_ON, *(_PROXIES if proxies else ()))
    kept = {name: os.environ[name] for name in names if name in os.environ}
    # The way to the browser leads through no proxy.
    direct = [
        os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "",
        urlsplit(cdp_url).hostname or "",
    ]
    no_proxy = ",".join(filter(None, direct))
    return (
        kept
        | _SWITCHED_OFF
        | {"NO_PROXY": no_proxy, "no_proxy": no_proxy}
        | {"HOME": str(scratch), "TMPDIR": str(scratch), "BROWSER_USE_CONFIG_DIR": str(scratch / "config")}
    )


def secrets_of(
    spec: AgentSpec,
    secrets: Mapping[str, str | dict[str, str]],
    llm: Mapping[str, str | None],
    op_token: str | None,
) -> dict[str, str]:
    """Return every secret that the process is given: value to name."""
    hidden: dict[str, str] = {}
    for key, value in secrets.items():
        for name, secret in value.items() if isinstance(value, dict) else [(key, value)]:
            hidden.setdefault(secret, name)
    address = urlsplit(spec.cdp_url)
    parts = [part for part in address.path.split("/") if len(part) >= _TOKEN_CHARACTERS]
    ours = {"llm key": llm["llm_api_key"], "1password token": op_token, "browser query": address.query}
    ours |= {f"browser {i}": part for i, part in enumerate(parts, 1)}
    return hidden | {value: name for name, value in ours.items() if value}


def first_line(
    spec: AgentSpec,
    llm: Mapping[str, str | None],
    *,
    schema: Mapping[str, Any] | None,
    secrets: Mapping[str, str | dict[str, str]],
    op_token: str | None,
    hidden: Mapping[str, str],
    scratch: Path,
    confine: str,
    place: str,
) -> bytes:
    """Return the first line that the process reads.

    Args:
        place: What it lives in, in words, for its log.
    """
    task = {
        **llm,
        "task_id": str(spec.task_id),
        "task": spec.task,
        "cdp_url": spec.cdp_url,
        "folder": str(spec.folder),
        "shared": str(spec.shared or spec.folder),
        "scratch": str(scratch),
        "confine": confine,
        "place": place,
        "uploads": [str(path) for path in spec.uploads],
        "start_url": spec.start_url,
        "max_steps": spec.max_steps,
        "structured_output": json.dumps(schema) if schema is not None else None,
        "secrets": secrets,
        "hide": hidden,
        "allowed_domains": list(spec.allowed_domains),
        "op_vault_id": spec.op_vault_id,
        "op_service_account_token": op_token,
        "highlight_elements": spec.highlight_elements,
        "flash_mode": spec.flash_mode,
        "thinking": spec.thinking,
        "vision": spec.vision,
        "system_prompt_extension": spec.system_prompt_extension,
        "earlier": list(spec.earlier),
    }
    return json.dumps(task).encode() + b"\n"
