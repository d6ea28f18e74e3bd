"""The version, in one place; the build and the CLI read it from here."""

__version__ = "0.1.0"
