"""Playwright's synchronous API on a rented browser, in a program without an event loop."""

import sys

from cdpbridge.playwright import open_browser_sync


def main(url: str) -> None:
    with open_browser_sync() as rented:
        page = rented.playwright.contexts[0].new_page()
        page.goto(url)
        print(page.title())
    print(rented.rental.receipt)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "https://example.com")
