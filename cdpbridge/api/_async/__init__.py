"""The client for an event loop. What stands here is written by hand; `_sync` is generated from it."""
