"""Sign in on one rental, and be signed in on the next one with the same profile.

On a site of this machine; or give the address of a page with a login form whose fields are called `user` and `password`.
"""

import asyncio
import os

from _site import address

import cdpbridge
from cdpbridge.protocol import Page

PROFILE = "example-login"

SIGN_IN = """(user, password) => {
    document.querySelector('[name=user]').value = user;
    document.querySelector('[name=password]').value = password;
    document.querySelector('form').submit();
}"""


async def main(url: str) -> None:
    user, password = os.environ.get("LOGIN_USER", "ada"), os.environ.get("LOGIN_PASSWORD", "lovelace")
    async with cdpbridge.local() as client:
        async with cdpbridge.open_browser(client, profile=PROFILE) as browser:
            tab = await browser.new_tab(url)
            print("first rental:", await tab.title())
            async with tab.session.expect(Page.LoadEventFired):
                await tab.evaluate(f"({SIGN_IN})({user!r}, {password!r})")
            print("signed in:", await tab.title())

        async with cdpbridge.open_browser(client, profile=PROFILE) as browser:
            tab = await browser.new_tab(url)
            print("second rental:", await tab.title())


if __name__ == "__main__":
    with address(local=True) as url:
        asyncio.run(main(url))
