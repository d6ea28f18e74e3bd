"""`profiles`, `account` and `doctor` against the real server."""

import json

import pytest

from .test_cli import cdpbridge

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the command line does not see the build")]


def test_profiles(server):
    made = cdpbridge(server, "profiles", "create", "shop").stdout.strip()
    assert made in cdpbridge(server, "profiles", "list").stdout
    assert "renamed" in cdpbridge(server, "profiles", "rename", made, "renamed").stdout
    shown = cdpbridge(server, "profiles", "get", made).stdout
    assert "renamed" in shown
    assert "last used never" in shown
    found = json.loads(cdpbridge(server, "profiles", "list", "--json").stdout)
    assert made in [each["id"] for each in found]
    cdpbridge(server, "profiles", "delete", made)
    assert "Profile not found" in cdpbridge(server, "profiles", "get", made, status=1).stderr


def test_account(server):
    assert "10 at once" in cdpbridge(server, "account").stdout
    assert json.loads(cdpbridge(server, "account", "--json").stdout)["rateLimit"] == 10
