"""Public fakes: a clock that stands still, a transport without a connection, a browser that follows a script.

`ScriptedBrowser` is a real WebSocket server; that is why this package, besides `cdp/_websocket.py` and the server's gateway,
imports `websockets`.
"""

from cdpbridge.testing._browser import SILENT, Refusal, ScriptedBrowser, ScriptedClient
from cdpbridge.testing._clock import ManualClock
from cdpbridge.testing._memory import MemoryTransport

__all__ = ["SILENT", "ManualClock", "MemoryTransport", "Refusal", "ScriptedBrowser", "ScriptedClient"]
