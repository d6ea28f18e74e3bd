"""The REST API over Chromium on this machine."""
