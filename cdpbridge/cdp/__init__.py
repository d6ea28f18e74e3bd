"""The DevTools protocol, client side: connect to any CDP address, send commands, listen to events."""

from cdpbridge.cdp._connect import Connecting, connect, connect_pipe
from cdpbridge.cdp._connection import Connection
from cdpbridge.cdp._endpoint import Endpoint, resolve
from cdpbridge.cdp._io import pdf_stream, read_stream, trace_stream
from cdpbridge.cdp._reconnect import NotRestored, Reconnected
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
    "NotRestored",
    "Receiver",
    "Reconnected",
    "Stats",
    "Transport",
    "connect",
    "connect_pipe",
    "pdf_stream",
    "read_stream",
    "resolve",
    "trace_stream",
]
