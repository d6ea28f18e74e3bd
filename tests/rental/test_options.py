"""`RentalOptions`: one list of what can be rented, at every front door."""

import inspect
import typing
from datetime import timedelta

import pytest

import cdpbridge
from cdpbridge import RentalOptions, sync
from cdpbridge.browser import Opening
from cdpbridge.errors import ConfigurationError
from cdpbridge.providers import ClientOptions, LocalSettings
from cdpbridge.rental._options import CheckedOptions, check
from tests.browser.test_browser import rest, scripted  # noqa: F401  # fixtures
from tests.cases import cases

CLIENT = {"provider", "client", "budget", "budgets"}


def test_the_checked_options_are_the_given_ones():
    fields = set(CheckedOptions.__dataclass_fields__)
    assert fields - CLIENT == set(RentalOptions.__annotations__) - CLIENT
    assert not RentalOptions.__required_keys__


@cases("name", sorted(RentalOptions.__annotations__))
def test_every_option_is_described(name):
    assert f"        {name}: " in cdpbridge.open_browser.__doc__


@pytest.mark.parametrize(
    "opener",
    [cdpbridge.open_browser, cdpbridge.BrowserPool, sync.open_browser],
    ids=lambda each: each.__name__,
)
def test_a_front_door_refuses_what_there_is_not(rest, opener):  # noqa: F811
    with pytest.raises(TypeError, match="no option 'proxy_contry'; did you mean 'proxy_country'"):
        opener(rest.client, proxy_contry="de")
    assert rest.calls == []


@pytest.mark.parametrize(
    "maker",
    [cdpbridge.cloud, cdpbridge.at, sync.cloud, sync.at],
    ids=lambda each: each.__module__ + each.__name__,
)
def test_options_of_a_client(maker):
    """Typed, and the client itself refuses what it does not know."""
    with pytest.raises(TypeError, match="retries"):
        maker("https://rest.test/api/v2", "key-of-tests", retries=3) if maker.__name__ == "at" else maker(
            "key-of-tests", retries=3
        )


@pytest.mark.parametrize(
    ("options", "client"), [(ClientOptions, cdpbridge.AsyncClient), (sync.ClientOptions, cdpbridge.Client)]
)
def test_the_options_of_clients_are_their_parameters(options, client):
    keywords = {
        each.name
        for each in inspect.signature(client).parameters.values()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(options.__annotations__) == keywords


def test_the_settings_of_local_are_those_of_the_server():
    """A new setting of the server: add it to `cdpbridge.providers.LocalSettings`."""
    from cdpbridge.server import Settings

    chosen = {"host", "port", "public_url", "api_keys"}  # by `local()`
    of_a_cluster = {
        *("worker_tls_ca", "worker_tls_certificate", "worker_tls_key", "worker_tls_name"),
        *("browsers", "worker_secret", "engine", "ray_address", "ray_namespace", "register_urls"),
        *("min_workers", "max_workers", "slots_per_worker", "spare_slots", "scale_down_seconds"),
    }
    expected = set(Settings.model_fields) - chosen - of_a_cluster
    assert set(LocalSettings.__annotations__) | {"data_dir"} == expected
    hints = typing.get_type_hints(LocalSettings)
    assert all(type(None) in typing.get_args(hint) for hint in hints.values())


# --- one opening, one browser -----------------------------------------------------------------------------------------


async def test_an_opening_rents_once(rest):  # noqa: F811
    """Awaited twice, it rented twice, and the first browser was not stopped by any block."""
    opening = cdpbridge.open_browser(rest.client, journal="off")
    assert repr(opening) == "<Opening not used yet>"
    browser = await opening
    with pytest.raises(RuntimeError, match="opened already"):
        await opening
    with pytest.raises(RuntimeError, match="opened already"):
        await opening.__aenter__()
    await browser.stop()
    assert (rest.count("POST", "/browsers"), rest.stops) == (1, 1)


async def test_an_opening_that_was_entered_cannot_be_awaited(rest):  # noqa: F811
    opening = cdpbridge.open_browser(rest.client, journal="off")
    async with opening:
        with pytest.raises(RuntimeError, match="opened already"):
            await opening
    assert (rest.count("POST", "/browsers"), rest.stops) == (1, 1)


async def test_an_opening_that_failed_is_used(rest):  # noqa: F811
    """Its caller does not know what a failed create has brought; a second one has to be asked for."""
    opening = Opening(check(rest.client, {"journal": "off", "profile": " "}))
    with pytest.raises(ConfigurationError, match="profile is an empty text"):
        await opening
    with pytest.raises(RuntimeError, match="opened already"):
        await opening


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 5}, r"must be a timedelta, not 5: use timedelta\(minutes=5\)"),
        ({"timeout": 1.5}, "must be a timedelta"),
        ({"timeout": "5"}, "must be a timedelta"),
        ({"timeout": timedelta(seconds=150)}, r"whole minutes.*use timedelta\(minutes=3\)"),
        ({"connect_timeout": "5"}, r"connect_timeout must be seconds \(a number\) or a timedelta"),
        ({"stop_timeout": 0}, "stop_timeout must be positive"),
        ({"slot_timeout": float("nan")}, "slot_timeout must be a finite number of seconds"),
        ({"expiring_before": None}, "expiring_before must be seconds"),
    ],
)
async def test_fault_e06_a_duration_of_the_wrong_form_gets_the_right_one(rest, options, words):  # noqa: F811
    with pytest.raises(ConfigurationError, match=words):
        await cdpbridge.open_browser(rest.client, **options)
    assert rest.calls == []


async def test_fault_e06_waiting_times_are_taken_as_numbers(rest):  # noqa: F811
    options = check(
        rest.client, {"connect_timeout": 5, "stop_timeout": 2.5, "slot_timeout": 0, "expiring_before": 1}
    )
    assert (options.connect_timeout, options.stop_timeout) == (timedelta(seconds=5), timedelta(seconds=2.5))


@pytest.mark.parametrize("budget", [5, [5], "5.00"])
async def test_fault_e06_a_budget_is_a_budget(rest, budget):  # noqa: F811
    with pytest.raises(ConfigurationError, match=r"must be a Budget, e.g. Budget\(usd="):
        cdpbridge.open_browser(rest.client, budget=budget)
    assert rest.calls == []


@pytest.mark.parametrize(("given", "reaps"), [("1", True), ("Yes", True), ("off", False), ("", False)])
def test_reap_by_environment(rest, monkeypatch, given, reaps):  # noqa: F811
    monkeypatch.setenv("CDPBRIDGE_REAP", given)
    assert check(rest.client, {}).reap == reaps


def test_fault_e11_a_typo_is_neither_yes_nor_no(rest, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CDPBRIDGE_REAP", "offf")
    with pytest.raises(ConfigurationError, match="CDPBRIDGE_REAP must be 1 or 0, not 'offf'"):
        check(rest.client, {})
