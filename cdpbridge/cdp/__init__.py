"""The DevTools protocol, client side: connect to any CDP address, send commands, listen to events."""

from cdpbridge.cdp._connection import Connecting, Connection, connect, connect_pipe
from cdpbridge.cdp._endpoint import Endpoint, resolve
from cdpbridge.cdp._routing import Stats
from cdpbridge.cdp._session import CDPSession
from cdpbridge.cdp._stream import EventStream, Expectation
from cdpbridge.cdp._transport import Closed, Receiver, Transport

__all__ = [
    "CDPSession",
    "Closed",
    "Connecting",
    "Connection",
    "Endpoint",
    "EventStream",
    "Expectation",
    "Receiver",
    "Stats",
    "Transport",
    "connect",
    "connect_pipe",
    "resolve",
]
