"""What type checkers must refuse at the front doors of renting: wrong names, bare numbers as paid time."""

from __future__ import annotations

import cdpbridge
from cdpbridge import BrowserPool, RentalOptions, Tab, sync
from cdpbridge.integrations.crawlee import RentedBrowserPlugin

cdpbridge.open_browser(timeout=5)  # expect: arg-type
cdpbridge.open_browser(profil="work")  # expect: call-arg
cdpbridge.open_browser(client="local")  # expect: call-arg
cdpbridge.open_browser(stop_timeout="5")  # expect: arg-type
BrowserPool(timeout=5)  # expect: arg-type
BrowserPool(sizes=4)  # expect: call-arg
RentedBrowserPlugin(timeout=5)  # expect: arg-type
sync.open_browser(timeout=5)  # expect: arg-type
sync.open_browser(profil="work")  # expect: call-arg
cdpbridge.cloud(retries=3)  # expect: call-arg
cdpbridge.at("https://rest.test/api/v2", timeout="5")  # expect: arg-type
cdpbridge.local(port=8700)  # expect: call-arg
cdpbridge.local(browser_build="fast")  # expect: arg-type
sync.local(max_browser=3)  # expect: call-arg

options: RentalOptions = {"timeout": 5}  # expect: typeddict-item


async def of_a_tab(tab: Tab) -> None:
    await tab.screenshot(image_format="png")  # expect: call-arg
    await tab.set_input_files("input", 5)  # expect: arg-type
