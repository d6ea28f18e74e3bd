"""Playwright's synchronous API on a rented browser, in a program without an event loop."""

from _site import address

from cdpbridge import playwright, sync


def main(url: str) -> None:
    with sync.open_browser() as browser, playwright.connect_sync(browser) as connected:
        page = connected.contexts[0].new_page()
        page.goto(url)
        print(page.title())
    print(browser.receipt)


if __name__ == "__main__":
    with address() as url:
        main(url)
