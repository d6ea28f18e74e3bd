"""pytest plugin: `pytest --cdpbridge=local|cloud|URL` runs a pytest-playwright suite on rented browsers, unchanged.

It also has `cdp_browser` and `cdp_tab`, asynchronous fixtures for tests over CDP. This file is all that a run without the
option loads; what the option brings is in `cdpbridge._pytest`.
"""

from __future__ import annotations

from importlib import import_module

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]

_MARKER = (
    "cdpbridge(profile=None, proxy_country=None): "
    "the rented browser that `cdp_browser` and `cdp_tab` of this test use"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the setting `cdpbridge` that stands for the first of them."""
    group = parser.getgroup("cdpbridge", "cdpbridge: hosted browsers")
    where = "where tests rent their browsers: local (this machine), cloud, or the base URL of a server"
    group.addoption("--cdpbridge", metavar="WHERE", help=where)
    group.addoption(
        "--cdpbridge-profile", metavar="NAME", help="profile that the browsers start from: a name or an id"
    )
    group.addoption(
        "--cdpbridge-proxy-country",
        metavar="CC",
        help="country of their proxy, e.g. de; none for no proxy (default: the server's choice)",
    )
    group.addoption(
        "--cdpbridge-timeout",
        type=int,
        metavar="MINUTES",
        help="when the server stops a browser at the latest, 1 to 240 (default: the server's, 60)",
    )
    group.addoption(
        "--cdpbridge-shared",
        action="store_true",
        help="one browser for all workers of pytest-xdist (default: one each)",
    )
    parser.addini("cdpbridge", f"{where}; the option --cdpbridge comes first", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Bring in what this run needs.

    Raises:
        pytest.UsageError: The options ask for what there is not.
    """
    config.addinivalue_line("markers", _MARKER)
    plugins = config.pluginmanager
    if config.getoption("--cdpbridge") or config.getini("cdpbridge"):
        import_module("cdpbridge._pytest._run").configure(config)
    if plugins.hasplugin("asyncio"):  # pytest-asyncio; a suite without it cannot ask for these fixtures
        plugins.register(import_module("cdpbridge._pytest._cdp_fixtures"), "cdpbridge-cdp-fixtures")
