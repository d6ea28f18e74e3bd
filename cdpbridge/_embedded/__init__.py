"""The server of `local()`, seen from the programs that use it: where its folder is, how it is joined, started and ended.

`server/` is the other end. It reads `_folder.py` (who holds a data folder) and `_hello.py` (the lines of a connection) too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._hello import ORDER_FOLLOWS
    from ._installed import check_installed
    from ._open import EmbeddedServer, open_server

__all__ = ["ORDER_FOLLOWS", "EmbeddedServer", "check_installed", "open_server"]

_HOMES: Final = {
    "ORDER_FOLLOWS": "_hello",
    "EmbeddedServer": "_open",
    "check_installed": "_installed",
    "open_server": "_open",
}
__getattr__ = names_on_use(__name__, _HOMES)
