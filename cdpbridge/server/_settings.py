"""What can be configured. The descriptions of the fields are the documentation: `settings_table()` prints them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cdpbridge.api._models import PROXY_COUNTRY_CODES
from cdpbridge.billing import Tariff
from cdpbridge.chromium import STATE_FOLDER, parse_uid_range, uses_browser_uids
from cdpbridge.errors import ConfigurationError
from cdpbridge.server._countries import DIRECT, SIMULATE, checked_proxies, country_code, proxies_of
from cdpbridge.server.limits import Peers
from cdpbridge.server.proxy import Rules

__all__ = ["DIRECT", "SIMULATE", "Plan", "Settings", "country_code", "max_timeout_minutes", "settings_table"]

_ENV_PREFIX: Final = "CDPBRIDGE_"
Plan = Literal["free", "paid"]
# REST reference, "Create Browser Session", section Session Limits; for agent sessions its introduction says the same.
_PLAN_MINUTES: Final[Mapping[Plan, int]] = {"free": 15, "paid": 240}


def max_timeout_minutes(plan: Plan) -> int:
    """How long a browser or agent session may run on a plan."""
    return _PLAN_MINUTES[plan]


def _keys(value: object) -> object:
    """`"key"`, `"key,key"`, a list of keys, or a table project -> key or keys, as the last of these."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        import json  # noqa: PLC0415  # only for a table in an environment variable

        value = json.loads(value)
    if isinstance(value, Mapping):
        return {str(project): _key_list(keys) for project, keys in value.items()}
    return {"default": keys} if (keys := _key_list(value)) else {}


def _key_list(value: object) -> list[object]:
    if isinstance(value, SecretStr):
        return [value]
    if isinstance(value, str):
        return [key.strip() for key in value.split(",") if key.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("give a key, a list of keys, or a table of projects with their keys")


ApiKeys = Annotated[dict[str, list[SecretStr]], NoDecode, BeforeValidator(_keys)]
AdminKeys = Annotated[list[SecretStr], NoDecode, BeforeValidator(_key_list)]


class Settings(BaseSettings):
    """Settings of the server: arguments, else environment (`CDPBRIDGE_...`), else the TOML file, else the default.

    The file is given as `config=`, or by `CDPBRIDGE_CONFIG`. Use `Settings.load`, whose errors name field and source.
    """

    model_config = SettingsConfigDict(
        env_prefix=_ENV_PREFIX, extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )
    _toml: ClassVar[Path | None] = None
    _simulating: ClassVar[bool] = False

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
        Path(platformdirs.user_data_dir("cdpbridge")),
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
        description="SQLAlchemy address of the database with an async driver, e.g. `postgresql+asyncpg://...`. Default: "
        "SQLite in `data_dir`. One server at a time uses it.",
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
    credits_usd: Decimal = Field(
        Decimal(100),
        ge=0,
        le=10**9,
        description="Credits in USD granted to a project when it is made.",
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
    max_clients_per_browser: int = Field(
        100, ge=1, le=100_000, description="WebSockets that clients may have open to one browser; 429 above."
    )
    concurrent_starts: int = Field(
        2,
        ge=1,
        le=1000,
        description="Browsers that start at the same time; others wait for their turn.",
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
        60, gt=0, le=3600, description="How long a browser may wait for its turn to start; 503 above."
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
        "with a proxy or an agent either way.",
    )
    private_allowed: list[str] = Field(
        [],
        description="`host:port` of private services that browsers may reach in spite of `private_network`, e.g. "
        "`localhost:3000`.",
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
        description="How often the used time is recorded; what a killed server can charge too little.",
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

    @classmethod
    def load(
        cls, config: Path | None = None, *, simulate_countries: bool = False, **arguments: Any
    ) -> Settings:
        """Settings from arguments, environment and file.

        Args:
            config: The TOML file; default: `CDPBRIDGE_CONFIG`, else none.
            simulate_countries: Simulate each country of the reference that `proxies` does not have.
            arguments: Fields given by the caller. None counts as not given.

        Raises:
            ConfigurationError: Naming field, source, and what would be right.
        """
        given = os.environ.get(f"{_ENV_PREFIX}CONFIG")
        path = config or (Path(given) if given else None)
        if path is not None and not path.is_file():
            raise ConfigurationError(
                f"configuration file {path} does not exist; create it, or correct "
                + ("the path" if config else f"{_ENV_PREFIX}CONFIG")
            )
        arguments = {name: value for name, value in arguments.items() if value is not None}
        made: type[Settings] = type(
            "Settings",
            (cls,),
            {"_toml": path, "_simulating": simulate_countries, "__module__": cls.__module__},
        )
        try:
            return made(**arguments)
        except ValidationError as error:
            raise ConfigurationError(_explain(error, arguments, path)) from None
        except ValueError as error:  # of the TOML reader, and of the reader of the environment
            raise ConfigurationError(f"configuration{f' file {path}' if path else ''}: {error}") from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if cls._toml is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, cls._toml)

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("write http(s)://host[:port][/prefix]")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, value: list[str]) -> list[str]:
        try:
            Peers(value)
        except ValueError as error:
            raise ValueError(f"{error}; write addresses or networks, e.g. 10.0.0.0/8") from error
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, value: dict[str, list[SecretStr]]) -> dict[str, list[SecretStr]]:
        _check_keys([key for keys in value.values() for key in keys])
        return value

    @field_validator("admin_keys")
    @classmethod
    def _check_admin_keys(cls, value: list[SecretStr], info: ValidationInfo) -> list[SecretStr]:
        _check_keys([*value, *(key for keys in info.data.get("api_keys", {}).values() for key in keys)])
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            dialect = make_url(value.get_secret_value()).get_dialect()
            dialect.import_dbapi()
        except ArgumentError as error:
            raise ValueError("write driver://user:password@host/database") from error
        except ImportError as error:
            raise ValueError(f"its driver is not installed; pip install {error.name}") from error
        if not dialect.is_async:
            raise ValueError("use an async driver, e.g. sqlite+aiosqlite:///... or postgresql+asyncpg://...")
        return value

    @field_validator("proxies")
    @classmethod
    def _check_proxies(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return checked_proxies(value, simulating=cls._simulating)

    @field_validator("default_proxy_country")
    @classmethod
    def _check_default_country(cls, value: str | None) -> str | None:
        return None if value is None else country_code(value)

    @field_validator("private_allowed")
    @classmethod
    def _check_private_allowed(cls, value: list[str]) -> list[str]:
        try:
            Rules(private_allowed=value)
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("private_allowed: ")) from error
        return value

    @field_validator("data_dir", "runtime_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().resolve()

    @field_validator("browser_uids")
    @classmethod
    def _check_browser_uids(cls, value: str | None) -> str | None:
        if value is not None:
            parse_uid_range(value)
        return value

    @field_validator("browser_args")
    @classmethod
    def _check_browser_args(cls, value: list[str]) -> list[str]:
        if "--no-sandbox" in value:
            raise ValueError("`--no-sandbox` is not taken here; write chromium_sandbox = false")
        return value

    @model_validator(mode="after")
    def _check_default_proxy(self) -> Self:
        country = self.default_proxy_country
        if country is not None and country not in self.proxies:
            raise ValueError(
                f"default_proxy_country is {country!r}, but `proxies` has no such entry; add it there"
            )
        return self

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge_llm_base_url is not None and self.judge_llm is None:
            raise ValueError("judge_llm_base_url needs the name of the model there; set `judge_llm`")
        return self

    @model_validator(mode="after")
    def _check_plans(self) -> Self:
        unknown = sorted(set(self.plans) - {"default", *self.api_keys})
        if unknown:
            raise ValueError(
                f"plans names projects that are not in `api_keys`: {', '.join(unknown)}; add them there"
            )
        return self

    @model_validator(mode="after")
    def _check_vaults(self) -> Self:
        unknown = sorted(set(self.op_vaults or ()) - {"default", *self.api_keys})
        if unknown:
            raise ValueError(
                f"op_vaults names projects that are not in `api_keys`: {', '.join(unknown)}; add them there"
            )
        return self

    def vault_refusal(self, project: str, vault: str, *, projects: int | None = None) -> str | None:
        """Why tasks of a project may not name a 1Password vault; None when they may.

        Args:
            project: Its name.
            vault: Id of the vault.
            projects: How many have keys; default: those of the configuration.
        """
        if self.op_vaults is None:
            if (len(self.api_keys) if projects is None else projects) > 1:
                return "this server has several projects and no vaults for them; set `op_vaults`"
            return None
        return None if vault in self.op_vaults.get(project, ()) else "there is no such vault"

    @property
    def served_names(self) -> list[str]:
        """Names that `Host` may have, besides IP addresses and `localhost`."""
        name = urlsplit(self.public_url).hostname if self.public_url is not None else None
        return [*self.allowed_hosts, *([name] if name else [])]

    @property
    def tariff(self) -> Tariff:
        """The price rule for new browsers."""
        return Tariff(self.usd_per_hour)

    def plan_of(self, project: str) -> Plan:
        """The plan of a project, by its name."""
        return self.plans.get(project, self.plan)

    @property
    def private_network_denied(self) -> bool:
        """True if browsers may not reach private addresses, going by the projects of the configuration."""
        return self._denies_private(len(self.api_keys))

    def _denies_private(self, projects: int) -> bool:
        if self.private_network is not None:
            return self.private_network == "deny"
        published = urlsplit(self.public_url).hostname if self.public_url else None
        hosts = [self.host, *([published] if published else [])]
        return projects > 1 or not all(_is_loopback(host) for host in hosts)

    @property
    def network_rules(self) -> Rules:
        """What browsers may reach, going by the projects of the configuration."""
        return self.network_rules_of(len(self.api_keys))

    def network_rules_of(self, projects: int) -> Rules:
        """What browsers may reach when so many projects have keys."""
        return Rules(private=not self._denies_private(projects), private_allowed=self.private_allowed)

    @property
    def start_timeout(self) -> timedelta:
        return timedelta(seconds=self.start_timeout_seconds)

    @property
    def stop_timeout(self) -> timedelta:
        return timedelta(seconds=self.stop_timeout_seconds)

    @property
    def runtime_folder(self) -> Path:
        """Where running browsers of this server, and of no other, have their folders."""
        if self.runtime_dir is None and not uses_browser_uids():
            return self.data_dir
        # One for each `data_dir`: what a killed server left there belongs to its next start.
        name = f"run-{sha256(os.fsencode(self.data_dir)).hexdigest()[:12]}"
        return (self.runtime_dir or STATE_FOLDER) / name

    @property
    def known_countries(self) -> list[str]:
        """Countries a request may name: the reference's, and those of the table."""
        return sorted({*PROXY_COUNTRY_CODES, *self.proxies})

    def database(self) -> str:
        """Address of the database, with its password: not for logs."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.data_dir / 'cdpbridge.sqlite3'}"


def _is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_keys(keys: list[SecretStr]) -> None:
    texts = [key.get_secret_value() for key in keys]
    if any(len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key for key in texts):
        raise ValueError("a key has at least 8 characters, printable ASCII without spaces")
    if len(set(texts)) != len(texts):
        raise ValueError("a key is given twice; each belongs to one project, or is the operator's")


def _explain(error: ValidationError, arguments: Mapping[str, Any], path: Path | None) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        variable = f"{_ENV_PREFIX}{name.upper()}"
        if name in arguments:
            source = "argument"
        elif any(key.upper() == variable for key in os.environ):
            source = f"environment variable {variable}"
        else:
            source = f"file {path}" if path else "default"
        if item["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            lines.append(f"{where} ({source}): there is no such setting; remove it, or use one of: {known}")
        else:
            lines.append(f"{where} ({source}): {item['msg'].removeprefix('Value error, ')}; correct it there")
    return "bad configuration: " + "\n".join(lines)


def settings_table() -> str:
    """Every setting as a Markdown table: name, environment variable, default, meaning."""
    rows = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "data_dir":
            shown = "the platform's data folder"
        elif default is None or default in ([], {}):
            shown = "none"
        else:
            shown = f"`{default}`"
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | `{_ENV_PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(rows)
