"""Warnings that peers cause do not fill the log."""

import logging

from cdpbridge.server._log import Repeats


def test_warnings_that_peers_cause_do_not_fill_the_log(caplog):
    now = 0.0
    logger = logging.getLogger("tests.peers")
    logger.addFilter(Repeats(60, clock=lambda: now))
    for _ in range(1000):
        logger.warning("Invalid HTTP request received.")
    logger.warning("Unsupported upgrade request.")
    logger.error("an error")
    logger.error("an error")
    now = 61.0
    logger.warning("Invalid HTTP request received.")
    assert caplog.messages == [
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "an error",
        "an error",
        "Invalid HTTP request received. (999 more since the last line of this)",
    ]
