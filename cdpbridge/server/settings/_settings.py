"""`Settings`: the fields, read from their sources and checked together, and what follows from them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from cdpbridge._environment import check_variables
from cdpbridge.api._models import PROXY_COUNTRY_CODES
from cdpbridge.billing import Tariff
from cdpbridge.chromium import STATE_FOLDER, parse_uid_range, uses_browser_uids
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.limits import Peers
from cdpbridge.server.objects import check_storage_url
from cdpbridge.server.proxy import HostLists, Rules

from ._countries import checked_proxies, country_code
from ._fields import ENV_PREFIX, Fields
from ._keys import check_keys
from ._plans import Plan

__all__ = ["Settings"]

# Simulated money only has to look like money: a balance that falls, and is filled up.
_SIMULATED_CREDITS: Final = Decimal(100)
# Of `database_url`, with the module that each needs.
_DRIVERS: Final = {"sqlite+aiosqlite": "aiosqlite", "postgresql+asyncpg": "asyncpg"}


class Settings(Fields):
    """Settings of the server: arguments, else environment (`CDPBRIDGE_...`), else the TOML file, else the default.

    The file is given as `config=`, or by `CDPBRIDGE_CONFIG`. Use `Settings.load`, whose errors name field and source.
    """

    _toml: ClassVar[Path | None] = None
    _simulating: ClassVar[bool] = False
    _beside: ClassVar[str] = ""
    _environment: ClassVar[Mapping[str, str]] = os.environ

    @classmethod
    def load(
        cls,
        config: Path | None = None,
        *,
        simulate_countries: bool = False,
        beside: str = "",
        environment: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Settings:
        """Read settings from arguments, environment and file.

        Args:
            config: The TOML file; default: `CDPBRIDGE_CONFIG`, else none.
            simulate_countries: Simulate each country of the reference that `proxies` does not have.
            beside: Why this server, of one program, works in a folder of its own and keeps no profiles; empty if it does.
            environment: Variables; default: those of this process.
            arguments: Fields given by the caller. None counts as not given.

        Raises:
            ConfigurationError: Naming field, source, and what would be right.
        """
        variables = os.environ if environment is None else environment
        check_variables(variables)
        given = variables.get(f"{ENV_PREFIX}CONFIG")
        path = config or (Path(given) if given else None)
        if path is not None and not path.is_file():
            raise ConfigurationError(
                f"configuration file {path} does not exist; create it, or correct "
                + ("the path" if config else f"{ENV_PREFIX}CONFIG")
            )
        arguments = {name: value for name, value in arguments.items() if value is not None}
        made: type[Settings] = type(
            "Settings",
            (cls,),
            {
                "_toml": path,
                "_simulating": simulate_countries,
                "_beside": beside,
                "_environment": variables,
                "__module__": cls.__module__,
            },
        )
        try:
            return made(**arguments)
        except ValidationError as error:
            raise ConfigurationError(_explain(error, arguments, variables, path)) from None
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
        if isinstance(env_settings, EnvSettingsSource) and cls._environment is not os.environ:
            env_settings.env_vars = {name.lower(): value for name, value in cls._environment.items()}
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
        check_keys([key for keys in value.values() for key in keys])
        return value

    @field_validator("admin_keys")
    @classmethod
    def _check_admin_keys(cls, value: list[SecretStr], info: ValidationInfo) -> list[SecretStr]:
        check_keys([*value, *(key for keys in info.data.get("api_keys", {}).values() for key in keys)])
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        from sqlalchemy.engine import make_url  # noqa: PLC0415  # a tenth of a second that most starts have no use for here
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415  # as above

        try:
            driver = make_url(value.get_secret_value()).drivername
        except ArgumentError as error:
            raise ValueError("write driver://user:password@host/database") from error
        if driver not in _DRIVERS:
            raise ValueError("use sqlite+aiosqlite:///... or postgresql+asyncpg://...")
        if find_spec(_DRIVERS[driver]) is None:
            raise ValueError("its driver is not installed; pip install 'cdpbridge[cluster]'")
        return value

    @field_validator("storage_url")
    @classmethod
    def _check_storage_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_storage_url(value)
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

    @field_validator("browser_allowed_hosts", "browser_denied_hosts")
    @classmethod
    def _check_browser_hosts(cls, value: list[str] | None) -> list[str] | None:
        try:
            HostLists(denied_hosts=value or ())
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("denied_hosts: ")) from error
        return value

    @field_validator("data_dir", "runtime_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().resolve()

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: list[Path]) -> list[Path]:
        return [path.expanduser().absolute() for path in value]  # with its links: browsers see them, too

    # With their links: certificates are renewed by changing these.
    @field_validator("working_dir", "worker_tls_certificate", "worker_tls_key", "worker_tls_ca")
    @classmethod
    def _as_written(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

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
    def _check_secret_key(self) -> Self:
        if self.database_is_shared and self.secret_key is None:
            raise ValueError("PostgreSQL may have several servers, which need one `secret_key`; set it")
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.browsers == "workers" and self.worker_secret is None:
            raise ValueError("browsers on workers need the secret that these have, too; set `worker_secret`")
        if self.worker_tls_key is not None and self.worker_tls_certificate is None:
            raise ValueError("a key needs its certificate; set `worker_tls_certificate`")
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "none":
            return self
        if self.browsers != "workers":
            raise ValueError("an engine starts workers, and browsers run here; set `browsers` to `workers`")
        if self.ray_address is None:
            raise ValueError("engine `ray` needs the address of Ray; set `ray_address`")
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"min_workers is {self.min_workers} and max_workers {self.max_workers}; that cannot be"
            )
        if self.host in {"0.0.0.0", "::"} and not self.register_urls and self.public_url is None:  # noqa: S104
            raise ValueError(
                "workers need an address of this server, which `host` is not; set `register_urls`"
            )
        return self

    @field_validator("register_urls")
    @classmethod
    def _check_register_urls(cls, value: list[str]) -> list[str]:
        for each in value:
            parts = urlsplit(each)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
                raise ValueError("write http(s)://host[:port]")
        return [each.rstrip("/") for each in value]

    @model_validator(mode="after")
    def _check_default_proxy(self) -> Self:
        country = self.default_proxy_country
        if country is not None and country not in self.proxies:
            raise ValueError(
                f"default_proxy_country is {country!r}, but `proxies` has no such entry; add it there"
            )
        return self

    @model_validator(mode="after")
    def _check_storage(self) -> Self:
        if self.storage_options and self.storage_url is None:
            raise ValueError("storage_options needs the address they are for; set `storage_url`")
        if self.storage_presigned and (self.storage_url or "file:").startswith("file:"):
            raise ValueError("storage_presigned needs a `storage_url` that can sign: s3://, gs:// or az://")
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

    def contradictions(self, other: Settings, *, apart_from: Collection[str] = ()) -> list[str]:
        """Return, in words, the settings that were given here and are others there: name, own value, other value.

        Args:
            apart_from: Names of settings that may differ.
        """
        found = []
        for name in sorted(self.model_fields_set - set(apart_from)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"{name} is {_shown(mine)} here and {_shown(theirs)} there")
        return found

    def vault_refusal(self, project: str, vault: str, *, projects: int | None = None) -> str | None:
        """Return why tasks of a project may not name a 1Password vault; None when they may.

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
    def embedded(self) -> bool:
        """True for a server of `local()`, whose configured keys are of its own programs."""
        return self._simulating

    @property
    def money_simulated(self) -> bool:
        """True when no one pays: no credits are set, or the server is of one program on this machine, for itself."""
        return self.credits_usd is None or self._simulating

    @property
    def ready_browsers(self) -> int:
        """The number of browsers that are kept ready for orders."""
        if self.warm_browsers is not None:
            return self.warm_browsers
        return 0 if self._simulating else 1

    @property
    def starts_ahead(self) -> bool:
        """True if a program that orders at once has its browser started before its order comes; `warm_browsers = 0` turns that off."""
        return self._simulating and self.warm_browsers != 0

    @property
    def no_profiles(self) -> str:
        """Why this server keeps no profiles; empty if it does."""
        return self._beside

    @property
    def first_credits(self) -> Decimal:
        """USD that a new project gets."""
        return _SIMULATED_CREDITS if self.credits_usd is None else self.credits_usd

    @property
    def top_up_usd(self) -> Decimal | None:
        """USD that a project gets when its credits are used up; None where it gets no more."""
        return _SIMULATED_CREDITS if self.credits_usd is None else None

    @property
    def tariff(self) -> Tariff:
        """The price rule for new browsers."""
        return Tariff(self.usd_per_hour)

    def plan_of(self, project: str) -> Plan:
        """Return the plan of a project, by its name."""
        return self.plans.get(project, self.plan)

    def _denies_private(self, projects: int) -> bool:
        if self.private_network is not None:
            return self.private_network == "deny"
        published = urlsplit(self.public_url).hostname if self.public_url else None
        hosts = [self.host, *([published] if published else [])]
        return projects > 1 or not all(_is_loopback(host) for host in hosts)

    def network_rules(self, projects: int) -> Rules:
        """Return what browsers may reach when so many projects have keys."""
        return Rules(
            private=not self._denies_private(projects),
            private_allowed=self.private_allowed,
            allowed_hosts=self.browser_allowed_hosts,
            denied_hosts=self.browser_denied_hosts,
        )

    @property
    def start_timeout(self) -> timedelta:
        return timedelta(seconds=self.start_timeout_seconds)

    @property
    def stop_timeout(self) -> timedelta:
        return timedelta(seconds=self.stop_timeout_seconds)

    @property
    def runtime_folder(self) -> Path:
        """The folder of this server's running browsers, which no other server uses."""
        if self.runtime_dir is None and not uses_browser_uids():
            return self.data_dir
        # One for each `data_dir`: what a killed server left there belongs to its next start.
        name = f"run-{sha256(os.fsencode(self.data_dir)).hexdigest()[:12]}"
        return (self.runtime_dir or STATE_FOLDER) / name

    @property
    def database_timeout(self) -> timedelta:
        return timedelta(seconds=self.database_timeout_seconds)

    @property
    def known_countries(self) -> list[str]:
        """Countries a request may name: the reference's, and those of the table."""
        return sorted({*PROXY_COUNTRY_CODES, *self.proxies})

    @property
    def database_is_shared(self) -> bool:
        """True if other servers may use the database, too."""
        return self.database().startswith("postgresql+")

    def database(self) -> str:
        """Address of the database, with its password: not for logs."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.data_dir / 'cdpbridge.sqlite3'}"


def _shown(value: object) -> str:
    """Return a value without its secrets: of a secret text, only whether there is one."""
    if isinstance(value, SecretStr):
        return "a secret (not shown)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_shown(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, str | bool) or value is None:
        return repr(value)
    return str(value)


def _is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _explain(
    error: ValidationError, arguments: Mapping[str, Any], environment: Mapping[str, str], path: Path | None
) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        variable = f"{ENV_PREFIX}{name.upper()}"
        if name in arguments:
            source = "argument"
        elif any(key.upper() == variable for key in environment):
            source = f"environment variable {variable}"
        else:
            source = f"file {path}" if path else "default"
        if item["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            lines.append(f"{where} ({source}): there is no such setting; remove it, or use one of: {known}")
        else:
            lines.append(f"{where} ({source}): {item['msg'].removeprefix('Value error, ')}; correct it there")
    return "bad configuration: " + "\n".join(lines)
