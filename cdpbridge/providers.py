"""Where browsers run: `cloud()`, `local()`, `at(base_url)`. All return an `AsyncClient`; one in place of another moves the browsers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from cdpbridge._concurrency import in_thread, to_the_end
from cdpbridge.api import AsyncClient
from cdpbridge.api._place import Place, find_place
from cdpbridge.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

    from cdpbridge.api import Client

__all__ = [
    "ClientOptions",
    "LocalClient",
    "LocalSettings",
    "at",
    "cloud",
    "given_settings",
    "local",
    "of_blocking",
    "provider",
]


class ClientOptions(TypedDict, total=False):
    """Options of `AsyncClient`, which describes them."""

    timeout: float | timedelta
    max_retries: int
    http_client: httpx.AsyncClient
    idempotent_creates: bool


class LocalSettings(TypedDict, total=False):
    """Settings of the embedded server; None is the same as leaving one out. `docs/reference/settings.md` has the table.

    Its address and keys (`host`, `port`, `public_url`, `api_keys`) are not here: `local()` chooses them. Nor are workers and what starts them
    (`browsers`, `worker_secret`, `engine`, ...): they are for `cdpbridge serve`.
    """

    allowed_hosts: Sequence[str] | None
    trusted_proxies: Sequence[str] | None
    runtime_dir: Path | str | None
    database_url: str | None
    database_connections: int | None
    database_timeout_seconds: float | None
    secret_key: str | None
    storage_url: str | None
    storage_options: Mapping[str, str] | None
    storage_presigned: bool | None
    profile_cache_mb: int | None
    ready_profiles_mb: int | None
    admin_keys: Sequence[str] | None
    plan: Literal["free", "paid"] | None
    plans: Mapping[str, Literal["free", "paid"]] | None
    usd_per_hour: Decimal | float | str | None
    credits_usd: Decimal | float | str | None
    max_browsers: int | None
    max_profiles: int | None
    max_uploads_per_browser: int | None
    max_upload_mb_per_browser: int | None
    max_files_mb_per_project: int | None
    max_profile_mb: int | None
    disk_mb_per_browser: int | None
    memory_mb_per_browser: int | None
    max_processes_per_browser: int | None
    max_clients_per_browser: int | None
    concurrent_starts: int | None
    warm_browsers: int | None
    min_free_memory_mb: int | None
    min_free_disk_mb: int | None
    max_load_per_cpu: float | None
    start_timeout_seconds: float | None
    queue_timeout_seconds: float | None
    stop_timeout_seconds: float | None
    browser_build: Literal["full", "shell"] | None
    browser_path: Path | str | None
    browser_uids: str | None
    chromium_sandbox: bool | None
    isolation: Literal["auto", "require", "none"] | None
    files: Sequence[Path | str] | None
    working_dir: Path | str | None
    user_fonts_and_certificates: bool | None
    browser_args: Sequence[str] | None
    proxies: Mapping[str, str] | str | None
    strict_fields: bool | None
    default_proxy_country: str | None
    private_network: Literal["allow", "deny"] | None
    browser_allowed_hosts: Sequence[str] | None
    browser_denied_hosts: Sequence[str] | None
    private_allowed: Sequence[str] | None
    block_lists: Sequence[Path | str] | None
    cookie_export_seconds: float | None
    health_check_seconds: float | None
    health_timeout_seconds: float | None
    heartbeat_seconds: float | None
    local_grace_seconds: float | None
    recording_frames_per_second: float | None
    recording_max_mb: int | None
    llm_base_url: str | None
    llm_api_key: str | None
    llm_models: Mapping[str, str] | None
    judge_llm: str | None
    judge_llm_base_url: str | None
    judge_llm_api_key: str | None
    judge_timeout_seconds: float | None
    sessions_after_task: Literal["keep", "stop"] | None
    agent_python: Path | str | None
    op_service_account_token: str | None
    op_vaults: Mapping[str, Sequence[str]] | None


def cloud(api_key: str | None = None, **options: Unpack[ClientOptions]) -> AsyncClient:
    """Return a client of the Browser Use Cloud.

    Args:
        api_key: Default: `BROWSER_USE_API_KEY`, unless the environment names another server, whose key that is then.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key for the cloud.
    """
    place = find_place(os.environ, "cloud", api_key)
    return AsyncClient(place.api_key, place.base_url, **options)


def at(base_url: str, api_key: str | None = None, **options: Unpack[ClientOptions]) -> AsyncClient:
    """Return a client of a server that has the same API, e.g. one started by `cdpbridge serve`.

    Args:
        base_url: E.g. `https://browsers.example.com/api/v2`.
        api_key: Of this server. Default: `BROWSER_USE_API_KEY`, unless the environment names another server, or the cloud,
            whose key that is then.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key for this server, or the address is malformed.
    """
    return AsyncClient(api_key, base_url, **options)


def local(
    *,
    data_dir: Path | str | None = None,
    config: Path | str | None = None,
    private: bool = False,
    **settings: Unpack[LocalSettings],
) -> LocalClient:
    """Return a client of an embedded server on this machine, which runs as long as a client of it is open.

    Needs the extra `local` and Chromium. Programs of one user with one `data_dir` share its server: the first one starts it, the
    others join it when they open their client, and it ends some seconds after the last (`local_grace_seconds`). They share
    profiles, the limit of browsers and the ledger; what one rents, the others neither see nor stop. The browsers of a program that
    is killed end with it; those of the others go on, also when it had started the server.

    A setting that differs from the running server's is refused when the client is opened. Only `proxies`,
    `default_proxy_country`, `files` and the working directory are those of each program.

    On Linux its browsers are isolated, where the kernel lets them be. Of this machine's files they read the program's working
    directory, `files=[...]`, and the user's fonts; they reach its network, so `localhost:3000` is there.

    Args:
        data_dir: Folder of profiles and records. Default: the platform's data folder, so profiles last.
        config: TOML file with settings.
        private: Start a server for this client alone. It needs a `data_dir` that no server uses; without one it keeps no profiles,
            and says so when one is asked for.
        settings: Any setting of the server, e.g. `proxies={"de": "http://user:password@host:8080"}`; they come before the
            environment's and the file's.
    """
    return LocalClient({"data_dir": data_dir, "config": config, "private": private or None, **settings})


class LocalClient(AsyncClient):
    """The client of an embedded server: opening it joins or starts the server, closing it leaves or ends it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._server_settings = given_settings(settings)
        super().__init__()

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """Return the embedded server, whatever the environment says."""
        return find_place({}, "local", api_key)

    def _settings(self) -> Mapping[str, Any]:
        return self._server_settings


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not left out."""
    return {name: value for name, value in settings.items() if value is not None}


class _SharedServerClient(AsyncClient):
    """Uses the embedded server of a blocking client, which it keeps open meanwhile."""

    def __init__(self, owner: Client, options: ClientOptions) -> None:
        self._owner = owner
        super().__init__(**options)

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        return find_place({}, "local", api_key)

    @property
    def server_pid(self) -> int | None:
        """As of the blocking client."""
        return self._owner.server_pid

    async def _prepare(self, stack: AsyncExitStack) -> None:
        await to_the_end(self._enter(stack))

    async def _enter(self, stack: AsyncExitStack) -> None:
        block = self._owner.share()
        await in_thread(copy_context().run, block.__enter__)
        stack.push_async_callback(in_thread, block.__exit__, None, None, None)
        address = self._owner.address()
        self._base_url, self._api_key = address["base_url"], address["api_key"]


def of_blocking(client: Client) -> AsyncClient:
    """Return an `AsyncClient` of the server of a blocking client, also of an embedded one, with the options of that client.

    Its requests go through the `http_client` that the blocking one was given, if any.
    """
    given = client.options()
    options = ClientOptions(
        timeout=given["timeout"],
        max_retries=given["max_retries"],
        idempotent_creates=given["idempotent_creates"],
    )
    if (blocking := given["http_client"]) is not None:
        from cdpbridge.api._blocking_transport import asynchronous  # noqa: PLC0415  # it loads httpx

        options["http_client"] = asynchronous(blocking)
    if client.is_local:
        return _SharedServerClient(client, options)
    return AsyncClient(**client.address(), **options)


def provider(where: AsyncClient | str | None) -> AsyncClient:
    """Return the client that a caller's word, or the environment, stands for: see `cdpbridge.api._place.find_place` for the rule.

    Raises:
        ConfigurationError: The word means nothing, a key is missing, or settings contradict each other.
    """
    if isinstance(where, AsyncClient):
        return where
    if where is not None and not isinstance(where, str):
        raise ConfigurationError(
            f"browsers are rented through an AsyncClient, e.g. cloud(), local() or at(...), a word, or a base URL, not {where!r}"
        )
    place = find_place(os.environ, where, otherwise_local=True)
    return local() if place.is_local else AsyncClient(place.api_key, place.base_url)
