"""Settings from arguments, environment and file; errors that name field and source."""

from decimal import Decimal
from pathlib import Path

import pytest

from cdpbridge.api import PROXY_COUNTRY_CODES
from cdpbridge.errors import ConfigurationError
from cdpbridge.server import Settings, settings_table
from cdpbridge.server.settings import _settings, country_code, max_timeout_minutes
from tests.cases import cases


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    import os

    for name in list(os.environ):
        if name.upper().startswith("CDPBRIDGE_"):
            monkeypatch.delenv(name)


def secrets(keys):
    return {project: [key.get_secret_value() for key in each] for project, each in keys.items()}


def test_defaults():
    settings = Settings.load()
    assert settings.usd_per_hour == Decimal("0.05")
    assert max_timeout_minutes(settings.plan_of("default")) == 240
    assert settings.api_keys == {}
    assert settings.database() == f"sqlite+aiosqlite:///{settings.data_dir / 'cdpbridge.sqlite3'}"
    assert settings.host == "127.0.0.1"
    assert settings.ready_browsers == 1


def test_the_data_folder_is_the_platforms_when_settings_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings.load().data_dir == tmp_path / "cdpbridge"


def test_argument_before_environment_before_file(tmp_path, monkeypatch):
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nplan = "free"\nhost = "0.0.0.0"\n[proxies]\nGB = "direct"\n')
    monkeypatch.setenv("CDPBRIDGE_PORT", "2")
    monkeypatch.setenv("CDPBRIDGE_HOST", "::1")
    settings = Settings.load(file, port=3)
    assert (settings.port, settings.host, settings.plan) == (3, "::1", "free")
    assert max_timeout_minutes(settings.plan_of("default")) == 15
    assert list(settings.proxies) == ["uk"]
    monkeypatch.setenv("CDPBRIDGE_CONFIG", str(file))
    assert Settings.load().plan == "free"
    assert Settings.load(port=None).port == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("first-key", {"default": ["first-key"]}),
        ("first-key, second-key", {"default": ["first-key", "second-key"]}),
        (["first-key"], {"default": ["first-key"]}),
        ('{"a": "first-key", "b": ["second-key"]}', {"a": ["first-key"], "b": ["second-key"]}),
        ({"a": "first-key"}, {"a": ["first-key"]}),
        ("", {}),
    ],
)
def test_api_keys_in_every_form(given, expected, monkeypatch):
    assert secrets(Settings.load(api_keys=given).api_keys) == expected
    if isinstance(given, str):
        monkeypatch.setenv("CDPBRIDGE_API_KEYS", given)
        assert secrets(Settings.load().api_keys) == expected


def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(_settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cdpbridge\[cluster\]'"):
        Settings.load(database_url="postgresql+asyncpg://host/database")


def test_servers_of_one_postgresql_need_one_secret():
    url = "postgresql+asyncpg://host/database"
    with pytest.raises(ConfigurationError, match="set it"):
        Settings.load(database_url=url)
    with pytest.raises(ConfigurationError, match="secret_key"):
        Settings.load(database_url=url, secret_key="too short")
    assert "aaa" not in repr(Settings.load(database_url=url, secret_key="a" * 40))


def test_secrets_are_not_shown():
    settings = Settings.load(
        api_keys="first-key",
        proxies={"de": "http://user:hidden-word@proxy.example:1"},
        database_url="sqlite+aiosqlite:///hidden-word",
    )
    assert "first-key" not in repr(settings)
    assert "hidden-word" not in repr(settings)


@cases(
    ("given", "words"),
    [
        ({"port": "many"}, ["port (argument)", "integer"]),
        ({"plan": "gold"}, ["plan (argument)", "'free' or 'paid'"]),
        ({"colour": "red"}, ["colour (argument)", "no such setting", "max_browsers"]),
        (
            {"proxies": {"de": "ftp://user:hidden-word@x"}},
            ["proxies (argument)", "de:", "http:// or socks5://"],
        ),
        ({"default_proxy_country": "de"}, ["default_proxy_country", "`proxies`"]),
        ({"api_keys": "short"}, ["api_keys (argument)", "8 characters"]),
        ({"api_keys": {"a": "same-key-1", "b": "same-key-1"}}, ["api_keys", "twice"]),
        ({"api_keys": 7}, ["api_keys", "a list of keys"]),
        ({"public_url": "example.com"}, ["public_url (argument)", "http(s)://host"]),
        ({"database_url": "nonsense:hidden-word"}, ["database_url", "driver://"]),
        ({"database_url": "sqlite:///x"}, ["database_url", "use sqlite+aiosqlite"]),
        ({"database_url": "postgresql://u:hidden-word@h/d"}, ["database_url", "or postgresql+asyncpg"]),
        ({"database_url": "mysql+aiomysql://u:hidden-word@h/d"}, ["database_url", "use sqlite+aiosqlite"]),
        ({"usd_per_hour": "-1"}, ["usd_per_hour"]),
        ({"max_browsers": 0}, ["max_browsers"]),
    ],
)
def test_bad_values_name_field_source_and_remedy(given, words):
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(**given)
    for word in words:
        assert word in str(caught.value)
    assert "hidden-word" not in str(caught.value)


def test_bad_values_name_the_environment_and_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CDPBRIDGE_PORT", "x")
    with pytest.raises(ConfigurationError, match=r"port \(environment variable CDPBRIDGE_PORT\)"):
        Settings.load()
    monkeypatch.delenv("CDPBRIDGE_PORT")
    file = tmp_path / "server.toml"
    file.write_text("port = 'x'\nportt = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(file)
    assert f"port (file {file})" in str(caught.value)
    assert f"portt (file {file}): there is no such setting" in str(caught.value)
    file.write_text("port = [")
    with pytest.raises(ConfigurationError, match=r"server\.toml"):
        Settings.load(file)
    monkeypatch.setenv("CDPBRIDGE_PROXIES", "{no json")
    with pytest.raises(ConfigurationError, match="proxies"):
        Settings.load()


def test_a_missing_file(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="correct the path"):
        Settings.load(tmp_path / "none.toml")
    monkeypatch.setenv("CDPBRIDGE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match="correct CDPBRIDGE_CONFIG"):
        Settings.load()


def test_data_dir_is_absolute():
    assert Settings.load(data_dir=Path("here")).data_dir == Path.cwd() / "here"


def test_the_table_shows_every_setting():
    table = settings_table()
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"
        assert f"| `{name}` | `CDPBRIDGE_{name.upper()}` |" in table


@pytest.mark.parametrize(("code", "expected"), [("GB", "uk"), (" De ", "de"), ("uk", "uk")])
def test_country_code(code, expected):
    assert country_code(code) == expected


def test_plans_are_of_projects_that_exist():
    settings = Settings.load(
        api_keys={"a": "key-of-project-a", "b": "key-of-project-b"}, plan="free", plans={"b": "paid"}
    )
    assert (settings.plan_of("a"), settings.plan_of("b"), settings.plan_of("default")) == (
        "free",
        "paid",
        "free",
    )
    with pytest.raises(ConfigurationError, match=r"plans names projects .*: c;"):
        Settings.load(api_keys={"a": "key-of-project-a"}, plans={"c": "free"})


@cases(
    ("given", "denied"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "10.0.0.1"}, True),
        ({"host": "browsers.example"}, True),
        ({"public_url": "https://browsers.example.com/pool"}, True),
        ({"public_url": "http://127.0.0.1:9/pool"}, False),
        ({"api_keys": {"one": "key-of-one", "two": "key-of-two"}}, True),
        ({"api_keys": "key-of-one,key-of-one-more"}, False),
        ({"api_keys": {"one": "key-of-one", "two": "key-of-two"}, "private_network": "allow"}, False),
        ({"private_network": "deny"}, True),
    ],
)
def test_fault_d06_private_addresses_are_denied_where_strangers_may_come(given, denied):
    loaded = Settings.load(**given)
    assert loaded.network_rules(projects=len(loaded.api_keys)).private is not denied


def test_private_services_that_are_opened_have_a_port():
    assert Settings.load(private_allowed=["localhost:3000"]).network_rules(1).private_allowed == (
        "localhost:3000",
    )
    with pytest.raises(ConfigurationError, match=r"private_allowed .*is not host:port"):
        Settings.load(private_allowed=["localhost"])


def test_vaults_of_projects_that_there_are():
    loaded = Settings.load(api_keys={"one": "key-of-one"}, op_vaults={"one": ["a"], "default": []})
    assert loaded.vault_refusal("one", "a") is None
    assert loaded.vault_refusal("default", "a") is not None
    with pytest.raises(ConfigurationError, match="op_vaults names projects that are not in `api_keys`: two"):
        Settings.load(api_keys={"one": "key-of-one"}, op_vaults={"two": ["a"]})


@pytest.mark.parametrize(
    ("given", "table"),
    [
        ("simulate", dict.fromkeys(PROXY_COUNTRY_CODES, "simulate")),
        (" Simulate ", dict.fromkeys(PROXY_COUNTRY_CODES, "simulate")),
        ({"gb": "simulate", "BR": "direct"}, {"uk": "simulate", "br": "direct"}),
        ('{"de": "direct"}', {"de": "direct"}),
    ],
)
def test_proxies_of_countries(monkeypatch, given, table):
    def plain(settings):
        return {country: value.get_secret_value() for country, value in settings.proxies.items()}

    assert plain(Settings.load(proxies=given)) == table
    if isinstance(given, str):
        monkeypatch.setenv("CDPBRIDGE_PROXIES", given)
        assert plain(Settings.load()) == table


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("http://user:hunter2@proxy.example.com", "write a table"),
        ({"xx": "direct"}, "'xx' is no country"),
        ({"germany": "direct"}, "'germany' is no country"),
        ({"de": "simulated"}, "de: the upstream"),
    ],
)
def test_proxies_that_are_none(given, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        Settings.load(proxies=given)
    assert "hunter2" not in str(caught.value)


def test_an_embedded_server_simulates_what_it_has_no_upstream_for():
    loaded = Settings.load(proxies={"de": "direct"}, default_proxy_country="fr", simulate_countries=True)
    assert loaded.proxies["de"].get_secret_value() == "direct"
    assert {loaded.proxies[country].get_secret_value() for country in ("us", "uk", "fr")} == {"simulate"}
    assert set(loaded.known_countries) == set(PROXY_COUNTRY_CODES)
    assert loaded.ready_browsers == 0  # of one program, which seldom needs the next one at once
    assert Settings.load(simulate_countries=True, warm_browsers=2).ready_browsers == 2
    with pytest.raises(ConfigurationError, match="default_proxy_country"):
        Settings.load(default_proxy_country="fr")


ENGINE = {
    "engine": "ray",
    "ray_address": "auto",
    "browsers": "workers",
    "worker_secret": "x" * 32,
}


def test_an_engine_and_where_its_workers_register():
    settings = Settings.load(**ENGINE)
    assert (settings.min_workers, settings.max_workers, settings.spare_slots) == (1, 10, 1)
    assert Settings.load(**ENGINE, register_urls=["https://a.example/"]).register_urls == [
        "https://a.example"
    ]
    assert Settings.load(**ENGINE, host="0.0.0.0", public_url="https://a.example").engine == "ray"


async def test_a_server_whose_engine_is_not_installed_does_not_start(tmp_path, monkeypatch):
    from importlib import util

    from cdpbridge.server.engine import open_engine

    real = util.find_spec
    monkeypatch.setattr(
        "cdpbridge.server.engine._link.find_spec", lambda name: None if name == "ray" else real(name)
    )
    with pytest.raises(ConfigurationError, match=r"pip install 'cdpbridge\[ray\]'"):
        async with open_engine(Settings.load(**ENGINE), None, own_ports=[1]):
            pass


def test_what_an_engine_needs_is_named():
    for changes, words in (
        ({"ray_address": None}, "set `ray_address`"),
        ({"browsers": "here"}, "set `browsers` to `workers`"),
        ({"min_workers": 5, "max_workers": 4}, "min_workers is 5 and max_workers 4"),
        ({"host": "0.0.0.0"}, "set `register_urls`"),
        ({"register_urls": ["a.example"]}, "register_urls"),
        ({"register_urls": ["http://a.example/?b=c"]}, "register_urls"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            Settings.load(**ENGINE | changes)
        assert words in str(caught.value), changes
