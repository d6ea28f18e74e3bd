import zipfile

import pytest


def test_cookies_are_the_tests_own_1(page, site):
    page.goto(f"{site}/cookie")
    assert page.title() == "None"
    page.reload()
    assert page.title() == "seen=yes"


def test_cookies_are_the_tests_own_2(page, site):
    page.goto(f"{site}/cookie")
    assert page.title() == "None"


@pytest.mark.browser_context_args(locale="de-DE", viewport={"width": 400, "height": 300})
def test_emulation(page, site):
    page.goto(site)
    assert page.evaluate("[navigator.language, innerWidth, innerHeight]") == ["de-DE", 400, 300]


def test_screenshot(page, site, tmp_path):
    page.goto(site)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_tracing(browser, site, tmp_path):
    context = browser.new_context()
    context.tracing.start(screenshots=True, snapshots=True)
    context.new_page().goto(site)
    context.tracing.stop(path=tmp_path / "trace.zip")
    context.close()
    assert any(name.endswith(".trace") for name in zipfile.ZipFile(tmp_path / "trace.zip").namelist())
