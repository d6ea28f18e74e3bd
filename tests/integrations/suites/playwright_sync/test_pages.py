from playwright.sync_api import expect


def test_popup(page, site):
    page.goto(site)
    with page.expect_popup() as popup:
        page.get_by_text("popup").click()
    expect(popup.value).to_have_title("Popup")
    assert popup.value.opener() is not None or popup.value.url.endswith("/popup.html")


def test_window_open_and_close(page, context, site):
    page.goto(site)
    with context.expect_page() as opened:
        page.evaluate("void window.open('/popup.html')")
    other = opened.value
    expect(other.locator("p").first).to_have_text("Hello from the popup")
    other.close()
    assert context.pages == [page]


def test_two_pages(context, site):
    first, second = context.new_page(), context.new_page()
    first.goto(site)
    second.goto(f"{site}/form")
    assert [first.title(), second.title()] == ["Home", "Form"]


def test_frame_locator(page, site):
    page.goto(f"{site}/frames")
    page.frame_locator("iframe >> nth=1").get_by_role("button").click()
    assert page.evaluate("clicked") == 1


def test_frame_by_name(page, site):
    page.goto(f"{site}/frames")
    frame = page.frame("one")
    frame.fill("[name=name]", "inside")
    assert frame.input_value("[name=name]") == "inside"


def test_frames_are_listed(page, site):
    page.goto(f"{site}/frames")
    assert len(page.frames) == 3


def test_expose_function(page, site):
    page.expose_function("add", lambda a, b: a + b)
    page.goto(site)
    assert page.evaluate("add(2, 3)") == 5


def test_console(page, site):
    page.goto(site)
    with page.expect_console_message() as message:
        page.evaluate("console.log('said')")
    assert message.value.text == "said"
