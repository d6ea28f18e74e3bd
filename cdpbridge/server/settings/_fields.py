"""The fields of the settings. Their descriptions are the documentation: `settings_table()` prints them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ._countries import proxies_of
from ._keys import AdminKeys, ApiKeys
from ._plans import Plan

__all__ = ["ENV_PREFIX", "Fields", "settings_table"]

ENV_PREFIX: Final = "CDPBRIDGE_"


class Fields(BaseSettings):
    """Every setting with its type, default, bounds and meaning. `Settings` checks them together."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8700, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(
        None,
        description="Address under which clients reach the server when a proxy with a name, TLS or a path prefix is in "
        "front, e.g. `https://browsers.example.com/pool`. Without it, addresses in answers repeat the request's own.",
    )
    allowed_hosts: list[str] = Field(
        [],
        description="Names accepted in `Host` besides IP addresses, `localhost` and the name in `public_url`.",
    )
    trusted_proxies: list[str] = Field(
        [],
        description="Addresses or networks of proxies in front, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. "
        "Wrong keys are counted by the client's address, which is the proxy's own for all clients without this.",
    )
    data_dir: Path = Field(
        # When settings are loaded: a program may set the variables of the platform after its imports.
        default_factory=lambda: Path(platformdirs.user_data_dir("cdpbridge")),
        description="Folder of the database, the profiles and the running browsers. One server at a time uses it.",
    )
    runtime_dir: Path | None = Field(
        None,
        description="Folder in which the running browsers have theirs: profiles, downloads. Servers may share it. Default: "
        "`data_dir`; for a server that runs as root, whose browsers have uids of their own and no way into `data_dir`, "
        "`/var/lib/cdpbridge`.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="Address of the database: `postgresql+asyncpg://user:password@host/database` (extra `cluster`), which several "
        "servers may share. Default: SQLite in `data_dir`, for one server.",
    )
    database_connections: int = Field(
        10, ge=2, le=1000, description="Connections that this server opens to PostgreSQL, at most."
    )
    database_timeout_seconds: float = Field(
        10,
        ge=0.1,
        le=600,
        description="How long PostgreSQL may take to give a connection or to do one statement; 503 above. Browsers that run go on.",
    )
    secret_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret from which the keys of all addresses are derived, of browsers, live views and files: the same for all servers of one PostgreSQL, "
        'which need it. At least 32 characters, e.g. of `python -c "import secrets; print(secrets.token_urlsafe(32))"`. Default, with '
        "SQLite: one of its own in `data_dir`.",
    )
    browsers: Literal["here", "workers"] = Field(
        "here",
        description="Where browsers run: on the server's own machine, or on the workers that have registered (`cdpbridge worker`).",
    )
    worker_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret that servers and workers have in common, which they prove to each other and never send. At least 32 "
        'characters. Needed with `browsers = "workers"`.',
    )
    worker_tls_certificate: Path | None = Field(
        None,
        description="Of a worker: PEM file with its certificate and those that lead to its authority. Its port speaks TLS, then. Files that "
        "change are read again.",
    )
    worker_tls_key: Path | None = Field(
        None,
        description="Of a worker: PEM file with the certificate's key, not encrypted. Default: it is in `worker_tls_certificate`.",
    )
    worker_tls_ca: Path | None = Field(
        None,
        description="Of a server: PEM file with the authorities from which its workers have their certificates, or with these themselves; it "
        "takes no worker without TLS, then. Of a worker: authorities of servers at `https://`, besides those of the system.",
    )
    worker_tls_name: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Of a server with `worker_tls_ca`: the name that the certificates of all workers have. Default: each has that of its "
        "`--address`.",
    )
    engine: Literal["none", "ray"] = Field(
        "none",
        description="What starts workers and replaces them: `ray` (extra `ray`), or nothing, when you start `cdpbridge worker` by other "
        "means. Of several servers with `ray`, one at a time does it.",
    )
    ray_address: str | None = Field(
        None,
        description="Where Ray is: `host:port` of its head, `auto` for the one of this machine (both on a node of Ray), or "
        "`ray://host:10001` from anywhere.",
    )
    ray_namespace: str = Field(
        "cdpbridge",
        min_length=1,
        description="Namespace of the workers in Ray: another one for each database whose servers use one Ray.",
    )
    slots_per_worker: int = Field(
        4,
        ge=1,
        le=1000,
        description="Browsers of one worker that the engine starts. It needs as many of the resource `browser` on one node.",
    )
    min_workers: int = Field(
        1, ge=0, le=10_000, description="Workers that the engine keeps when there are no browsers."
    )
    max_workers: int = Field(
        10,
        ge=0,
        le=10_000,
        description="Workers that the engine keeps at most, with those that drain.",
    )
    spare_slots: int = Field(
        1, ge=0, le=100_000, description="Slots that the engine keeps free for the next orders."
    )
    scale_down_seconds: float = Field(
        60,
        ge=0,
        le=86_400,
        description="How long fewer workers must be enough before the engine lets one drain. It ends when its last browser has.",
    )
    register_urls: list[str] = Field(
        [],
        description="Addresses of servers, or of the balancer before them, where workers that the engine starts register: "
        "`http(s)://host[:port]`. Default: `public_url`, else this server's own.",
    )
    storage_url: str | None = Field(
        None,
        description="Object storage for profiles, and for the files and recordings of ended browsers and tasks: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or "
        "`file:///folder`, e.g. of a network file system. Needs the extra `cluster`. Default: folders in `data_dir`. Files "
        "that are there are moved, and profiles go to the storage with their next save.",
    )
    storage_options: dict[str, SecretStr] = Field(
        {},
        description="Options of `storage_url` as obstore names them: `endpoint`, `region`, `access_key_id`, `secret_access_key`, "
        "`service_account`, `account_name`, `account_key` ... What is missing comes from the environment (`AWS_...`, `GOOGLE_...`, "
        "`AZURE_...`) and from the machine's role.",
    )
    storage_presigned: bool = Field(
        False,
        description="Whether a download is redirected to an address that `storage_url` has signed for 15 minutes, which clients must "
        "reach. Otherwise it passes through the server.",
    )
    profile_cache_mb: int = Field(
        10_240,
        ge=0,
        description="MiB of profiles from `storage_url` that are kept in `data_dir` for their next use; the one used last is kept "
        "always.",
    )
    ready_profiles_mb: int = Field(
        1024,
        ge=0,
        description="MiB of copies of profiles that wait in `data_dir` for their next browsers, so that those need not copy them. At "
        "most one for each profile; those made first are removed first, and they take at most a tenth of what the disk has free. It "
        "works where `runtime_dir` is on the same disk. 0 for none.",
    )
    api_keys: ApiKeys = Field(
        {},
        description="API keys: one, several, or a table project -> keys; each project has its own browsers, profiles and "
        "credits. Without any, a key is made at the first start and shown once.",
    )
    admin_keys: AdminKeys = Field(
        [],
        description="Keys of the operator: one, or several. They manage keys, projects and credits (`/admin/v1`, the console's "
        "Account page) and are keys of the project `default` too. More can be made by `cdpbridge keys create --admin`.",
    )
    plan: Plan = Field(
        "paid",
        description="`free`: 15 minutes a browser or session and one profile; `paid`: 240 minutes.",
    )
    plans: dict[str, Plan] = Field(
        {},
        description="Plan of each project of `api_keys` that has another one than `plan`.",
    )
    usd_per_hour: Decimal = Field(Decimal("0.05"), ge=0, description="Price of a browser hour in USD.")
    credits_usd: Decimal | None = Field(
        None,
        ge=0,
        le=10**9,
        description="Credits in USD granted to a project when it is made; without enough of them a browser is refused (402), and "
        "`cdpbridge credits grant` adds more. Default: money is simulated and never runs out, but for projects that were given credits.",
    )
    max_browsers: int = Field(10, ge=1, le=10_000, description="Concurrent browsers of a project; 429 above.")
    max_profiles: int = Field(
        1000, ge=1, le=1_000_000, description="Profiles of a project; 402 above. The plan `free` has one."
    )
    max_uploads_per_browser: int = Field(
        1000, ge=1, le=1_000_000, description="Files uploaded for one browser or session; refused above."
    )
    max_upload_mb_per_browser: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="MiB of files uploaded for one browser or session; refused above.",
    )
    max_files_mb_per_project: int = Field(
        51_200,
        ge=0,
        description="MiB of files kept of a project's browsers, running or not: uploads, downloads, recordings. Above, new browsers "
        "and uploads are refused. 0 for no limit.",
    )
    max_profile_mb: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="MiB of a profile; a larger one is not saved, its former version stays.",
    )
    disk_mb_per_browser: int = Field(
        10_240,
        ge=0,
        description="MiB of disk for one browser: its folder, downloads, uploads and recording. Looked at with each health check; "
        "a browser above is stopped, with `endReason` `disk_limit`. 0 for no limit.",
    )
    memory_mb_per_browser: int = Field(
        8192,
        ge=0,
        description="MiB of memory for one browser: what belongs to one of its processes alone, summed up. Looked at with each health "
        "check, and kept by the kernel where the server can make control groups; a browser above is stopped, with `endReason` "
        "`memory_limit`. 0 for no limit.",
    )
    max_processes_per_browser: int = Field(
        1000,
        ge=0,
        description="Processes of one browser, helpers included. Looked at with each health check, and kept by the kernel, which counts "
        "64 threads for each, where the server can make control groups; a browser above is stopped, with `endReason` "
        "`process_limit`. 0 for no limit.",
    )
    max_clients_per_browser: int = Field(
        100, ge=1, le=100_000, description="WebSockets that clients may have open to one browser; 429 above."
    )
    concurrent_starts: int = Field(
        2,
        ge=1,
        le=1000,
        description="Browsers that start at the same time; others wait for their turn.",
    )
    warm_browsers: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Browsers that run before they are ordered, and wait: an order without a profile, a `browserScreenWidth` and "
        "a `customProxy` that looks into TLS takes one in milliseconds. They are of the build of browsers without a profile, are in "
        "no project's bill and limit, and are ended first when memory is short. Default: 1; in `local()` none is kept, but "
        "`open_browser` without a profile has one started while it starts or joins the server; 0 turns that off.",
    )
    min_free_memory_mb: int = Field(
        256, ge=0, description="MiB of memory to be left; with less, no browser is started (503)."
    )
    min_free_disk_mb: int = Field(
        256, ge=0, description="MiB to be left where `data_dir` is; with less, no browser is started (503)."
    )
    max_load_per_cpu: float = Field(
        50,
        gt=0,
        description="Runnable threads per processor, mean of a minute; above, no browser is started (503).",
    )
    start_timeout_seconds: float = Field(
        30, gt=0, le=600, description="How long one browser may take to start; 503 above."
    )
    queue_timeout_seconds: float = Field(
        60,
        gt=0,
        le=3600,
        description="How long a browser may wait for its turn to start, or for a slot of a worker; 429 with `Retry-After` above. "
        "Projects take turns.",
    )
    stop_timeout_seconds: float = Field(
        5,
        gt=0,
        le=60,
        description="How long a browser may take to close before it is killed.",
    )
    browser_build: Literal["full", "shell"] | None = Field(
        None,
        description="`full` is the whole browser, `shell` the small headless one. Default: what is installed.",
    )
    browser_path: Path | None = Field(
        None, description="Chromium's binary. Default: looked for in the usual places."
    )
    browser_uids: str | None = Field(
        None,
        description="Uids for the browsers of a server that runs as root, `first-last`: each browser has one of its own, and a "
        "gid of the same number. Servers of a machine may share a range. Default: `700000-700999`, in small containers "
        "`60600-61099`.",
    )
    chromium_sandbox: bool = Field(
        True,
        description="Chromium's own sandbox around its renderers. `false` adds `--no-sandbox`: for containers in which the kernel "
        "gives ordinary users no user namespaces.",
    )
    isolation: Literal["auto", "require", "none"] = Field(
        "auto",
        description="Whether each browser lives in a place of its own, with namespaces of Linux and Landlock: it sees its own files "
        "and no others, executes no other program, and reaches the network through the server only. `auto`: where a test at the "
        "start shows that it holds; `require`: the server does not start without; `none`: not.",
    )
    files: list[Path] = Field(
        [],
        description="Files and folders of this machine that isolated browsers may read besides their own, each at its own path. "
        "The server's own folders in them stay hidden.",
    )
    working_dir: Path | None = Field(
        None,
        description="One more folder that isolated browsers may read, unless it holds the user's home: that of the program that "
        "uses them. `local()` sets it.",
    )
    user_fonts_and_certificates: bool = Field(
        False,
        description="Whether browsers with a home of their own find there what the server's user has in his: fonts and their "
        "configuration, and the certificates added for Chromium (`~/.pki/nssdb`). `local()` sets it.",
    )
    browser_args: list[str] = Field([], description="Further command line arguments for Chromium.")
    proxies: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(proxies_of)] = Field(
        {},
        description="Proxy of each country (ISO 3166-1, two letters): `de = "
        '"http://user:password@host:port"`, `socks5://...`, `direct` for none, or `simulate`: directly too, and every answer '
        'says that it is not in that country. Percent-encode special characters. `proxies = "simulate"` simulates the ten '
        "countries of the reference, as `local()` does by itself with those that have no entry.",
    )
    strict_fields: bool = Field(
        False,
        description="Whether a request with fields that the server does not act on is refused (422). Otherwise they are named "
        "in the header `X-Cdpbridge-Ignored-Fields` and in `ignoredFields`. Misspelt fields are refused always.",
    )
    default_proxy_country: str | None = Field(
        None,
        description="Country used when a request leaves `proxyCountryCode` out; `null` in a request always means no proxy.",
    )
    private_network: Literal["allow", "deny"] | None = Field(
        None,
        description="Whether browsers, and proxies that requests name (`customProxy`), may reach private addresses: loopback, "
        "local networks, cloud metadata, and every address of this machine. Default: `deny` with several projects, with a "
        "`host` that is not loopback or a `public_url` that is not; else `allow`. The server's own ports stay closed to browsers "
        "either way.",
    )
    private_allowed: list[str] = Field(
        [],
        description="`host:port` of private services that browsers may reach in spite of `private_network`, e.g. "
        "`localhost:3000`.",
    )
    browser_allowed_hosts: list[str] | None = Field(
        None,
        description="The only hosts that browsers may reach: `example.com`, `*.example.com` for it and every name below, an address, "
        "a network such as `192.0.2.0/24`, or `*`, perhaps with `:port`. Profiles and requests may narrow it (`allowedHosts`). "
        "Default: all.",
    )
    browser_denied_hosts: list[str] = Field(
        [],
        description="Hosts that browsers may not reach, even so; patterns as above. Profiles and requests may add others "
        "(`deniedHosts`).",
    )
    block_lists: list[Path] = Field(
        [],
        description="Files of hosts that browsers do not reach: advertisements and trackers, in the formats of hosts files and of "
        "ad blockers' domain rules. A request turns them off with `blockAds: false`; `blockedRequests` counts.",
    )
    cookie_export_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="How often the cookies of a browser with a profile are exported.",
    )
    health_check_seconds: float = Field(
        5, gt=0, le=3600, description="How often a browser is asked whether it still answers."
    )
    health_timeout_seconds: float = Field(
        10, gt=0, le=600, description="How long it may take to answer before it is killed."
    )
    heartbeat_seconds: float = Field(
        3,
        gt=0,
        le=60,
        description="How often the used time is recorded; what a killed server can charge too little. On PostgreSQL, and with "
        "workers, every 2 seconds or more often.",
    )
    local_grace_seconds: float = Field(
        5,
        ge=0,
        le=86_400,
        description="How long the server that programs with `local()` share stays when the last of them has left, so that the next "
        "one need not wait for a start. `cdpbridge serve` stays until it is stopped.",
    )
    recording_frames_per_second: float = Field(
        5,
        ge=0.1,
        le=30,
        description="Pictures a second of a recording, at most; it has one whenever something changes.",
    )
    recording_max_mb: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="MB of a recording, stills included; it ends there. It is kept as long as the browser's other files.",
    )
    llm_base_url: str | None = Field(
        None,
        description="OpenAI-compatible endpoint for agents, e.g. `https://api.openai.com/v1`. Without it, tasks are refused.",
    )
    llm_api_key: SecretStr | None = Field(None, description="Key for `llm_base_url`.")
    llm_models: dict[str, str] = Field(
        {},
        description="Name in a task's `llm` -> the endpoint's own name for the model. Names of the reference and "
        "of the official SDK that are missing here are passed on as they are; `default` stands for all of them.",
    )
    judge_llm: str | None = Field(
        None,
        description="Model that judges whether a task was achieved, by its name in `llm_models` or the endpoint's own. Best "
        "another one than the agents'. Without it, the agent's own model judges, and the task's record says so.",
    )
    judge_llm_base_url: str | None = Field(
        None, description="OpenAI-compatible endpoint of `judge_llm`. Default: `llm_base_url`."
    )
    judge_llm_api_key: SecretStr | None = Field(
        None,
        description="Key for the judge's endpoint. Default: `llm_api_key` when the endpoint is `llm_base_url`, else none.",
    )
    judge_timeout_seconds: float = Field(
        120, gt=0, le=3600, description="How long a judge may take; without a verdict, `isSuccess` is null."
    )
    sessions_after_task: Literal["keep", "stop"] = Field(
        "keep",
        description="What becomes of a session that was made for a task without `sessionSettings.keepAlive`: it stays open until "
        "its time is over or it is stopped, and is charged as any session, or it is stopped with its task.",
    )
    agent_python: Path | None = Field(
        None,
        description="Python of the environment that browser-use is installed in. Default: the server's own.",
    )
    op_service_account_token: SecretStr | None = Field(
        None,
        description="1Password service account for tasks with `opVaultId`. Without it, those are refused.",
    )

    op_vaults: dict[str, list[str]] | None = Field(
        None,
        description="1Password vaults that tasks of a project may name: project -> vault ids. Needed with several projects; "
        "without it, the one project may name every vault of the service account.",
    )


def settings_table() -> str:
    """Return every setting as a Markdown table: name, environment variable, default, meaning."""
    rows = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for name, field in Fields.model_fields.items():
        default = field.default
        if name == "data_dir":
            shown = "the platform's data folder"
        elif default is None or default in ([], {}):
            shown = "none"
        else:
            shown = f"`{default}`"
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | `{ENV_PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(rows)
