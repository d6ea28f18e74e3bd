"""Which binary is found, and what is said when there is none."""

import sys
from pathlib import Path

import pytest

from cdpbridge.chromium import Build, _find, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError


def binary(path, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No Chromium anywhere."""
    monkeypatch.delenv("CDPBRIDGE_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "playwright"))
    places = {kind: (str(tmp_path / "lib" / kind),) for kind in ("full", "shell")}
    monkeypatch.setattr(_find, "_PLACES", places)


@pytest.mark.parametrize("kind", ["full", "shell", None])
def test_nothing_found_says_what_to_do(kind):
    with pytest.raises(BrowserNotFound, match=r"apt-get install chromium.*CDPBRIDGE_CHROMIUM"):
        find(kind)


def test_the_shell_is_the_default_and_full_the_second_choice(tmp_path):
    full = binary(tmp_path / "lib" / "full")
    assert find() == Build(full, "full")
    shell = binary(tmp_path / "lib" / "shell")
    assert find() == Build(shell, "shell")
    assert find("full") == Build(full, "full")


def test_the_newest_of_playwright(tmp_path):
    cache = tmp_path / "playwright"
    binary(cache / "chromium-999" / "chrome-linux" / "chrome")
    newest = binary(cache / "chromium-1200" / "chrome-linux64" / "chrome")
    assert find("full") == Build(newest, "full")
    shell = binary(
        cache / "chromium_headless_shell-1200" / "chrome-headless-shell-linux64" / "chrome-headless-shell"
    )
    assert find() == Build(shell, "shell")


MAC = "Contents/MacOS"
TESTING = f"Google Chrome for Testing.app/{MAC}/Google Chrome for Testing"


@pytest.mark.parametrize(
    ("kind", "environ", "places", "cache", "found"),
    [
        (
            "full",
            {},
            [
                f"/Applications/Google Chrome.app/{MAC}/Google Chrome",
                f"/Users/me/Applications/Google Chrome.app/{MAC}/Google Chrome",
                f"/Applications/Chromium.app/{MAC}/Chromium",
                f"/Users/me/Applications/Chromium.app/{MAC}/Chromium",
                f"/Applications/{TESTING}",
                f"/Users/me/Applications/{TESTING}",
            ],
            "/Users/me/Library/Caches/ms-playwright",
            [
                f"chromium-1200/chrome-mac-arm64/{TESTING}",
                f"chromium-999/chrome-mac/Chromium.app/{MAC}/Chromium",
            ],
        ),
        (
            "shell",
            {"PLAYWRIGHT_BROWSERS_PATH": "~/browsers"},
            [],
            "/Users/me/browsers",
            [
                "chromium_headless_shell-1200/chrome-headless-shell-mac-x64/chrome-headless-shell",
                "chromium_headless_shell-1100/chrome-mac/headless_shell",
            ],
        ),
    ],
)
def test_where_macos_has_it(kind, environ, places, cache, found):
    usual = _find.usual_places(kind, "darwin", Path("/Users/me"), environ)
    assert [str(each) for each in usual.places] == places
    assert str(usual.cache) == cache
    for path in found:
        assert any(Path(path).match(pattern) for pattern in usual.patterns), path


def test_macos_as_it_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / "playwright"
    binary(cache / f"chromium-999/chrome-mac/Chromium.app/{MAC}/Chromium")
    newest = binary(cache / f"chromium-1200/chrome-mac-arm64/{TESTING}")
    assert find("full") == Build(newest, "full")
    chrome = binary(tmp_path / f"Applications/Google Chrome.app/{MAC}/Google Chrome")
    assert find() == Build(chrome, "full")
    assert find(path=chrome) == Build(chrome, "full")
    with pytest.raises(ConfigurationError, match="is the full build"):
        find("shell", chrome)


def test_places_come_before_path(tmp_path):
    on_path = binary(tmp_path / "bin" / "google-chrome")
    assert find("full") == Build(on_path, "full")
    place = binary(tmp_path / "lib" / "full")
    assert find("full") == Build(place, "full")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("chromium", "full"),
        ("google-chrome", "full"),
        ("my-own-build", "full"),
        ("chromium-headless-shell", "shell"),
        ("chrome-headless-shell", "shell"),
        ("headless_shell", "shell"),
    ],
)
def test_the_kind_of_a_named_binary(tmp_path, monkeypatch, name, kind):
    path = binary(tmp_path / name)
    assert find(path=path) == Build(path, kind)
    monkeypatch.setenv("CDPBRIDGE_CHROMIUM", str(path))
    assert find() == Build(path, kind)


def test_a_link_is_of_the_kind_of_what_it_points_to(tmp_path):
    (link := tmp_path / "browser").symlink_to(binary(tmp_path / "headless_shell"))
    assert find(path=link) == Build(link, "shell")


def test_an_unknown_name_is_of_the_kind_that_is_asked_for(tmp_path):
    path = binary(tmp_path / "my-own-build")
    assert find("shell", path) == Build(path, "shell")


def test_a_command_on_the_path(tmp_path, monkeypatch):
    path = binary(tmp_path / "bin" / "chromium")
    monkeypatch.setenv("CDPBRIDGE_CHROMIUM", "chromium")
    assert find() == Build(path, "full")


def test_the_argument_comes_before_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("CDPBRIDGE_CHROMIUM", "/nowhere/chromium")
    path = binary(tmp_path / "chromium")
    assert find(path=path).path == path
    with pytest.raises(BrowserNotFound, match=r"CDPBRIDGE_CHROMIUM: /nowhere/chromium does not exist"):
        find()


@pytest.mark.parametrize(("name", "kind"), [("chromium", "shell"), ("headless_shell", "full")])
def test_contradiction(tmp_path, name, kind):
    with pytest.raises(ConfigurationError, match=rf"{name} is the \w+ build, but {kind} is asked for"):
        find(kind, binary(tmp_path / name))


def test_not_executable(tmp_path):
    with pytest.raises(BrowserNotFound, match="cannot be executed"):
        find(path=binary(tmp_path / "chromium", 0o644))
    with pytest.raises(BrowserNotFound, match="is a folder"):
        find(path=tmp_path)
