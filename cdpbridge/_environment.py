"""Names of environment variables: one with a typo is refused, since it would silently mean nothing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["PREFIX", "SERVER_SETTINGS", "check_variables"]

_BRIDGE: Final = "CDPBRIDGE"
PREFIX: Final = f"{_BRIDGE}_"

SERVER_SETTINGS: Final = frozenset(
    [
        "admin_keys",
        "agent_python",
        "allowed_hosts",
        "api_keys",
        "block_lists",
        "browser_allowed_hosts",
        "browser_args",
        "browser_build",
        "browser_denied_hosts",
        "browser_path",
        "browser_uids",
        "browsers",
        "chromium_sandbox",
        "concurrent_starts",
        "cookie_export_seconds",
        "credits_usd",
        "data_dir",
        "database_connections",
        "database_timeout_seconds",
        "database_url",
        "default_proxy_country",
        "disk_mb_per_browser",
        "engine",
        "files",
        "health_check_seconds",
        "health_timeout_seconds",
        "heartbeat_seconds",
        "host",
        "isolation",
        "judge_llm",
        "judge_llm_api_key",
        "judge_llm_base_url",
        "judge_timeout_seconds",
        "llm_api_key",
        "llm_base_url",
        "llm_models",
        "local_grace_seconds",
        "max_browsers",
        "max_clients_per_browser",
        "max_files_mb_per_project",
        "max_load_per_cpu",
        "max_processes_per_browser",
        "max_profile_mb",
        "max_profiles",
        "max_upload_mb_per_browser",
        "max_uploads_per_browser",
        "max_workers",
        "memory_mb_per_browser",
        "min_free_disk_mb",
        "min_free_memory_mb",
        "min_workers",
        "op_service_account_token",
        "op_vaults",
        "plan",
        "plans",
        "port",
        "private_allowed",
        "private_network",
        "profile_cache_mb",
        "proxies",
        "public_url",
        "queue_timeout_seconds",
        "ray_address",
        "ray_namespace",
        "ready_profiles_mb",
        "recording_frames_per_second",
        "recording_max_mb",
        "register_urls",
        "runtime_dir",
        "scale_down_seconds",
        "secret_key",
        "sessions_after_task",
        "slots_per_worker",
        "spare_slots",
        "start_timeout_seconds",
        "stop_timeout_seconds",
        "storage_options",
        "storage_presigned",
        "storage_url",
        "strict_fields",
        "trusted_proxies",
        "usd_per_hour",
        "user_fonts_and_certificates",
        "warm_browsers",
        "worker_secret",
        "worker_tls_ca",
        "worker_tls_certificate",
        "worker_tls_key",
        "worker_tls_name",
        "working_dir",
    ]
)
"""Settings of the server; each is a variable too. A test compares them with `server.Settings`."""

_OTHERS: Final = frozenset(
    [
        "admin_key",
        "admin_server",
        "api_key",
        "base_url",
        "browser_minutes",
        "budget_browsers",
        "budget_minutes",
        "budget_usd",
        "chromium",
        "config",
        "journal",
        "log",
        "package",
        "provider",
        "reap",
        "trace",
    ]
)
"""What clients, commands and scripts read."""

# A letter more, less, or another one. Variables that resemble none are left alone: orchestrators set some of their own
# (`CDPBRIDGE_SERVICE_HOST` for a service of that name).
_SIMILAR: Final = 0.82


def check_variables(names: Iterable[str]) -> None:
    """Refuse environment variables that are one of ours with a typo.

    Args:
        names: Of the variables that are set.

    Raises:
        ConfigurationError: Naming the variable and the one that it resembles.
    """
    known = {name.upper() for name in SERVER_SETTINGS | _OTHERS}
    for name in sorted(names):
        if not name.startswith(_BRIDGE):
            continue
        word = name.removeprefix(_BRIDGE)
        if word.startswith("_") and word[1:] in known:
            continue
        if close := get_close_matches(word.lstrip("_"), known, n=1, cutoff=_SIMILAR):
            raise ConfigurationError(
                f"the environment variable {name} means nothing; did you mean {PREFIX}{close[0]}? Rename or unset it"
            )
