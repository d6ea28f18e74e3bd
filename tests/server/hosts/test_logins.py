"""The extension for logins that no client answers; `tests/browser/test_logins.py` has what it does for pages."""

from cdpbridge.cdp import Connection
from cdpbridge.server.hosts._logins import cancel_unanswered_logins
from cdpbridge.testing import MemoryTransport


async def test_fault_c04_a_browser_that_takes_no_extension_works_without(tmp_path, caplog):
    """E.g. where the machine's policies forbid extensions."""

    def answer(command):
        return {"id": command["id"], "error": {"code": -32000, "message": "Extensions are not allowed"}}

    async with Connection(MemoryTransport(answer)) as connection:
        await cancel_unanswered_logins(connection, tmp_path / "logins")
    assert "Extensions are not allowed" in caplog.text
    assert (tmp_path / "logins" / "manifest.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "logins").stat().st_mode & 0o777 == 0o755
