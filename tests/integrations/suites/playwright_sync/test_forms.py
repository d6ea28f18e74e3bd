import re

from playwright.sync_api import expect


def test_fill_and_send(page, site):
    page.goto(f"{site}/form")
    page.get_by_label("Name").fill("Ada")
    page.get_by_role("button", name="Send").click()
    expect(page).to_have_title("Done")
    assert "name=Ada" in page.url


def test_select(page, site):
    page.goto(f"{site}/form")
    page.get_by_label("Colour").select_option("blue")
    assert page.get_by_label("Colour").input_value() == "blue"


def test_checkbox(page, site):
    page.goto(f"{site}/form")
    page.get_by_label("Terms").check()
    expect(page.get_by_label("Terms")).to_be_checked()


def test_typing_and_keys(page, site):
    page.goto(f"{site}/form")
    page.locator("textarea").press_sequentially("abc")
    page.keyboard.press("Backspace")
    expect(page.locator("textarea")).to_have_value("ab")


def test_upload(page, site, tmp_path):
    file = tmp_path / "note.txt"
    file.write_text("words")
    page.goto(f"{site}/form")
    page.set_input_files("[name=file]", file)
    expect(page).to_have_title("note.txt: words")


def test_links_and_history(page, site):
    page.goto(site)
    page.get_by_text("form").click()
    expect(page).to_have_url(re.compile("/form$"))
    page.go_back()
    expect(page).to_have_title("Home")
