from playwright.sync_api import expect


def test_alert(page, site):
    texts = []
    page.on("dialog", lambda dialog: (texts.append(dialog.message), dialog.accept()))
    page.goto(f"{site}/dialogs")
    page.get_by_text("Alert").click()
    expect(page).to_have_title("told")
    assert texts == ["Note"]


def test_confirm(page, site):
    page.once("dialog", lambda dialog: dialog.accept())
    page.goto(f"{site}/dialogs")
    page.get_by_text("Confirm").click()
    expect(page).to_have_title("true")


def test_dialogs_are_dismissed_by_default(page, site):
    page.goto(f"{site}/dialogs")
    page.get_by_text("Confirm").click()
    expect(page).to_have_title("false")


def test_prompt(page, site):
    page.once("dialog", lambda dialog: dialog.accept("Ada"))
    page.goto(f"{site}/dialogs")
    page.get_by_text("Prompt").click()
    expect(page).to_have_title("Ada")
