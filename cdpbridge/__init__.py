"""Hosted browsers: rent one, drive it over CDP or Playwright, stop it, and get the unused minutes back."""

from cdpbridge._version import __version__

__all__ = ["__version__"]
