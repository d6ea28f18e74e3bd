"""The operations on the account and on profiles."""

from tests.cases import cases

from .conftest import UNKNOWN


def test_account(api):
    """Lines 92-156: the account with balances, plan and limits."""
    account = api.call("GET", "/billing/account", status=200)
    assert account["totalCreditsBalanceUsd"] == account["additionalCreditsBalanceUsd"]
    assert account["monthlyCreditsBalanceUsd"] == 0
    assert account["planInfo"]["planName"] == "paid"
    assert account["rateLimit"] == 100


def test_list_profiles(api):
    """Lines 1853-1947: profiles in pages."""
    for number in range(3):
        api.call("POST", "/profiles", {"name": f"page {number}"}, status=201)
    params = {"pageSize": 2, "pageNumber": 1}
    page = api.call("GET", "/profiles", status=200, params=params)
    assert (len(page["items"]), page["pageNumber"], page["pageSize"]) == (2, 1, 2)
    assert page["totalItems"] >= 3
    assert page["items"][0]["name"] == "page 2"
    api.refused("GET", "/profiles", None, "pageSize", params={"pageSize": 101})
    api.refused("GET", "/profiles", None, "pageNumber", params={"pageNumber": 0})


@cases("body", [None, {}, {"name": None}, {"name": "work"}])
def test_create_profile(api, body):
    """Lines 1950-2041: a profile with or without a name."""
    profile = api.call("POST", "/profiles", body, status=201)
    assert profile["name"] == (body or {}).get("name")
    assert profile["cookieDomains"] is None


def test_free_plan_has_one_profile(api):
    """Lines 1950-2041: another profile needs a subscription."""
    small = api.small_project("one profile", plan="free")
    small.call("POST", "/profiles", {}, status=201)
    small.call("POST", "/profiles", {}, status=402)


def test_bad_profiles(api):
    """Lines 1950-2041: a name is a text."""
    api.refused("POST", "/profiles", {"name": 1}, "name")
    api.refused("POST", "/profiles", {"name": "x" * 101}, "name")


def test_get_profile(api):
    """Lines 2044-2119: one profile."""
    made = api.call("POST", "/profiles", {"name": "one"}, status=201)
    assert api.call("GET", "/profiles/{profile_id}", status=200, profile_id=made["id"]) == made
    api.call("GET", "/profiles/{profile_id}", status=404, profile_id=UNKNOWN)
    api.call("GET", "/profiles/{profile_id}", status=422, profile_id="nonsense")


def test_delete_profile(api):
    """Lines 2122-2167: a profile is deleted; there is no 404."""
    made = api.call("POST", "/profiles", {}, status=201)
    api.call("DELETE", "/profiles/{profile_id}", status=204, profile_id=made["id"])
    api.call("GET", "/profiles/{profile_id}", status=404, profile_id=made["id"])
    api.call("DELETE", "/profiles/{profile_id}", status=204, profile_id=made["id"])
    api.call("DELETE", "/profiles/{profile_id}", status=422, profile_id="nonsense")


def test_update_profile(api):
    """Lines 2170-2258: a profile gets another name, or none."""
    made = api.call("POST", "/profiles", {"name": "old"}, status=201)
    for name in ("new", None):
        changed = api.call(
            "PATCH", "/profiles/{profile_id}", {"name": name}, status=200, profile_id=made["id"]
        )
        assert changed["name"] == name
    api.call("PATCH", "/profiles/{profile_id}", {"name": "x"}, status=404, profile_id=UNKNOWN)
    api.refused("PATCH", "/profiles/{profile_id}", {"name": 1}, "name", profile_id=made["id"])
