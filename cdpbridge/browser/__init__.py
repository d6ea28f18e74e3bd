"""`open_browser`: a rented browser and a CDP connection to it under one block, stopped in every way out."""

from __future__ import annotations

from ._browser import Browser
from ._open import Opening, open_browser
from ._response import Request, Response
from ._tab import Tab

__all__ = ["Browser", "Opening", "Request", "Response", "Tab", "open_browser"]
