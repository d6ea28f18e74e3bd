from playwright.sync_api import expect


def test_fulfil(page, site):
    page.route("**/api", lambda route: route.fulfill(json={"word": "mocked"}))
    page.goto(f"{site}/fetch")
    page.get_by_role("button").click()
    expect(page).to_have_title("mocked")


def test_abort(page, site):
    page.route("**/api", lambda route: route.abort())
    page.goto(f"{site}/fetch")
    page.get_by_role("button").click()
    expect(page).to_have_title("failed")


def test_change_a_request(page, site):
    page.route("**/echo", lambda route: route.continue_(headers={**route.request.headers, "x-word": "own"}))
    page.goto(f"{site}/echo")
    expect(page).to_have_title("own")


def test_expect_response(page, site):
    page.goto(f"{site}/fetch")
    with page.expect_response("**/api") as found:
        page.get_by_role("button").click()
    assert found.value.json() == {"word": "real"}


def test_status_and_requests(page, site):
    seen = []
    page.on("request", lambda request: seen.append(request.url))
    assert page.goto(f"{site}/nowhere").status == 404
    assert seen[0] == f"{site}/nowhere"
